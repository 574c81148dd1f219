//! Units: bytes, thousandths of a CPU, milliseconds on named clocks. Parsed and printed in one place.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Processor time per time, in thousandths of one logical CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCpu(pub u32);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A moment on `CLOCK_BOOTTIME` of one node, in milliseconds. Counts while the machine sleeps. Comparable only
/// within one boot of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootMs(pub u64);

/// A moment on the wall clock, milliseconds since 1970. For people; no decision hangs on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

/// A bundle of capacity on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// CPUs in thousandths.
    pub cpu: MilliCpu,
    /// Memory in bytes.
    pub memory: Bytes,
    /// Whole GPUs.
    pub gpu: u32,
}

/// Why a quantity could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number with a known unit.
    #[error("\"{0}\" is not {1}")]
    NotA(String, &'static str),
    /// A number that cannot be meant: zero, negative, not finite, or past what the type holds.
    #[error("\"{0}\" is out of range: {1}")]
    OutOfRange(String, &'static str),
}

impl Resources {
    /// True where every part of `self` is at most that of `other`.
    pub fn fits_in(&self, other: &Resources) -> bool {
        self.cpu <= other.cpu && self.memory <= other.memory && self.gpu <= other.gpu
    }
    /// Part by part, never past the largest number.
    pub fn saturating_add(&self, o: &Resources) -> Resources {
        Resources {
            cpu: MilliCpu(self.cpu.0.saturating_add(o.cpu.0)),
            memory: Bytes(self.memory.0.saturating_add(o.memory.0)),
            gpu: self.gpu.saturating_add(o.gpu),
        }
    }
    /// Part by part, never below zero.
    pub fn saturating_sub(&self, o: &Resources) -> Resources {
        Resources {
            cpu: MilliCpu(self.cpu.0.saturating_sub(o.cpu.0)),
            memory: Bytes(self.memory.0.saturating_sub(o.memory.0)),
            gpu: self.gpu.saturating_sub(o.gpu),
        }
    }
    /// Part by part the smaller.
    pub fn min(&self, o: &Resources) -> Resources {
        Resources { cpu: self.cpu.min(o.cpu), memory: self.memory.min(o.memory), gpu: self.gpu.min(o.gpu) }
    }
    /// True where there is nothing of anything.
    pub fn is_zero(&self) -> bool {
        *self == Resources::default()
    }
}

fn split_number(s: &str) -> (&str, &str) {
    let end = s.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '_'))).unwrap_or(s.len());
    (&s[..end], s[end..].trim())
}

fn positive(s: &str, what: &'static str) -> Result<(f64, String), UnitError> {
    let t = s.trim();
    let (number, unit) = split_number(t);
    let n: f64 = number.replace('_', "").parse().map_err(|_| UnitError::NotA(s.to_owned(), what))?;
    if !n.is_finite() || n <= 0.0 {
        return Err(UnitError::OutOfRange(s.to_owned(), "it must be more than zero"));
    }
    Ok((n, unit.to_ascii_lowercase()))
}

impl FromStr for Bytes {
    type Err = UnitError;
    /// `1GiB`, `512MiB`, `1.5G`, `64M`, `4096` (bytes). Letters are powers of 1024; `GB`, `MB` and `KB` too, as the
    /// original meant them.
    fn from_str(s: &str) -> Result<Self, UnitError> {
        let (n, unit) = positive(s, "a size such as 512MiB or 1.5GiB")?;
        let factor: f64 = match unit.as_str() {
            "" | "b" => 1.0,
            "k" | "kb" | "kib" => 1024.0,
            "m" | "mb" | "mib" => 1024.0 * 1024.0,
            "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tb" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(UnitError::NotA(s.to_owned(), "a size such as 512MiB or 1.5GiB")),
        };
        let bytes = n * factor;
        if bytes > (1u64 << 60) as f64 {
            return Err(UnitError::OutOfRange(s.to_owned(), "no machine has that much memory"));
        }
        Ok(Bytes(bytes as u64))
    }
}

impl FromStr for MilliCpu {
    type Err = UnitError;
    /// `2`, `0.5` (CPUs) or `1500m` (thousandths).
    fn from_str(s: &str) -> Result<Self, UnitError> {
        let (n, unit) = positive(s, "a number of CPUs such as 2, 0.5 or 1500m")?;
        let milli = match unit.as_str() {
            "" => n * 1000.0,
            "m" => n,
            _ => return Err(UnitError::NotA(s.to_owned(), "a number of CPUs such as 2, 0.5 or 1500m")),
        };
        if milli > 1_000_000_000.0 {
            return Err(UnitError::OutOfRange(s.to_owned(), "no machine has that many CPUs"));
        }
        if milli < 1.0 {
            return Err(UnitError::OutOfRange(s.to_owned(), "the smallest share is 1m, a thousandth of a CPU"));
        }
        Ok(MilliCpu(milli.round() as u32))
    }
}

impl FromStr for Millis {
    type Err = UnitError;
    /// `500ms`, `90s`, `2m`, `1h`, `1d`, `1h30m`.
    fn from_str(s: &str) -> Result<Self, UnitError> {
        const WHAT: &str = "a duration such as 90s, 2m or 1h30m";
        let not = || UnitError::NotA(s.to_owned(), WHAT);
        let mut rest = s.trim();
        if rest.is_empty() {
            return Err(not());
        }
        let mut total = 0f64;
        while !rest.is_empty() {
            let (number, tail) = split_number(rest);
            let n: f64 = number.parse().map_err(|_| not())?;
            if !n.is_finite() || n < 0.0 {
                return Err(UnitError::OutOfRange(s.to_owned(), "it must be more than zero"));
            }
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            total += n * match &tail[..end] {
                "ms" => 1.0,
                "s" => 1e3,
                "m" | "min" => 60e3,
                "h" => 3600e3,
                "d" => 86400e3,
                _ => return Err(not()),
            };
            rest = &tail[end..];
        }
        if !(1.0..=1e15).contains(&total) {
            return Err(UnitError::OutOfRange(s.to_owned(), "it must be more than zero"));
        }
        Ok(Millis(total.round() as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const K: u64 = 1024;
        let b = self.0;
        let text = match b {
            0 => "0 B".to_owned(),
            b if b >= 10 * K * K * K * K => format!("{:.1} TiB", b as f64 / (K * K * K * K) as f64),
            b if b >= K * K * K => format!("{:.1} GiB", b as f64 / (K * K * K) as f64),
            b if b >= K * K => format!("{} MiB", b.div_ceil(K * K)),
            b if b >= K => format!("{} KiB", b.div_ceil(K)),
            b => format!("{b} B"),
        };
        f.pad(&text)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1}", f64::from(self.0) / 1000.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0 / 1000;
        let text = match self.0 {
            ms if ms < 1000 => format!("{ms} ms"),
            ms if ms < 10_000 => format!("{:.1} s", ms as f64 / 1000.0),
            _ if s < 60 => format!("{s} s"),
            _ if s < 3600 => format!("{}m{:02}s", s / 60, s % 60),
            _ if s < 86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
            _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Resources {
    /// `2.0 CPU 8.0 GiB`, with GPUs where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{} CPU {}", self.cpu, self.memory);
        if self.gpu > 0 {
            text.push_str(&format!(" {} GPU", self.gpu));
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_the_forms_people_type() {
        for (text, want) in
            [("1GiB", 1 << 30), ("512MiB", 512 << 20), ("1.5G", 3 << 29), ("64 M", 64 << 20), ("4096", 4096)]
        {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(want)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["0", "-1", "NaN", "inf", "", "GiB", "1e99", "99999999TiB", "1 apple"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
            assert!(text.parse::<MilliCpu>().is_err(), "{text}");
        }
        for text in ["0s", "-1s", "", "s", "5", "1x", "99999999999999d"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_add_up() {
        assert_eq!("1h30m".parse(), Ok(Millis(5_400_000)));
        assert_eq!("500ms".parse(), Ok(Millis(500)));
        assert_eq!(Millis(5_400_000).to_string(), "1h30m");
    }

    #[test]
    fn resources_compare_part_by_part() {
        let small = Resources { cpu: MilliCpu(500), memory: Bytes(1), gpu: 0 };
        let big = Resources { cpu: MilliCpu(1000), memory: Bytes(0), gpu: 1 };
        assert!(!small.fits_in(&big));
        assert!(small.fits_in(&big.saturating_add(&small)));
    }
}
