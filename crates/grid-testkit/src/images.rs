//! An editor for CRIU's images, with which tests make hostile ones out of real ones: protobuf by field numbers, without a
//! schema, so that also what CRIU would never write can be written.

use std::io;
use std::path::Path;

/// An image: its magic numbers and its messages; behind the messages of some lies data, which is lost.
#[derive(Clone, Debug)]
pub struct Image {
    head: Vec<u8>,
    /// The messages.
    pub messages: Vec<Message>,
}

/// A message: its fields in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(pub Vec<(u32, Value)>);

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Text, bytes, or a message.
    Bytes(Vec<u8>),
    /// Eight or four bytes as they are.
    Fixed(Vec<u8>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        Self::Bytes(message.bytes())
    }
}

impl Image {
    /// A new one of this kind's magic number.
    pub fn new(magic: u32, messages: Vec<Message>) -> Self {
        let head = [0x5456_4319u32, magic].into_iter().flat_map(u32::to_le_bytes).collect();
        Self { head, messages }
    }

    /// Reads one.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is no image", path.display()));
        let long = if path.ends_with("inventory.img") { 4 } else { 8 };
        let (head, mut rest) = bytes.split_at_checked(long).ok_or_else(broken)?;
        let mut messages = Vec::new();
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (message, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(broken)?;
            messages.push(Message::parse(message).ok_or_else(broken)?);
            rest = tail;
        }
        Ok(Self { head: head.to_vec(), messages })
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut bytes = self.head.clone();
        for message in &self.messages {
            let encoded = message.bytes();
            bytes.extend((encoded.len() as u32).to_le_bytes());
            bytes.extend(encoded);
        }
        std::fs::write(path, bytes)
    }
}

impl Message {
    /// One with these fields.
    pub fn of(fields: &[(u32, u64)]) -> Self {
        Self(fields.iter().map(|(tag, number)| (*tag, Value::Number(*number))).collect())
    }

    /// Reads one.
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = number(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Number(number(&mut bytes)?),
                2 => {
                    let len = number(&mut bytes)? as usize;
                    Value::Bytes(take(&mut bytes, len)?)
                }
                1 => Value::Fixed(take(&mut bytes, 8)?),
                5 => Value::Fixed(take(&mut bytes, 4)?),
                _ => return None,
            };
            fields.push(((key >> 3) as u32, value));
        }
        Some(Self(fields))
    }

    /// As it is stored.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, value) in &self.0 {
            let tag = u64::from(*tag) << 3;
            match value {
                Value::Number(n) => {
                    put(&mut bytes, tag);
                    put(&mut bytes, *n);
                }
                Value::Bytes(b) => {
                    put(&mut bytes, tag | 2);
                    put(&mut bytes, b.len() as u64);
                    bytes.extend(b);
                }
                Value::Fixed(b) => {
                    put(&mut bytes, tag | if b.len() == 8 { 1 } else { 5 });
                    bytes.extend(b);
                }
            }
        }
        bytes
    }

    /// The first value of a field.
    pub fn get(&self, tag: u32) -> Option<&Value> {
        self.0.iter().find(|(t, _)| *t == tag).map(|(_, value)| value)
    }

    /// The first number of a field; 0 where there is none.
    pub fn number(&self, tag: u32) -> u64 {
        if let Some(Value::Number(n)) = self.get(tag) { *n } else { 0 }
    }

    /// The message in a field.
    pub fn inner(&self, tag: u32) -> Option<Self> {
        if let Some(Value::Bytes(bytes)) = self.get(tag) { Self::parse(bytes) } else { None }
    }

    /// Sets the first value of the field that this path of fields leads to; the last one is added where it is missing.
    ///
    /// # Panics
    /// Where there is no such message on the way.
    pub fn set(&mut self, path: &[u32], value: impl Into<Value>) {
        let (tag, rest) = (path[0], &path[1..]);
        let value = if rest.is_empty() {
            value.into()
        } else {
            let mut inner = self.inner(tag).unwrap_or_else(|| panic!("no message in field {tag}"));
            inner.set(rest, value);
            inner.into()
        };
        match self.0.iter_mut().find(|(t, _)| *t == tag) {
            Some((_, old)) => *old = value,
            None => self.0.push((tag, value)),
        }
    }
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take(bytes: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken.to_vec())
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again_and_a_field_within_is_set() {
        let inner = Message::of(&[(3, 300), (4, u64::MAX)]);
        let mut message = Message(vec![(1, "text".into()), (5, inner.into()), (9, Value::Fixed(vec![1; 8]))]);
        assert_eq!(Message::parse(&message.bytes()), Some(message.clone()));
        message.set(&[5, 3], 0);
        message.set(&[5, 7], 1);
        let set = message.inner(5).unwrap_or_default();
        assert_eq!((set.number(3), set.number(4), set.number(7)), (0, u64::MAX, 1));
        assert_eq!(Message::parse(&[0x0a, 9]), None);
    }
}
