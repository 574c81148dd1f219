//! A configuration as YAML again: values in their shortest exact form, and the whole file.

use super::Parsed;
use super::check::join;
use super::explain::{count, in_force};
use super::fields::sharing;
use super::read::GIB;
use super::schema::{Key, ROOT, Shape, Unit};
use super::value::Value;
use grid_types::policy::Config;
use grid_types::units::{Bytes, MilliCpu, Millis};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The configuration in force as YAML, defaults and accepted keys included. [`super::parse`] reads the same
/// configuration from it. Values of `environment` and `ray_start_params` are left out: they may be secrets.
pub fn show(parsed: &Parsed) -> String {
    let mut values = in_force(parsed);
    // The mode says it all.
    values.remove(sharing!("auto_offload.enabled"));
    let mut out = String::new();
    section(ROOT, "", 0, &parsed.config, &values, &mut out);
    out
}

fn section(
    keys: &[Key],
    path: &str,
    indent: usize,
    config: &Config,
    values: &BTreeMap<String, Value>,
    out: &mut String,
) {
    let pad = " ".repeat(indent);
    for key in keys {
        let path = join(path, key.name);
        let line = match &key.shape {
            Shape::Section(keys, _) => {
                let mut inner = String::new();
                section(keys, &path, indent + 2, config, values, &mut inner);
                if inner.is_empty() { continue } else { format!("{pad}{}:\n{inner}", key.name) }
            }
            Shape::Sections(_) if count(&path, config) == 0 => continue,
            Shape::Sections(keys) => {
                format!("{pad}{}:\n{}", key.name, items(keys, &path, indent + 2, config, values))
            }
            shape => match values.get(&path) {
                None => continue,
                Some(Value::Names(names)) => format!("{pad}# {}, not shown: {}\n", key.name, texts(names)),
                Some(v) => format!("{pad}{}: {}\n", key.name, value(shape, v)),
            },
        };
        out.push_str(&line);
    }
}

fn items(keys: &[Key], path: &str, indent: usize, config: &Config, values: &BTreeMap<String, Value>) -> String {
    let mut out = String::new();
    for i in 0..count(path, config) {
        let mut inner = String::new();
        section(keys, &format!("{path}[{i}]"), indent + 2, config, values, &mut inner);
        let _ = write!(out, "{}- {}", " ".repeat(indent), inner.trim_start());
    }
    out
}

/// One value as the file would have it.
pub(super) fn value(shape: &Shape, value: &Value) -> String {
    let unit = if let Shape::Number(unit, ..) = shape { Some(*unit) } else { None };
    match (value, unit) {
        (Value::Text(t), _) if matches!(shape, Shape::Word(_)) => t.clone(),
        (Value::Text(t), _) => text(t),
        (Value::Texts(t) | Value::Names(t), _) => texts(t),
        (Value::Flag(f), _) => f.to_string(),
        (Value::Number(n), _) => n.to_string(),
        (Value::Size(b), Some(_)) => (b.0 as f64 / GIB).to_string(),
        (Value::Cpu(c), Some(_)) => (f64::from(c.0) / 1e3).to_string(),
        (Value::Span(m), Some(Unit::Minutes)) => (m.0 as f64 / 60e3).to_string(),
        (Value::Span(m), Some(_)) => (m.0 as f64 / 1e3).to_string(),
        (Value::Size(b), None) => size(*b),
        (Value::Cpu(c), None) => cpu(*c),
        (Value::Span(m), None) => span(*m),
    }
}

fn texts(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|t| text(t)).collect::<Vec<_>>().join(", "))
}

/// Plain where nothing could take it for something else, else quoted.
pub(super) fn text(t: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan"];
    let plain = t.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && t.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        && !WORDS.contains(&t.to_ascii_lowercase().as_str());
    if plain {
        return t.to_owned();
    }
    let mut out = String::from("\"");
    for c in t.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn size(b: Bytes) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if b.0 > 0 && b.0.is_multiple_of(1 << shift) {
            return format!("{}{unit}", b.0 >> shift);
        }
    }
    b.0.to_string()
}

fn cpu(c: MilliCpu) -> String {
    if c.0.is_multiple_of(1000) { (c.0 / 1000).to_string() } else { format!("{}m", c.0) }
}

fn span(m: Millis) -> String {
    let mut rest = m.0;
    let mut out = String::new();
    for (length, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
        if rest >= length {
            let _ = write!(out, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}
