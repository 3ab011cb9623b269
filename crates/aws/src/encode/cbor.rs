//! Values as CBOR (RFC 8949), of definite lengths.

use minicbor::{
    data::Tag,
    encode::{Encoder, Error},
};

use super::Value;

/// The tag of a time in seconds since the Unix epoch (RFC 8949, section 3.4.2).
const EPOCH_TAG: u64 = 1;

type Written = Result<(), Error<std::convert::Infallible>>;

/// One data item.
pub(super) fn write(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    append(&mut encoder, value).expect("a vector takes all that is written to it");
    encoder.into_writer()
}

fn append(to: &mut Encoder<Vec<u8>>, value: &Value) -> Written {
    match value {
        Value::Null => drop(to.null()?),
        Value::Bool(value) => drop(to.bool(*value)?),
        Value::Unsigned(value) => drop(to.u64(*value)?),
        Value::Signed(value) => drop(to.i64(*value)?),
        Value::Fraction(value) => drop(to.f64(*value)?),
        Value::Text(value) => drop(to.str(value)?),
        Value::Time(at) => drop(to.tag(Tag::new(EPOCH_TAG))?.u64(at.0)?),
        Value::List(elements) => {
            to.array(elements.len() as u64)?;
            for element in elements {
                append(to, element)?;
            }
        }
        Value::Map(entries) => {
            to.map(entries.len() as u64)?;
            for (key, value) in entries {
                to.str(key)?;
                append(to, value)?;
            }
        }
        Value::Structure(members) => {
            to.map(members.len() as u64)?;
            for (name, value) in members {
                to.str(name)?;
                append(to, value)?;
            }
        }
    }
    Ok(())
}
