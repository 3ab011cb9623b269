//! Bytes without which a message cannot match.

/// What must be in a message, all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Literals(Vec<Literal>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Literal {
    bytes: Vec<u8>,
    kind: Kind,
}

/// Names of JSON fields are in most messages, values in few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Name,
    Value,
}

impl Literals {
    /// Nothing is known.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// A text that must be there as it is.
    pub(crate) fn of_text(text: impl AsRef<[u8]>) -> Self {
        Self::of(text.as_ref(), Kind::Value)
    }

    /// A part of a JSON string that must be there, as far as every encoder writes it alike. Digits alone
    /// do not count: a number may be written in several ways.
    pub(crate) fn of_json_text(text: impl AsRef<[u8]>) -> Self {
        let run = longest_plain_run(text.as_ref());
        match run.iter().all(|byte| b"0123456789+-.eE".contains(byte)) {
            true => Self::none(),
            false => Self::of(run, Kind::Value),
        }
    }

    /// The name of a JSON field.
    pub(crate) fn of_json_name(name: &str) -> Self {
        Self::of(longest_plain_run(name.as_bytes()), Kind::Name)
    }

    fn of(bytes: &[u8], kind: Kind) -> Self {
        match bytes.is_empty() {
            true => Self::none(),
            false => Self(vec![Literal {
                bytes: bytes.to_vec(),
                kind,
            }]),
        }
    }

    /// What must be there if both are the case.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What must be there whichever is the case.
    #[must_use]
    pub(crate) fn or(mut self, other: &Self) -> Self {
        self.0.retain(|literal| other.0.contains(literal));
        self
    }

    /// The one that is in the fewest messages, as far as that can be told.
    pub(crate) fn best(self) -> Option<Vec<u8>> {
        let best = self
            .0
            .into_iter()
            .max_by_key(|literal| (literal.kind, literal.bytes.len()))?;
        Some(best.bytes)
    }
}

/// The longest part that JSON encoders leave as it is. Some escape more than they must: `/`, `<`, `>`,
/// `&`, `'`, `+`, `=` and the backtick, and all beyond ASCII.
fn longest_plain_run(text: &[u8]) -> &[u8] {
    text.split(|byte| !(byte.is_ascii_alphanumeric() || b" _-.:@,;#$".contains(byte)))
        .max_by_key(|run| run.len())
        .unwrap_or_default()
}
