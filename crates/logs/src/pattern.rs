//! Filter patterns of CloudWatch Logs: which messages a search, a filter or a tail is about.
//!
//! Four kinds, told apart by how they begin: terms (`ERROR -timeout "a phrase"`), a regular expression
//! (`%4\d\d%`), JSON (`{ $.status >= 500 }`) and fields of a space-delimited line
//! (`[ip, ..., status = 5*, bytes]`). The syntax is that of "Filter pattern syntax" in the Amazon
//! CloudWatch Logs User Guide; what it leaves open is said where it is decided, and refused when there
//! is no telling what was meant.
//!
//! Matching takes time in proportion to the message, whatever the pattern, and memory only for JSON.

mod condition;
mod cursor;
mod fields;
mod glob;
pub(crate) mod json;
pub(crate) mod literal;
pub(crate) mod number;
mod regexp;
mod terms;
mod test;

use memchr::memmem::Finder;

use self::{
    cursor::Cursor, fields::Fields, json::Json, literal::Literals, regexp::Regexp, terms::Terms,
};

/// Characters of a pattern, as in the service model of CloudWatch Logs.
pub const PATTERN_CHARS_MAX: usize = 1024;
/// Terms of an unstructured pattern.
pub const TERMS_MAX: usize = 128;
/// Conditions of a JSON pattern or of a space-delimited one.
pub const CONDITIONS_MAX: usize = 128;
/// Parentheses within each other.
pub const DEPTH_MAX: usize = 32;
/// Fields of a space-delimited pattern.
pub const FIELDS_MAX: usize = 128;
/// Steps of a JSON selector: `$.a.b[0]` has three.
pub const STEPS_MAX: usize = 32;
/// Regular expressions in a JSON or a space-delimited pattern, as AWS has it.
pub const REGEXES_MAX: usize = 2;
/// Wildcards in the selectors of a JSON pattern, as AWS has it; each selector may have one.
pub const SELECTOR_WILDCARDS_MAX: usize = 3;
/// What a regular expression may take when compiled, and again while it runs.
pub const REGEX_BYTES_MAX: usize = 1 << 20;
/// A longer message is not looked into as JSON. An event of CloudWatch Logs has at most 1 MiB.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// What a message must be like.
#[derive(Debug, Clone)]
pub struct Pattern {
    kind: Kind,
    literal: Option<Finder<'static>>,
}

#[derive(Debug, Clone)]
enum Kind {
    Everything,
    Terms(Terms),
    Regexp(Regexp),
    Json(Json),
    Fields(Fields),
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at character {column} of the filter pattern: {hint}")]
pub struct PatternError {
    /// What is wrong.
    pub what: String,
    /// Where, in characters; the first is 1.
    pub column: usize,
    /// What to do about it.
    pub hint: String,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Whatever is not a filter pattern of CloudWatch Logs, or above one of the bounds of this module.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut cursor = Cursor::new(text);
        if text.chars().count() > PATTERN_CHARS_MAX {
            return Err(PatternError {
                what: "the pattern is too long".to_owned(),
                column: PATTERN_CHARS_MAX + 1,
                hint: format!("use at most {PATTERN_CHARS_MAX} characters"),
            });
        }
        cursor.skip_space();
        let kind = match cursor.peek() {
            None => Kind::Everything,
            Some('{') => Kind::Json(Json::parse(&mut cursor)?),
            Some('[') => Kind::Fields(Fields::parse(&mut cursor)?),
            Some('%') => Kind::Regexp(Regexp::parse(&mut cursor)?),
            Some(_) => match Terms::parse(&mut cursor)? {
                terms if terms.is_empty() => Kind::Everything,
                terms => Kind::Terms(terms),
            },
        };
        cursor.skip_space();
        if cursor.peek().is_some() {
            return Err(cursor.error(
                "there is something after the pattern",
                "a pattern is of one kind: terms, `%regex%`, `{ JSON }` or `[fields]`",
            ));
        }
        let literals = match &kind {
            Kind::Everything => Literals::none(),
            Kind::Terms(terms) => terms.literals(),
            Kind::Regexp(regexp) => regexp.literals(),
            Kind::Json(json) => json.literals(),
            Kind::Fields(fields) => fields.literals(),
        };
        let literal = literals
            .best()
            .map(|bytes| Finder::new(&bytes).into_owned());
        Ok(Self { kind, literal })
    }

    /// Whether a message is as the pattern says. It need not be UTF-8.
    #[must_use]
    pub fn matches(&self, message: impl AsRef<[u8]>) -> bool {
        let message = message.as_ref();
        if let Some(literal) = &self.literal
            && literal.find(message).is_none()
        {
            return false;
        }
        match &self.kind {
            Kind::Everything => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Regexp(regexp) => regexp.matches(message),
            Kind::Json(json) => json.matches(message),
            Kind::Fields(fields) => fields.matches(message),
        }
    }

    /// Bytes, at least one, that every message that matches has in it; `None` when nothing can be said.
    ///
    /// Of JSON these are texts and names whose characters no encoder is known to escape. A message
    /// that spells one of them with escapes nevertheless (`\u0041` for `A`) does not match.
    #[must_use]
    pub fn required_literal(&self) -> Option<&[u8]> {
        self.literal.as_ref().map(Finder::needle)
    }

    /// Whether every message matches.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        matches!(self.kind, Kind::Everything)
    }
}

#[cfg(test)]
mod tests;
