//! YAML into a tree in which every key and value knows its place. Follows anchors and merge keys within limits, so
//! that no text can make it use much memory or stack. Knows nothing of what keys mean.

use super::error::{ConfigError, quoted};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::BTreeMap;

const MAX_TEXT: usize = 1 << 20;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;
const MAX_KEYS: usize = 1_000;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) data: Data,
    size: usize,
    depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<Pair>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    fn new(place: Place, data: Data) -> Self {
        let (size, depth) = match &data {
            Data::Scalar { .. } => (1, 1),
            Data::List(items) => measure(items.iter()),
            Data::Map(pairs) => measure(pairs.iter().map(|p| &p.value)),
        };
        Self { place, data, size, depth }
    }

    /// Nothing was written, or `~`, or `null`.
    pub(super) fn is_null(&self) -> bool {
        const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
        matches!(&self.data, Data::Scalar { text, plain: true } if NULL.contains(&text.as_str()))
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    let (size, depth) = children.fold((0usize, 0), |(s, d), n| (s.saturating_add(n.size), d.max(n.depth)));
    (size.saturating_add(1), depth + 1)
}

/// A collection that is still open.
struct Frame {
    place: Place,
    anchor: usize,
    is_map: bool,
    items: Vec<Node>,
    pairs: Vec<Pair>,
    key: Option<Node>,
    merges: Vec<Node>,
}

struct Builder {
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    errors: Vec<ConfigError>,
}

/// Reads the text's one document. The tree is `None` where the syntax broke; errors can be there beside a tree.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<ConfigError>) {
    let mut b =
        Builder { frames: vec![], anchors: BTreeMap::new(), root: None, documents: 0, nodes: 0, errors: vec![] };
    let start = Place { line: 1, column: 1 };
    if text.len() > MAX_TEXT {
        b.fault(start, "the file is larger than 1 MiB; that is no configuration", None);
        return (None, b.errors);
    }
    for event in Parser::new_from_str(text) {
        let done = match event {
            Ok((event, span)) => b.event(event, place(&span)),
            Err(e) => Err(b.syntax(&e)),
        };
        if done.is_err() {
            return (None, b.errors);
        }
    }
    if b.root.is_none() {
        b.fault(start, "the configuration is empty", Some("`grid init` writes one for this machine"));
    }
    (b.root, b.errors)
}

fn place(span: &Span) -> Place {
    at(span.start.line(), span.start.col())
}

fn at(line: usize, column: usize) -> Place {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: small(line.max(1)), column: small(column.saturating_add(1)) }
}

/// Nothing after this can be read; the error is in the builder.
struct Broken;

impl Builder {
    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Broken> {
        match event {
            Event::DocumentStart(..) => self.document(place),
            Event::Alias(id) => self.alias(id, place),
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.is_some(), place);
                let plain = style == ScalarStyle::Plain;
                self.complete(Node::new(place, Data::Scalar { text: text.into_owned(), plain }), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.open(place, anchor, false, tag.is_some()),
            Event::MappingStart(_, anchor, tag) => self.open(place, anchor, true, tag.is_some()),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Ok(()),
        }
    }

    fn document(&mut self, place: Place) -> Result<(), Broken> {
        self.documents += 1;
        if self.documents < 2 {
            return Ok(());
        }
        self.broken(
            place,
            "a second YAML document begins here",
            Some("a configuration is one document; remove the ---"),
        )
    }

    fn open(&mut self, place: Place, anchor: usize, is_map: bool, tag: bool) -> Result<(), Broken> {
        self.tag(tag, place);
        if self.frames.len() >= MAX_DEPTH {
            return self.broken(place, "nested too deeply", None);
        }
        self.frames.push(Frame { place, anchor, is_map, items: vec![], pairs: vec![], key: None, merges: vec![] });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Broken> {
        let Some(mut frame) = self.frames.pop() else { return Ok(()) };
        if !frame.is_map {
            return self.complete(Node::new(frame.place, Data::List(frame.items)), frame.anchor);
        }
        for merge in std::mem::take(&mut frame.merges) {
            self.merge(merge, &mut frame.pairs);
        }
        self.complete(Node::new(frame.place, Data::Map(frame.pairs)), frame.anchor)
    }

    /// `<<: *defaults`: what the mapping does not say itself.
    fn merge(&mut self, from: Node, into: &mut Vec<Pair>) {
        let place = from.place;
        let sources = if let Data::List(items) = from.data { items } else { vec![from] };
        for source in sources {
            let Data::Map(pairs) = source.data else {
                self.fault(place, "\"<<\" takes a mapping or a list of mappings", None);
                return;
            };
            for pair in pairs {
                if !into.iter().any(|p| p.key == pair.key) {
                    into.push(pair);
                }
            }
        }
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(), Broken> {
        match self.anchors.get(&id).cloned() {
            Some(node) => self.complete(node, 0),
            None => self.broken(place, "this alias stands inside what it names", None),
        }
    }

    /// Puts a finished node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        self.nodes = self.nodes.saturating_add(node.size);
        if self.nodes > MAX_NODES || node.depth > MAX_DEPTH {
            return self.broken(node.place, "too large or nested too deeply", None);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(frame) if !frame.is_map => frame.items.push(node),
            Some(frame) => match frame.key.take() {
                None => frame.key = Some(node),
                Some(key) => return self.pair(key, node),
            },
        }
        Ok(())
    }

    fn pair(&mut self, key: Node, value: Node) -> Result<(), Broken> {
        let Data::Scalar { text, plain } = key.data else {
            self.fault(key.place, "a key must be one word", Some("braces in a value need quotes"));
            return Ok(());
        };
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if frame.pairs.len() >= MAX_KEYS {
            return self.broken(key.place, "too many keys in one mapping", None);
        }
        if plain && text == "<<" {
            frame.merges.push(value);
            return Ok(());
        }
        let Some(line) = frame.pairs.iter().find(|p| p.key == text).map(|p| p.place.line) else {
            frame.pairs.push(Pair { key: text, place: key.place, value });
            return Ok(());
        };
        let message = format!("duplicate key {}{}; it is already on line {line}", quoted(&text), self.inside());
        self.fault(key.place, &message, Some("keep one of them"));
        Ok(())
    }

    /// ` in nodes[1].resource_sharing`, or nothing at the top.
    fn inside(&self) -> String {
        let mut path = String::new();
        for frame in self.frames.iter().take(self.frames.len().saturating_sub(1)) {
            match &frame.key {
                Some(Node { data: Data::Scalar { text, .. }, .. }) => {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.push_str(text);
                }
                _ => path.push_str(&format!("[{}]", frame.items.len())),
            }
        }
        if path.is_empty() { path } else { format!(" in {path}") }
    }

    fn tag(&mut self, tagged: bool, place: Place) {
        if tagged {
            self.fault(place, "YAML tags (!…) are not used in a configuration", Some("write the value plainly"));
        }
    }

    fn syntax(&mut self, e: &ScanError) -> Broken {
        let text = e.info();
        let hint = match e.kind() {
            ErrorKind::UnknownAnchor => Some("a value that begins with * needs quotes: \"*/python3\""),
            _ if text.contains("tab") => Some("indent with spaces"),
            _ => None,
        };
        let place = at(e.marker().line(), e.marker().col());
        self.fault(place, &format!("not valid YAML: {text}"), hint);
        Broken
    }

    fn broken(&mut self, place: Place, message: &str, hint: Option<&str>) -> Result<(), Broken> {
        self.fault(place, message, hint);
        Err(Broken)
    }

    fn fault(&mut self, place: Place, message: &str, hint: Option<&str>) {
        self.errors.push(ConfigError {
            line: place.line,
            column: place.column,
            path: String::new(),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        });
    }
}
