//! The tree against the schema: every key known, every value of its shape. Collects all faults and the values that
//! are right, each under its path.

use super::error::{ConfigError, quoted};
use super::read;
use super::schema::{Key, ROOT, Shape, home_of};
use super::value::Value;
use super::yaml::{Data, Node, Pair, Place};
use std::collections::{BTreeMap, BTreeSet};

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Checked {
    /// Values that were written and are right.
    pub(super) values: BTreeMap<String, Value>,
    /// Where each key or item that was written begins.
    pub(super) places: BTreeMap<String, Place>,
    /// Paths that were written and are wrong: no conclusion may be drawn from their absence.
    pub(super) wrong: BTreeSet<String>,
    /// Items of each list of mappings.
    pub(super) counts: BTreeMap<String, usize>,
    pub(super) errors: Vec<ConfigError>,
}

/// Checks a whole file.
pub(super) fn check(root: &Node) -> Checked {
    let mut checked = Checked::default();
    checked.section(root, ROOT, "");
    checked
}

/// The path of a key inside a section.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// As [`join`], for a key of the user's, which may hold anything.
fn join_any(section: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.len() < 64 && key.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
    join(section, &if plain { key.to_owned() } else { quoted(key) })
}

impl Checked {
    /// Records a fault of the value at a path.
    pub(super) fn fault(&mut self, place: Place, path: &str, message: String, hint: Option<String>) {
        self.wrong.insert(path.to_owned());
        self.errors.push(ConfigError { line: place.line, column: place.column, path: path.to_owned(), message, hint });
    }

    /// Where the first of these paths that was written stands; the top of the file for none.
    pub(super) fn place_of(&self, paths: &[&str]) -> Place {
        paths.iter().find_map(|p| self.places.get(*p)).copied().unwrap_or(Place { line: 1, column: 1 })
    }

    fn section(&mut self, node: &Node, keys: &'static [Key], path: &str) {
        let Data::Map(pairs) = &node.data else {
            let whole = if path.is_empty() { "the configuration" } else { path };
            self.fault(node.place, path, format!("{whole}: expected a mapping, found {}", kind(node)), None);
            return;
        };
        for pair in pairs {
            match keys.iter().find(|k| k.name == pair.key) {
                Some(key) => self.key(key, pair, &join(path, key.name)),
                None => self.unknown(pair, keys, path),
            }
        }
        for key in keys.iter().filter(|k| k.required) {
            let pair = pairs.iter().find(|p| p.key == key.name);
            if pair.is_none_or(|p| p.value.is_null()) {
                let inside = if path.is_empty() { String::new() } else { format!(" in {path}") };
                let message = format!("missing key \"{}\"{inside}", key.name);
                let place = pair.map_or(node.place, |p| p.place);
                self.fault(place, &join(path, key.name), message, Some(key.meaning.to_owned()));
            }
        }
    }

    fn unknown(&mut self, pair: &Pair, keys: &'static [Key], path: &str) {
        let inside = if path.is_empty() { String::new() } else { format!(" in {path}") };
        let near = read::nearest(&pair.key, keys.iter().map(|k| k.name)).map(|k| format!("did you mean \"{k}\"?"));
        let hint = near
            .or_else(|| home_of(&pair.key).map(|home| format!("it belongs in {home}")))
            .unwrap_or_else(|| format!("known here: {}", keys.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")));
        let message = format!("unknown key {}{inside}", quoted(&pair.key));
        self.fault(pair.place, &join_any(path, &pair.key), message, Some(hint));
    }

    fn key(&mut self, key: &'static Key, pair: &Pair, path: &str) {
        self.places.insert(path.to_owned(), pair.place);
        if pair.value.is_null() {
            return; // As if it were not there; a required one is reported as missing.
        }
        match (&key.shape, &pair.value.data) {
            (Shape::Section(_, Some(short)), Data::Scalar { .. }) => self.short(key, short, pair, path),
            (Shape::Section(keys, _), _) => self.section(&pair.value, keys, path),
            (Shape::Sections(keys), Data::List(items)) => self.sections(items, keys, path),
            (Shape::Texts(rule), Data::List(items)) => self.texts(*rule, items, path),
            (Shape::TextMap | Shape::Free, Data::Map(pairs)) => self.names(&key.shape, pairs, path),
            (shape, Data::Scalar { text, .. }) => {
                let read = read::scalar(shape, text);
                self.take(read, pair.value.place, path);
            }
            (shape, _) => self.mismatch(shape, &pair.value, path),
        }
    }

    fn mismatch(&mut self, shape: &Shape, value: &Node, path: &str) {
        let hint = matches!((shape, &value.data), (Shape::Sections(_), Data::Map(_)))
            .then(|| "begin each item with \"- \"".to_owned());
        let message = format!("{path}: expected {}, found {}", read::expected(shape), kind(value));
        self.fault(value.place, path, message, hint);
    }

    /// `auto_offload: observe` for `auto_offload: {mode: observe}`.
    fn short(&mut self, key: &'static Key, short: &str, pair: &Pair, path: &str) {
        let Shape::Section(keys, _) = &key.shape else { return };
        let (Some(inner), Data::Scalar { text, .. }) = (keys.iter().find(|k| k.name == short), &pair.value.data) else {
            return;
        };
        let inner_path = join(path, short);
        self.places.insert(inner_path.clone(), pair.place);
        match read::scalar(&inner.shape, text) {
            Ok(value) => {
                self.values.insert(inner_path, value);
            }
            Err((message, hint)) => {
                self.wrong.insert(inner_path);
                self.fault(pair.value.place, path, format!("{path}: {message}"), hint);
            }
        }
    }

    fn sections(&mut self, items: &[Node], keys: &'static [Key], path: &str) {
        self.counts.insert(path.to_owned(), items.len());
        for (i, item) in items.iter().enumerate() {
            let path = format!("{path}[{i}]");
            self.places.insert(path.clone(), item.place);
            self.section(item, keys, &path);
        }
    }

    fn texts(&mut self, rule: super::schema::TextRule, items: &[Node], path: &str) {
        let mut texts = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{path}[{i}]");
            match &item.data {
                Data::Scalar { text, .. } => match read::text(rule, text) {
                    Ok(text) => texts.push(text),
                    Err((message, hint)) => self.fault(item.place, &path, format!("{path}: {message}"), hint),
                },
                _ => self.fault(item.place, &path, format!("{path}: expected text, found {}", kind(item)), None),
            }
        }
        self.values.insert(path.to_owned(), Value::Texts(texts));
    }

    /// Keeps the names only. No message quotes a value: it may be a secret.
    fn names(&mut self, shape: &Shape, pairs: &[Pair], path: &str) {
        for pair in pairs.iter().filter(|_| matches!(shape, Shape::TextMap)) {
            let path = join_any(path, &pair.key);
            if pair.key.is_empty() || pair.key.contains(['=', '\0']) {
                let message = format!("{path}: {} is no name of a variable", quoted(&pair.key));
                self.fault(pair.place, &path, message, None);
            }
            if !matches!(pair.value.data, Data::Scalar { .. }) {
                let message = format!("{path}: expected text, found {}", kind(&pair.value));
                self.fault(pair.value.place, &path, message, None);
            }
        }
        self.values.insert(path.to_owned(), Value::Names(pairs.iter().map(|p| p.key.clone()).collect()));
    }

    fn take(&mut self, read: Result<Value, read::Wrong>, place: Place, path: &str) {
        match read {
            Ok(value) => {
                self.values.insert(path.to_owned(), value);
            }
            Err((message, hint)) => self.fault(place, path, format!("{path}: {message}"), hint),
        }
    }
}

fn kind(node: &Node) -> String {
    match &node.data {
        _ if node.is_null() => "nothing".to_owned(),
        Data::Scalar { text, .. } => quoted(text),
        Data::List(_) => "a list".to_owned(),
        Data::Map(_) => "a mapping".to_owned(),
    }
}
