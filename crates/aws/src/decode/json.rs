//! JSON into a tree.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, Visitor},
};

use super::tree::{Bounds, Tree, shown};

/// Reads one JSON value and nothing after it. A member that is given twice is refused, wherever it is.
pub(super) fn parse(text: &str) -> Result<Tree, serde_json::Error> {
    let bounds = Bounds::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let level = Level {
        depth: 0,
        bounds: &bounds,
    };
    let tree = level.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(tree)
}

/// Reads a tree at some depth.
#[derive(Clone, Copy)]
struct Level<'a> {
    depth: usize,
    bounds: &'a Bounds,
}

impl Level<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        Ok(Self {
            depth: Bounds::deeper(self.depth).map_err(E::custom)?,
            bounds: self.bounds,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.bounds.count().map_err(de::Error::custom)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let inner = self.deeper()?;
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Tree::Array(elements))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let inner = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(inner)?;
            if members.contains_key(&name) {
                // Whoever looked at the body before us may have believed the other one.
                return Err(de::Error::custom(format!(
                    "`{}` is given twice",
                    shown(&name)
                )));
            }
            members.insert(name, value);
        }
        Ok(Tree::Object(members))
    }
}
