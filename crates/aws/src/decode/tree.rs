//! What a body says, however it was written, and inputs from it.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use crate::{epoch_seconds, error::ApiError, sigv4::date_time};

/// How deep objects and arrays may be nested. App Runner's deepest input has 6 levels.
pub(super) const DEPTH_MAX: usize = 32;

/// Values a body may have, those inside others counted. The largest sensible input, a service with
/// every environment variable there may be, has a few hundred.
pub(super) const VALUES_MAX: usize = 1 << 16;

/// Characters of a member's name that an error repeats.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// What a body says. Has no `Debug`: it may hold secrets.
pub enum Tree {
    /// Nothing: the same as if it were not there.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Unsigned(u64),
    /// A whole number below zero.
    Signed(i64),
    /// Any other number.
    Fraction(f64),
    /// Text.
    Text(String),
    /// Bytes: CBOR only.
    Bytes(Vec<u8>),
    /// Values in order.
    Array(Vec<Tree>),
    /// Values by name.
    Object(BTreeMap<String, Tree>),
    /// A form's text, which is also what number, truth value or time it can be read as.
    Plain(String),
    /// A form's values by name, which are also a list or a map when their names are those of one.
    Form(BTreeMap<String, Tree>),
}

impl Tree {
    /// The text of a member, if this has members and that one is text.
    pub fn text(&self, member: &str) -> Option<&str> {
        match self {
            Self::Object(members) | Self::Form(members) => match members.get(member)? {
                Self::Text(text) | Self::Plain(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Reads an input.
    ///
    /// # Errors
    /// `SerializationException` with the place and the reason, never a value.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        T::deserialize(self).map_err(|mismatch| ApiError::serialization(mismatch.to_string()))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Signed(_) => "a whole number",
            Self::Fraction(_) => "a number with a fraction",
            Self::Text(_) | Self::Plain(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "an array",
            Self::Object(_) | Self::Form(_) => "an object",
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// The bounds of one body that is being read.
pub(super) struct Bounds {
    values_left: Cell<usize>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            values_left: Cell::new(VALUES_MAX),
        }
    }
}

impl Bounds {
    /// The depth inside a value at `depth`.
    pub(super) fn deeper(depth: usize) -> Result<usize, String> {
        match depth {
            DEPTH_MAX => Err(format!("nested deeper than {DEPTH_MAX} levels")),
            depth => Ok(depth + 1),
        }
    }

    /// Counts one more value.
    pub(super) fn count(&self) -> Result<(), String> {
        match self.values_left.get().checked_sub(1) {
            Some(left) => {
                self.values_left.set(left);
                Ok(())
            }
            None => Err(format!("more than {VALUES_MAX} values")),
        }
    }
}

/// Reads a form's text as what the input wants, if it can be read so.
macro_rules! plain {
    ($($deserialize:ident, $visit:ident;)*) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match &self {
                Self::Plain(text) => match text.parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(de::Error::invalid_type(de::Unexpected::Str(""), &visitor)),
                },
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Tree {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Fraction(value) => visitor.visit_f64(value),
            Self::Text(value) | Self::Plain(value) => visitor.visit_string(value),
            Self::Bytes(value) => visitor.visit_byte_buf(value),
            Self::Array(elements) => visitor.visit_seq(Elements(elements.into_iter().enumerate())),
            Self::Object(members) | Self::Form(members) => visitor.visit_map(Members::of(members)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Self::Object(mut members) => {
                members.retain(|_, value| !value.is_null());
                visitor.visit_map(Members::of(members))
            }
            Self::Form(members) => visitor.visit_map(Members::of(members)),
            other => Err(Mismatch::new(format!(
                "expected an object, found {}",
                other.kind()
            ))),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Form(members) => {
                let elements = numbered(members, "member")?;
                visitor.visit_seq(Elements(elements.into_iter().enumerate()))
            }
            // How clients write an empty list.
            Self::Plain(text) if text.is_empty() => {
                visitor.visit_seq(Elements(Vec::new().into_iter().enumerate()))
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Form(members) => visitor.visit_map(Members::of(entries(members)?)),
            Self::Plain(text) if text.is_empty() => visitor.visit_map(Members::of(BTreeMap::new())),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match &self {
            Self::Plain(text) if name == epoch_seconds::NAME => {
                match date_time::parse_extended(text) {
                    Some(at) => visitor.visit_newtype_struct(Self::Unsigned(at.0)),
                    None => Err(Mismatch::new(
                        "expected a time such as `2026-01-31T12:00:00Z`".to_owned(),
                    )),
                }
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Self::Text(variant) | Self::Plain(variant) => {
                visitor.visit_enum(variant.into_deserializer())
            }
            other => Err(Mismatch::new(format!(
                "expected a string, found {}",
                other.kind()
            ))),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            // serde would take bytes that happen to be UTF-8 for text.
            Self::Bytes(_) => Err(de::Error::invalid_type(
                de::Unexpected::Bytes(&[]),
                &visitor,
            )),
            other => other.deserialize_any(visitor),
        }
    }

    plain! {
        deserialize_bool, visit_bool;
        deserialize_i8, visit_i8;
        deserialize_i16, visit_i16;
        deserialize_i32, visit_i32;
        deserialize_i64, visit_i64;
        deserialize_u8, visit_u8;
        deserialize_u16, visit_u16;
        deserialize_u32, visit_u32;
        deserialize_u64, visit_u64;
        deserialize_f32, visit_f32;
        deserialize_f64, visit_f64;
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// The values of a form's members `<name>.1`, `<name>.2` and so on.
fn numbered(mut members: BTreeMap<String, Tree>, name: &str) -> Result<Vec<Tree>, Mismatch> {
    let refused = || {
        Mismatch::new(format!(
            "expected parameters `{name}.1`, `{name}.2` and so on, without a gap"
        ))
    };
    let (Some(Tree::Form(numbers)), true) = (members.remove(name), members.is_empty()) else {
        return Err(refused());
    };
    let mut places: Vec<Option<Tree>> = numbers.iter().map(|_| None).collect();
    for (number, value) in numbers {
        let place = number.parse().unwrap_or(0_usize);
        let free = place
            .checked_sub(1)
            .and_then(|index| places.get_mut(index))
            .filter(|free| free.is_none());
        *free.ok_or_else(refused)? = Some(value);
    }
    places
        .into_iter()
        .collect::<Option<_>>()
        .ok_or_else(refused)
}

/// A form's `entry.1.key`, `entry.1.value` and so on as values by name.
fn entries(members: BTreeMap<String, Tree>) -> Result<BTreeMap<String, Tree>, Mismatch> {
    let mut map = BTreeMap::new();
    for entry in numbered(members, "entry")? {
        let Tree::Form(mut pair) = entry else {
            return Err(entry_mismatch());
        };
        match (pair.remove("key"), pair.remove("value"), pair.is_empty()) {
            (Some(Tree::Plain(key)), Some(value), true) => {
                if map.contains_key(&key) {
                    return Err(Mismatch::new(format!("`{}` is given twice", shown(&key))));
                }
                map.insert(key, value);
            }
            _ => return Err(entry_mismatch()),
        }
    }
    Ok(map)
}

fn entry_mismatch() -> Mismatch {
    Mismatch::new("expected each entry to have `key` and `value`".to_owned())
}

struct Elements(std::iter::Enumerate<std::vec::IntoIter<Tree>>);

impl<'de> de::SeqAccess<'de> for Elements {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some((index, element)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(element)
            .map(Some)
            .map_err(|mismatch| mismatch.inside(&index.to_string()))
    }
}

struct Members {
    left: std::collections::btree_map::IntoIter<String, Tree>,
    /// The member whose name was read and whose value comes next.
    current: Option<(String, Tree)>,
}

impl Members {
    fn of(members: BTreeMap<String, Tree>) -> Self {
        Self {
            left: members.into_iter(),
            current: None,
        }
    }
}

impl<'de> de::MapAccess<'de> for Members {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((name, value)) = self.left.next() else {
            return Ok(None);
        };
        let key = seed.deserialize(name.as_str().into_deserializer())?;
        self.current = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let (name, value) = self
            .current
            .take()
            .ok_or_else(|| Mismatch::new("a value without a name".to_owned()))?;
        seed.deserialize(value)
            .map_err(|mismatch| mismatch.inside(&name))
    }
}

/// A tree that is not of the input's type: where, and why.
#[derive(Debug)]
pub struct Mismatch {
    /// Innermost first.
    path: Vec<String>,
    reason: String,
}

impl Mismatch {
    fn new(reason: String) -> Self {
        Self {
            path: Vec::new(),
            reason,
        }
    }

    fn inside(mut self, name: &str) -> Self {
        self.path.push(shown(name));
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        match path.is_empty() {
            true => f.write_str(&self.reason),
            false => write!(f, "`{}`: {}", path.join("."), self.reason),
        }
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", kind(found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "expected {expected}, found {} out of bounds",
            kind(found)
        ))
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("expected one of {}", expected.join(", ")))
    }
}

/// What was found, without its value.
fn kind(found: de::Unexpected<'_>) -> &'static str {
    use de::Unexpected as U;
    match found {
        U::Bool(_) => "a boolean",
        U::Unsigned(_) | U::Signed(_) => "a whole number",
        U::Float(_) => "a number with a fraction",
        U::Str(_) | U::Char(_) => "a string",
        U::Bytes(_) => "bytes",
        U::Unit | U::Option => "null",
        U::Seq => "an array",
        U::Map => "an object",
        _ => "something else",
    }
}

pub(super) fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_SHOWN_MAX).collect()
}
