//! An output as serde tells it.

use serde::{
    Serialize, Serializer,
    ser::{Impossible, SerializeMap, SerializeSeq, SerializeStruct},
};

use super::Unwritable;
use crate::epoch_seconds::{self, EpochSeconds};

/// What an output says. Structures and maps are told apart, because XML writes them differently.
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Fraction(f64),
    Text(String),
    Time(EpochSeconds),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    Structure(Vec<(&'static str, Value)>),
}

impl Value {
    pub(super) fn of<T: Serialize + ?Sized>(output: &T) -> Result<Self, Unwritable> {
        output.serialize(Writer)
    }
}

struct Writer;

impl Serializer for Writer {
    type Ok = Value;
    type Error = Unwritable;
    type SerializeSeq = Elements;
    type SerializeTuple = Impossible<Value, Unwritable>;
    type SerializeTupleStruct = Impossible<Value, Unwritable>;
    type SerializeTupleVariant = Impossible<Value, Unwritable>;
    type SerializeMap = Entries;
    type SerializeStruct = Members;
    type SerializeStructVariant = Impossible<Value, Unwritable>;

    fn serialize_bool(self, value: bool) -> Result<Value, Unwritable> {
        Ok(Value::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Value, Unwritable> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<Value, Unwritable> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<Value, Unwritable> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<Value, Unwritable> {
        Ok(Value::Signed(value))
    }

    fn serialize_u8(self, value: u8) -> Result<Value, Unwritable> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<Value, Unwritable> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<Value, Unwritable> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<Value, Unwritable> {
        Ok(Value::Unsigned(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Value, Unwritable> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Value, Unwritable> {
        Ok(Value::Fraction(value))
    }

    fn serialize_char(self, value: char) -> Result<Value, Unwritable> {
        Ok(Value::Text(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, Unwritable> {
        Ok(Value::Text(value.to_owned()))
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<Value, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_none(self) -> Result<Value, Unwritable> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Unwritable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Unwritable> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Unwritable> {
        Ok(Value::Structure(Vec::new()))
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, Unwritable> {
        Ok(Value::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Unwritable> {
        match (value.serialize(self)?, name) {
            (Value::Unsigned(seconds), epoch_seconds::NAME) => {
                Ok(Value::Time(EpochSeconds(seconds)))
            }
            (value, _) => Ok(value),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<Value, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Elements, Unwritable> {
        Ok(Elements(Vec::new()))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries, Unwritable> {
        Ok(Entries {
            entries: Vec::new(),
            key: None,
        })
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Members, Unwritable> {
        Ok(Members(Vec::with_capacity(len)))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, Unwritable> {
        Err(Unwritable)
    }
}

struct Elements(Vec<Value>);

impl SerializeSeq for Elements {
    type Ok = Value;
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.0.push(Value::of(value)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Unwritable> {
        Ok(Value::List(self.0))
    }
}

struct Entries {
    entries: Vec<(String, Value)>,
    /// The key whose value comes next.
    key: Option<String>,
}

impl SerializeMap for Entries {
    type Ok = Value;
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        match Value::of(key)? {
            Value::Text(key) => {
                self.key = Some(key);
                Ok(())
            }
            _ => Err(Unwritable),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        let key = self.key.take().ok_or(Unwritable)?;
        self.entries.push((key, Value::of(value)?));
        Ok(())
    }

    fn end(self) -> Result<Value, Unwritable> {
        Ok(Value::Map(self.entries))
    }
}

struct Members(Vec<(&'static str, Value)>);

impl SerializeStruct for Members {
    type Ok = Value;
    type Error = Unwritable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        // An absent member is left out, not written as null.
        match Value::of(value)? {
            Value::Null => {}
            value => self.0.push((name, value)),
        }
        Ok(())
    }

    fn end(self) -> Result<Value, Unwritable> {
        Ok(Value::Structure(self.0))
    }
}

impl serde::ser::Error for Unwritable {
    fn custom<T: std::fmt::Display>(_reason: T) -> Self {
        Self
    }
}
