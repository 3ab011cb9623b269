//! MessagePack, as far as the Forward protocol needs it of a receiver: small values, of bounded depth.

use std::io::Cursor;

use rmp::{Marker, decode};

/// How deep values may be nested.
const DEPTH_MAX: u32 = 8;

/// A value. Binary and text are the same here: receivers differ in which they use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Bool(bool),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// What nothing is asked of here.
    Other,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoValue {
    /// There may be one when more has been read.
    Short,
    /// There never will be.
    Nonsense,
}

/// The first value in `bytes`, and how long it is.
pub(crate) fn first(bytes: &[u8]) -> Result<(Value, usize), NoValue> {
    let mut cursor = Cursor::new(bytes);
    let value = value(&mut cursor, DEPTH_MAX)?;
    Ok((value, cursor.position() as usize))
}

fn value(from: &mut Cursor<&[u8]>, depth: u32) -> Result<Value, NoValue> {
    if depth == 0 {
        return Err(NoValue::Nonsense);
    }
    let start = from.position();
    let marker = decode::read_marker(from).map_err(|_| NoValue::Short)?;
    let length = |from: &mut Cursor<&[u8]>, bytes: usize| {
        let read = take(from, bytes)?;
        Ok(read
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)))
    };
    let bytes = |from: &mut Cursor<&[u8]>, count| Ok(Value::Bytes(take(from, count)?.to_vec()));
    let other = |from: &mut Cursor<&[u8]>, count| take(from, count).map(|_| Value::Other);
    match marker {
        Marker::True => Ok(Value::Bool(true)),
        Marker::False => Ok(Value::Bool(false)),
        Marker::FixStr(count) => bytes(from, count.into()),
        Marker::Str8 | Marker::Bin8 => length(from, 1).and_then(|count| bytes(from, count)),
        Marker::Str16 | Marker::Bin16 => length(from, 2).and_then(|count| bytes(from, count)),
        Marker::Str32 | Marker::Bin32 => length(from, 4).and_then(|count| bytes(from, count)),
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            from.set_position(start);
            let count = decode::read_array_len(from).map_err(|_| NoValue::Short)?;
            // Not set aside beforehand: the count is the receiver's word only.
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(value(from, depth - 1)?);
            }
            Ok(Value::Array(values))
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            from.set_position(start);
            let count = decode::read_map_len(from).map_err(|_| NoValue::Short)?;
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push((value(from, depth - 1)?, value(from, depth - 1)?));
            }
            Ok(Value::Map(pairs))
        }
        Marker::Null | Marker::FixPos(_) | Marker::FixNeg(_) => Ok(Value::Other),
        Marker::U8 | Marker::I8 => other(from, 1),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => other(from, 2),
        Marker::FixExt2 => other(from, 3),
        Marker::U32 | Marker::I32 | Marker::F32 => other(from, 4),
        Marker::FixExt4 => other(from, 5),
        Marker::U64 | Marker::I64 | Marker::F64 => other(from, 8),
        Marker::FixExt8 => other(from, 9),
        Marker::FixExt16 => other(from, 17),
        Marker::Ext8 => length(from, 1).and_then(|count| other(from, count + 1)),
        Marker::Ext16 => length(from, 2).and_then(|count| other(from, count + 1)),
        Marker::Ext32 => length(from, 4).and_then(|count| other(from, count + 1)),
        Marker::Reserved => Err(NoValue::Nonsense),
    }
}

fn take<'a>(from: &mut Cursor<&'a [u8]>, count: usize) -> Result<&'a [u8], NoValue> {
    let bytes: &'a [u8] = from.get_ref();
    let start = from.position() as usize;
    let taken = start
        .checked_add(count)
        .and_then(|end| bytes.get(start..end))
        .ok_or(NoValue::Short)?;
    from.set_position((start + count) as u64);
    Ok(taken)
}

impl Value {
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// What a map has under a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| key.bytes() == Some(name.as_bytes()))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The elements of an array that begins with this word.
    pub(crate) fn after(&self, word: &str) -> Option<&[Self]> {
        match self {
            Self::Array(values) => match values.split_first() {
                Some((first, rest)) if first.bytes() == Some(word.as_bytes()) => Some(rest),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_is_read_however_it_is_cut() {
        let whole = b"\x81\xa3ack\xa4abcd\xc0";
        for cut in 0..whole.len() - 1 {
            assert_eq!(first(&whole[..cut]), Err(NoValue::Short), "{cut}");
        }
        let (value, length) = first(whole).unwrap();
        assert_eq!(value.get("ack").unwrap().bytes(), Some(&b"abcd"[..]));
        assert_eq!(length, whole.len() - 1);
    }

    #[test]
    fn hostile_values_take_neither_stack_nor_memory() {
        assert_eq!(first(&[0x91; 100]), Err(NoValue::Nonsense));
        assert_eq!(first(b"\xdd\xff\xff\xff\xff"), Err(NoValue::Short));
        assert_eq!(first(b"\xdf\xff\xff\xff\xff"), Err(NoValue::Short));
        assert_eq!(first(b"\xc6\xff\xff\xff\xff"), Err(NoValue::Short));
        assert_eq!(first(b"\xc1"), Err(NoValue::Nonsense));
    }
}
