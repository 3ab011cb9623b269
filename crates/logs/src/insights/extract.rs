//! What `parse` takes out of a field.

use memchr::memmem;
use regex::bytes::Regex;

use super::{
    event::Event,
    field::{Field, Record},
};

/// A `parse` command. A text that is not as it says leaves its fields without values.
#[derive(Debug, Clone)]
pub(super) struct Extract {
    pub(super) from: Field,
    pub(super) how: How,
    /// Where the values go, in order.
    pub(super) slots: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum How {
    /// What is between the stars of a glob: one piece more than there are stars. Each star takes as
    /// little as it can, one at the end all the rest.
    Glob(Vec<String>),
    /// The groups with these numbers.
    Regex(Regex, Vec<usize>),
}

impl Extract {
    pub(super) fn run(&self, event: &mut Event<'_>) {
        let values = match event.value(&self.from) {
            None => return,
            Some(value) => self.how.values(&value.text()),
        };
        for (slot, value) in self.slots.iter().zip(values) {
            if let Some(value) = value {
                event.set_slot(*slot, value);
            }
        }
    }
}

impl How {
    fn values(&self, text: &str) -> Vec<Option<String>> {
        match self {
            Self::Glob(pieces) => glob(pieces, text).unwrap_or_default(),
            Self::Regex(regex, groups) => {
                let Some(captures) = regex.captures(text.as_bytes()) else {
                    return Vec::new();
                };
                let value =
                    |group: &usize| captures.get(*group).map(|found| lossy(found.as_bytes()));
                groups.iter().map(value).collect()
            }
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn glob(pieces: &[String], text: &str) -> Option<Vec<Option<String>>> {
    let (first, pieces) = pieces.split_first()?;
    let text = text.as_bytes();
    let mut rest = &text[memmem::find(text, first.as_bytes())? + first.len()..];
    let mut values = Vec::with_capacity(pieces.len());
    for (index, piece) in pieces.iter().enumerate() {
        let is_open = piece.is_empty() && index + 1 == pieces.len();
        let end = match is_open {
            true => rest.len(),
            false => memmem::find(rest, piece.as_bytes())?,
        };
        values.push(Some(lossy(&rest[..end])));
        rest = &rest[end + piece.len()..];
    }
    Some(values)
}
