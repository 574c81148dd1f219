//! One scalar, by its shape, into a value; or what it should have been and how to write it.

use super::error::quoted;
use super::schema::{Shape, TextRule, Unit, Word, Zero};
use super::value::Value;
use grid_types::units::{Bytes, MilliCpu, Millis};

/// What is wrong and, where it can be known, what to write.
pub(super) type Wrong = (String, Option<String>);

/// Reads a scalar of a shape that is one.
pub(super) fn scalar(shape: &Shape, text: &str) -> Result<Value, Wrong> {
    match shape {
        Shape::Text(rule) => self::text(*rule, text).map(Value::Text),
        Shape::Word(words) => self::word(words, text).map(Value::Text),
        Shape::Flag => flag(text).map(Value::Flag),
        Shape::Number(unit, low, high) => number(*unit, *low, *high, text),
        Shape::Size(zero) => size(*zero, text),
        Shape::Cpu(zero) => cpu(*zero, text),
        Shape::Span(zero) => span(*zero, text),
        Shape::TextMap | Shape::Free => Err((format!("expected {}, found text", expected(shape)), None)),
        _ => Err((format!("expected {}, found {}", expected(shape), quoted(text)), list_hint(shape, text))),
    }
}

/// What a value of this shape is, for a message.
pub(super) fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Text(_) => "text".to_owned(),
        Shape::Word(words) => format!("one of {}", own(words)),
        Shape::Flag => "true or false".to_owned(),
        Shape::Number(unit, low, high) => range(*unit, *low, *high),
        Shape::Size(_) => "a size such as 512MiB or 1.5GiB".to_owned(),
        Shape::Cpu(_) => "a number of CPUs such as 2, 0.5 or 1500m".to_owned(),
        Shape::Span(_) => "a duration such as 90s, 2m or 1h30m".to_owned(),
        Shape::Texts(_) | Shape::Sections(_) => "a list".to_owned(),
        Shape::TextMap | Shape::Free | Shape::Section(..) => "a mapping".to_owned(),
    }
}

fn list_hint(shape: &Shape, text: &str) -> Option<String> {
    matches!(shape, Shape::Texts(_)).then(|| format!("write [{}]", text.trim()))
}

fn range(unit: Unit, low: f64, high: f64) -> String {
    let what = match unit {
        Unit::Count => "a whole number",
        Unit::Percent => "a percentage",
        Unit::Fraction => "a fraction",
        Unit::Seconds => "a number of seconds",
        Unit::Minutes => "a number of minutes",
        Unit::Gib => "a number of GiB",
        Unit::Cpus => "a number of CPUs",
        Unit::Weight => "a number",
    };
    format!("{what} from {low} to {high}")
}

fn number(unit: Unit, low: f64, high: f64, text: &str) -> Result<Value, Wrong> {
    let digits = text.trim().replace('_', "");
    let read = digits.parse::<f64>().ok().filter(|n| n.is_finite());
    let Some(n) = read.filter(|n| (low..=high).contains(n) && (unit != Unit::Count || n.fract() == 0.0)) else {
        let message = format!("expected {}, found {}", range(unit, low, high), found(text));
        return Err((message, number_hint(unit, read, text)));
    };
    Ok(match unit {
        Unit::Seconds => Value::Span(Millis((n * 1e3).round() as u64)),
        Unit::Minutes => Value::Span(Millis((n * 60e3).round() as u64)),
        Unit::Gib => Value::Size(Bytes((n * GIB).round() as u64)),
        Unit::Cpus => Value::Cpu(MilliCpu((n * 1e3).round() as u32)),
        _ => Value::Number(n),
    })
}

/// Bytes in a GiB.
pub(super) const GIB: f64 = 1_073_741_824.0;

fn found(text: &str) -> String {
    match text.trim() {
        "" => "nothing".to_owned(),
        t if t.parse::<f64>().is_ok() => t.to_owned(),
        t => quoted(t),
    }
}

fn number_hint(unit: Unit, read: Option<f64>, text: &str) -> Option<String> {
    let plainly = |n: f64| Some(format!("write {n}"));
    match (unit, read) {
        (Unit::Percent, Some(n)) if n > 0.0 && n < 1.0 => plainly((n * 1e4).round() / 100.0),
        (Unit::Fraction, Some(n)) if n > 1.0 && n <= 100.0 => plainly(n / 100.0),
        (Unit::Percent | Unit::Fraction, None) => {
            let n = text.trim().strip_suffix('%')?.trim().parse::<f64>().ok().filter(|n| n.is_finite())?;
            plainly(if unit == Unit::Percent { n } else { n / 100.0 })
        }
        (Unit::Seconds, None) => plainly(text.parse::<Millis>().ok()?.0 as f64 / 1e3),
        (Unit::Minutes, None) => plainly(text.parse::<Millis>().ok()?.0 as f64 / 60e3),
        (Unit::Gib, None) => plainly(text.parse::<Bytes>().ok()?.0 as f64 / GIB),
        (Unit::Cpus, None) => plainly(f64::from(text.parse::<MilliCpu>().ok()?.0) / 1e3),
        _ => None,
    }
}

fn size(zero: Zero, text: &str) -> Result<Value, Wrong> {
    if zero == Zero::Allowed && is_zero(text, &["", "b", "kib", "mib", "gib", "kb", "mb", "gb", "k", "m", "g"]) {
        return Ok(Value::Size(Bytes(0)));
    }
    text.parse().map(Value::Size).map_err(|e| (format!("{e}"), None))
}

fn cpu(zero: Zero, text: &str) -> Result<Value, Wrong> {
    if zero == Zero::Allowed && is_zero(text, &["", "m"]) {
        return Ok(Value::Cpu(MilliCpu(0)));
    }
    text.parse().map(Value::Cpu).map_err(|e| (format!("{e}"), None))
}

fn span(zero: Zero, text: &str) -> Result<Value, Wrong> {
    if zero == Zero::Allowed && is_zero(text, &["", "ms", "s", "m", "min", "h", "d"]) {
        return Ok(Value::Span(Millis(0)));
    }
    text.parse().map(Value::Span).map_err(|e| {
        let bare = text.trim().parse::<u64>().ok().filter(|n| *n > 0);
        (format!("{e}"), bare.map(|n| format!("with its unit: {n}s")))
    })
}

fn is_zero(text: &str, units: &[&str]) -> bool {
    let Some(unit) = text.trim().strip_prefix('0') else { return false };
    units.contains(&unit.trim().to_ascii_lowercase().as_str())
}

fn flag(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err((format!("expected true or false, found {}", quoted(text)), None)),
    }
}

fn word(words: &[Word], text: &str) -> Result<String, Wrong> {
    if let Some(word) = words.iter().find(|w| w.written.eq_ignore_ascii_case(text.trim())) {
        return Ok(word.canonical.to_owned());
    }
    let message = format!("expected one of {}, found {}", own(words), quoted(text));
    Err((message, nearest(text, words.iter().map(|w| w.written)).map(|w| format!("did you mean \"{w}\"?"))))
}

fn own(words: &[Word]) -> String {
    let own: Vec<_> = words.iter().filter(|w| w.written == w.canonical).map(|w| w.written).collect();
    own.join(", ")
}

pub(super) fn text(rule: TextRule, text: &str) -> Result<String, Wrong> {
    let hint = |h: &str| Some(h.to_owned());
    if text.trim().is_empty() {
        return Err(("expected text, found nothing".to_owned(), None));
    }
    if text.chars().any(char::is_control) || text.len() > 4096 {
        return Err((format!("{} is not one plain line of text", quoted(text)), None));
    }
    let bare = |extra: &str| text.chars().all(|c| c.is_alphanumeric() || extra.contains(c)) && !text.starts_with('-');
    match rule {
        TextRule::Any => {}
        TextRule::Name if bare("._-") && !text.starts_with('.') && text.len() <= 63 => {}
        TextRule::Name => {
            return Err((
                format!("{} is no name for a node", quoted(text)),
                hint("letters, digits, \".\", \"_\" and \"-\", at most 63, a letter or digit first"),
            ));
        }
        TextRule::Host if bare("._-:%[]") => {}
        TextRule::Host => return Err((format!("{} is no host name or address", quoted(text)), host_hint(text))),
        TextRule::Directory if bare("/._-") && text.starts_with('/') && !text.contains("..") => {}
        TextRule::Directory => {
            let what = format!("{} is no folder's path", quoted(text));
            return Err((what, Some("an absolute path of letters, digits and . _ - /, as /var/lib/grid".to_owned())));
        }
        TextRule::Listen => super::address::listen(text)?,
        TextRule::Dial => super::address::dial(text)?,
        TextRule::User if bare("._-$+\\") => {}
        TextRule::User => return Err((format!("{} is no user name or number", quoted(text)), None)),
    }
    Ok(text.to_owned())
}

fn host_hint(text: &str) -> Option<String> {
    text.contains('@').then(|| "the user goes under \"user\"".to_owned())
}

/// The candidate nearest to what was written, if any is near.
pub(super) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / 3).clamp(1, 4);
    if written.len() > 100 {
        return None;
    }
    let lower = written.to_lowercase();
    candidates
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}
