//! CBOR (RFC 8949) into a tree.
//!
//! The decoder is asked for one head after another, so that nothing is believed of a declared
//! length but that so much may follow: what is not there is not made room for.

use std::collections::BTreeMap;

use minicbor::{
    data::{Tag, Type},
    decode::{Decoder, Error},
};

use super::tree::{Bounds, Tree, shown};

/// The tag of a time in seconds since the Unix epoch (RFC 8949, section 3.4.2).
const EPOCH_TAG: u64 = 1;

/// Why bytes are not a tree: a sentence without a value.
type Refusal = String;

/// Reads one data item and nothing after it.
pub(super) fn parse(bytes: &[u8]) -> Result<Tree, Refusal> {
    let mut reader = Reader {
        decoder: Decoder::new(bytes),
        bounds: Bounds::default(),
    };
    let tree = reader.value(0)?;
    match reader.decoder.position() == bytes.len() {
        true => Ok(tree),
        false => Err("bytes are left over after the body's data item".to_owned()),
    }
}

struct Reader<'b> {
    decoder: Decoder<'b>,
    bounds: Bounds,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Tree, Refusal> {
        self.bounds.count()?;
        match self.decoder.datatype().map_err(broken)? {
            Type::Null => self.decoder.null().map(|()| Tree::Null).map_err(broken),
            Type::Undefined => self
                .decoder
                .undefined()
                .map(|()| Tree::Null)
                .map_err(broken),
            Type::Bool => self.decoder.bool().map(Tree::Bool).map_err(broken),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                self.decoder.u64().map(Tree::Unsigned).map_err(broken)
            }
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
                self.decoder.i64().map(Tree::Signed).map_err(broken)
            }
            Type::F16 => self
                .decoder
                .f16()
                .map(|v| Tree::Fraction(v.into()))
                .map_err(broken),
            Type::F32 => self
                .decoder
                .f32()
                .map(|v| Tree::Fraction(v.into()))
                .map_err(broken),
            Type::F64 => self.decoder.f64().map(Tree::Fraction).map_err(broken),
            Type::String | Type::StringIndef => self.text().map(Tree::Text),
            Type::Bytes | Type::BytesIndef => self.bytes().map(Tree::Bytes),
            Type::Array | Type::ArrayIndef => self.array(depth),
            Type::Map | Type::MapIndef => self.map(depth),
            Type::Tag => self.tagged(depth),
            // An integer below -2^63, a simple value without a meaning, or a break of nothing.
            Type::Int | Type::Simple | Type::Break | Type::Unknown(_) => {
                Err("a data item of the body has no meaning in this protocol".to_owned())
            }
        }
    }

    fn text(&mut self) -> Result<String, Refusal> {
        let mut text = String::new();
        for chunk in self.decoder.str_iter().map_err(broken)? {
            text.push_str(chunk.map_err(broken)?);
        }
        Ok(text)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        for chunk in self.decoder.bytes_iter().map_err(broken)? {
            bytes.extend_from_slice(chunk.map_err(broken)?);
        }
        Ok(bytes)
    }

    fn array(&mut self, depth: usize) -> Result<Tree, Refusal> {
        let inner = Bounds::deeper(depth)?;
        let mut left = self.decoder.array().map_err(broken)?;
        let mut elements = Vec::new();
        while self.more(&mut left)? {
            elements.push(self.value(inner)?);
        }
        Ok(Tree::Array(elements))
    }

    fn map(&mut self, depth: usize) -> Result<Tree, Refusal> {
        let inner = Bounds::deeper(depth)?;
        let mut left = self.decoder.map().map_err(broken)?;
        let mut members = BTreeMap::new();
        while self.more(&mut left)? {
            let is_text = matches!(
                self.decoder.datatype().map_err(broken)?,
                Type::String | Type::StringIndef
            );
            if !is_text {
                return Err("a map's key is not a string".to_owned());
            }
            let name = self.text()?;
            let value = self.value(inner)?;
            if members.contains_key(&name) {
                return Err(format!("`{}` is given twice", shown(&name)));
            }
            members.insert(name, value);
        }
        Ok(Tree::Object(members))
    }

    /// A time is its number; no other tag means anything here.
    fn tagged(&mut self, depth: usize) -> Result<Tree, Refusal> {
        match self.decoder.tag().map_err(broken)? == Tag::new(EPOCH_TAG) {
            true => self.value(Bounds::deeper(depth)?),
            false => Err("a data item of the body has a tag other than 1".to_owned()),
        }
    }

    /// Whether another item follows in an array or map, of whose declared items `left` are left.
    fn more(&mut self, left: &mut Option<u64>) -> Result<bool, Refusal> {
        if let Some(left) = left {
            let more = *left > 0;
            *left = left.saturating_sub(1);
            return Ok(more);
        }
        let ended = self.decoder.datatype().map_err(broken)? == Type::Break;
        if ended {
            self.decoder.set_position(self.decoder.position() + 1);
        }
        Ok(!ended)
    }
}

fn broken(error: Error) -> Refusal {
    match error.is_end_of_input() {
        true => "the body ends in the middle of a data item".to_owned(),
        false => "the body is not CBOR".to_owned(),
    }
}
