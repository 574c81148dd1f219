//! What each value means here, for `grid config check`.

use super::Parsed;
use super::fields;
use super::fields::sharing;
use super::render;
use super::schema::{Key, ROOT, Shape};
use super::value::Value;
use grid_types::policy::{Config, Role};
use serde::Serialize;
use std::collections::BTreeMap;

/// One value of the configuration in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its key (`nodes[1].resource_sharing.max_share_cpu`).
    pub path: String,
    /// The value in force as it is written in the file; `-` where there is none. Values of `environment` and
    /// `ray_start_params` are never shown, only their names.
    pub value: String,
    /// What it means here.
    pub meaning: String,
    /// Who said so.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The file.
    Configured {
        /// Line of the key, from 1.
        line: u32,
    },
    /// Nobody: the default.
    Default,
}

/// Explains every value in force and every accepted key, in the order of the schema.
pub fn explain(parsed: &Parsed) -> Vec<Explained> {
    let values = in_force(parsed);
    let mut all = Vec::new();
    section(ROOT, "", parsed, &values, &mut all);
    all
}

/// Values in force, and those that are accepted and not used.
pub(super) fn in_force(parsed: &Parsed) -> BTreeMap<String, Value> {
    let mut values = parsed.checked.values.clone();
    values.extend(fields::values(&parsed.config));
    values
}

/// How many mappings this list has.
pub(super) fn count(path: &str, config: &Config) -> usize {
    match path {
        "nodes" => config.nodes.len(),
        "detector.rules" => config.policy.detector.rules.len(),
        _ => 0,
    }
}

fn section(keys: &[Key], path: &str, parsed: &Parsed, values: &BTreeMap<String, Value>, all: &mut Vec<Explained>) {
    for key in keys {
        let path = super::check::join(path, key.name);
        match &key.shape {
            Shape::Section(keys, _) => section(keys, &path, parsed, values, all),
            Shape::Sections(keys) => {
                for i in 0..count(&path, &parsed.config) {
                    section(keys, &format!("{path}[{i}]"), parsed, values, all);
                }
            }
            _ => all.extend(one(key, &path, parsed, values)),
        }
    }
}

fn one(key: &Key, path: &str, parsed: &Parsed, values: &BTreeMap<String, Value>) -> Option<Explained> {
    let value = match values.get(path) {
        Some(Value::Names(names)) => format!("{} not shown: {}", names.len(), names.join(", ")),
        Some(value) => render::value(&key.shape, value),
        None if path.starts_with("nodes[") && !matches!(key.shape, Shape::Free) => "-".to_owned(),
        None => return None,
    };
    let mut meaning = key.meaning.to_owned();
    if let (Shape::Word(words), Some(Value::Text(text))) = (&key.shape, values.get(path))
        && let Some(word) = words.iter().find(|w| w.canonical == text && !w.meaning.is_empty())
    {
        meaning.push_str(": ");
        meaning.push_str(word.meaning);
    }
    if let Some(note) = note(path, &parsed.config) {
        meaning.push_str("; ");
        meaning.push_str(note);
    }
    Some(Explained { path: path.to_owned(), value, meaning, source: source(path, parsed) })
}

fn source(path: &str, parsed: &Parsed) -> Source {
    let checked = &parsed.checked;
    // The original's switch is where the mode comes from.
    let other = (path == sharing!("auto_offload.mode")).then_some(sharing!("auto_offload.enabled"));
    let written = |path: &str| checked.values.contains_key(path).then(|| checked.places.get(path)).flatten();
    match written(path).or_else(|| other.and_then(written)) {
        Some(place) => Source::Configured { line: place.line },
        None => Source::Default,
    }
}

/// What other keys make of this one.
fn note(path: &str, config: &Config) -> Option<&'static str> {
    if let Some(rest) = path.strip_prefix("nodes[") {
        let (index, key) = rest.split_once("].")?;
        let node = config.nodes.get(index.parse::<usize>().ok()?)?;
        return match key.strip_prefix("resource_sharing.")? {
            _ if node.role == Role::Head => Some("without effect: the head lends to nobody"),
            "can_share" => None,
            _ if !node.sharing.can_share => Some("without effect while can_share is false"),
            _ => None,
        };
    }
    let shared = path.strip_prefix(sharing!(""))?;
    (!config.policy.sharing_enabled && shared != "enabled").then_some("without effect while enabled is false")
}
