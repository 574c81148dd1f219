//! A value of the configuration once it is understood, and how each type of `grid_types::policy` is held in one.

use grid_types::ids::NodeName;
use grid_types::policy::{
    AtEnd, AutoMode, EngineKind, Files, Mode, ProcessKind, Role, RuleAction, SharingPolicy, TcpPolicy,
};
use grid_types::units::{Bytes, MilliCpu, Millis};

/// An understood value. What it is called in the file (seconds, GB) is the schema's business.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(f64),
    Size(Bytes),
    Cpu(MilliCpu),
    Span(Millis),
    Texts(Vec<String>),
    /// The keys of a mapping whose values are kept to themselves: they may be secrets.
    Names(Vec<String>),
}

/// A type that goes into a [`Value`] and comes back.
pub(super) trait Held: Sized {
    fn put(&self) -> Option<Value>;
    fn take(value: &Value) -> Option<Self>;
}

macro_rules! held {
    ($($type:ty, $variant:ident;)*) => {$(
        impl Held for $type {
            fn put(&self) -> Option<Value> {
                Some(Value::$variant(self.clone()))
            }
            fn take(value: &Value) -> Option<Self> {
                if let Value::$variant(v) = value { Some(v.clone()) } else { None }
            }
        }
    )*};
}
held!(String, Text; bool, Flag; f64, Number; Bytes, Size; MilliCpu, Cpu; Millis, Span; Vec<String>, Texts;);

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Held for $type {
            fn put(&self) -> Option<Value> {
                Some(Value::Number(f64::from(*self)))
            }
            fn take(value: &Value) -> Option<Self> {
                // The schema has checked the range; a cast saturates in any case.
                if let Value::Number(n) = value { Some(*n as $type) } else { None }
            }
        }
    )*};
}
whole!(u16, u32);

macro_rules! words {
    ($($type:ty { $($word:literal = $variant:ident),* })*) => {$(
        impl Held for $type {
            fn put(&self) -> Option<Value> {
                Some(Value::Text(match self { $(Self::$variant => $word),* }.to_owned()))
            }
            fn take(value: &Value) -> Option<Self> {
                match value {
                    $(Value::Text(t) if t == $word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}
words! {
    Role { "head" = Head, "worker" = Worker }
    Mode { "offload_only" = OffloadOnly, "share_and_offload" = ShareAndOffload, "dynamic_balancing" = DynamicBalancing }
    SharingPolicy {
        "conservative" = Conservative, "balanced" = Balanced, "aggressive" = Aggressive, "predictive" = Predictive
    }
    AutoMode { "off" = Off, "observe" = Observe, "on" = On }
    EngineKind { "local" = Local, "ssh" = Ssh }
    Files { "same" = Same, "home" = Home }
    AtEnd { "recall" = Recall, "stay" = Stay, "park" = Park, "end" = End }
    TcpPolicy { "refuse" = Refuse, "close" = Close }
    RuleAction { "allow" = Allow, "protect" = Protect }
    ProcessKind {
        "training" = Training, "inference" = Inference, "data_processing" = DataProcessing, "compute" = Compute,
        "io" = Io, "batch" = Batch, "interactive" = Interactive, "daemon" = Daemon
    }
}

impl Held for NodeName {
    fn put(&self) -> Option<Value> {
        self.0.put()
    }
    fn take(value: &Value) -> Option<Self> {
        String::take(value).map(NodeName)
    }
}

impl<T: Held> Held for Option<T> {
    fn put(&self) -> Option<Value> {
        self.as_ref().and_then(T::put)
    }
    fn take(value: &Value) -> Option<Self> {
        T::take(value).map(Some)
    }
}
