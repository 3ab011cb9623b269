//! Event patterns of EventBridge: which events a rule is about.
//!
//! A pattern is a JSON object that looks like the events it matches: where an event has a value, the pattern has
//! an array of what the value may be, and a field that the pattern does not name may be anything. What stands in
//! the arrays is a string, number, boolean or `null` for exactly that, or an object with one of `prefix`,
//! `suffix`, `equals-ignore-case`, `wildcard`, `anything-but`, `numeric`, `cidr` and `exists` (EventBridge User
//! Guide, "Comparison operators for use in event patterns"). `$or` holds two objects or more, of which one must match.
//!
//! An array in an event matches when one of its elements does. Where it holds objects, all that a pattern says of
//! their fields must be true of one of them; `exists: false` alone is about all of them.
//!
//! Matching takes time in proportion to the pattern and the event, times the longest `wildcard` at worst.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Number, Value};

/// The longest pattern, in characters: EventBridge's.
pub const PATTERN_CHARS_MAX: usize = 4096;

/// How deep a pattern may go, `$or` included.
pub const PATTERN_DEPTH_MAX: usize = 50;

/// The longest `wildcard`, in bytes.
pub const WILDCARD_BYTES_MAX: usize = 512;

/// The greatest number in a `numeric`, and the least with a minus: EventBridge's.
pub const NUMERIC_MAX: f64 = 5_000_000_000.0;

/// What `prefix`, `suffix` and the like are called, all of them.
const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
];

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPattern {
    fields: Fields,
    /// The paths that an `exists: false` is about, by its number.
    absences: Vec<Vec<String>>,
}

/// Why a pattern was not understood, as a sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(String);

/// All of them must match.
#[derive(Debug, Clone, PartialEq, Default)]
struct Fields {
    named: Vec<(String, Field)>,
    /// Of each of these, one must.
    either: Vec<Vec<Fields>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    /// Below it is more.
    Nested(Fields),
    /// One of them must match.
    OneOf(Vec<Matcher>),
}

#[derive(Debug, Clone, PartialEq)]
enum Matcher {
    Exactly(Scalar),
    Text(TextMatcher),
    AnythingBut(Vec<Scalar>),
    AnythingButText(Vec<TextMatcher>),
    Numeric(Vec<(Comparison, f64)>),
    Cidr(IpNet),
    Exists,
    /// The number of its path.
    Absent(usize),
}

#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
enum TextMatcher {
    Prefix(String),
    Suffix(String),
    /// In lower case, as are the two below.
    Same(String),
    PrefixIgnoringCase(String),
    SuffixIgnoringCase(String),
    Wildcard(Vec<Token>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Any bytes, or none.
    Any,
    Byte(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl EventPattern {
    /// Understands a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] says what is wrong where.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.chars().count() > PATTERN_CHARS_MAX {
            return Err(InvalidPattern(format!(
                "it has more than {PATTERN_CHARS_MAX} characters"
            )));
        }
        let value = serde_json::from_str(text)
            .map_err(|error| InvalidPattern(format!("it is not JSON: {error}")))?;
        let Value::Object(object) = value else {
            return Err(InvalidPattern("it must be a JSON object".to_owned()));
        };
        let mut parser = Parser::default();
        let fields = parser.fields(&object, 1)?;
        Ok(Self {
            fields,
            absences: parser.absences,
        })
    }

    /// Whether it is about an event.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        let absent: Vec<bool> = self
            .absences
            .iter()
            .map(|path| !has_leaf(event, path))
            .collect();
        self.fields.match_one(event, &absent)
    }
}

#[derive(Default)]
struct Parser {
    path: Vec<String>,
    absences: Vec<Vec<String>>,
}

impl Parser {
    fn invalid(&self, what: impl AsRef<str>) -> InvalidPattern {
        match self.path.as_slice() {
            [] => InvalidPattern(what.as_ref().to_owned()),
            path => InvalidPattern(format!("at `{}`: {}", path.join("."), what.as_ref())),
        }
    }

    fn fields(
        &mut self,
        object: &Map<String, Value>,
        depth: usize,
    ) -> Result<Fields, InvalidPattern> {
        if depth > PATTERN_DEPTH_MAX {
            return Err(self.invalid(format!("it goes deeper than {PATTERN_DEPTH_MAX} levels")));
        }
        if object.is_empty() {
            return Err(self.invalid("empty objects are not allowed"));
        }
        let mut fields = Fields::default();
        for (name, value) in object {
            if name == "$or"
                && let Some(branches) = branches(value)
            {
                if branches.len() < 2 {
                    return Err(self.invalid("`$or` needs two objects or more"));
                }
                let branches = branches.iter().map(|one| self.fields(one, depth + 1));
                fields.either.push(branches.collect::<Result<_, _>>()?);
                continue;
            }
            self.path.push(name.clone());
            let field = match value {
                Value::Object(object) => Field::Nested(self.fields(object, depth + 1)?),
                Value::Array(array) if array.is_empty() => {
                    return Err(self.invalid("empty arrays are not allowed"));
                }
                Value::Array(array) => {
                    let matchers = array.iter().map(|one| self.matcher(one));
                    Field::OneOf(matchers.collect::<Result<_, _>>()?)
                }
                _ => {
                    return Err(self.invalid(
                        "it must be an object, or an array of what the value may be, such as `[\"a\"]`",
                    ));
                }
            };
            self.path.pop();
            fields.named.push((name.clone(), field));
        }
        Ok(fields)
    }

    fn matcher(&mut self, value: &Value) -> Result<Matcher, InvalidPattern> {
        let object = match value {
            Value::Object(object) => object,
            Value::Array(_) => return Err(self.invalid("an array cannot hold arrays")),
            scalar => {
                return Ok(Matcher::Exactly(
                    Scalar::of(scalar).expect("it is no array or object"),
                ));
            }
        };
        let (operator, value) = self.only(object)?;
        match operator {
            "exists" => match value {
                Value::Bool(true) => Ok(Matcher::Exists),
                Value::Bool(false) => {
                    self.absences.push(self.path.clone());
                    Ok(Matcher::Absent(self.absences.len() - 1))
                }
                _ => Err(self.invalid("`exists` must be `true` or `false`")),
            },
            "numeric" => self.numeric(value),
            "cidr" => {
                let text = self.text(operator, value)?;
                text.parse().map(Matcher::Cidr).map_err(|_| {
                    self.invalid(format!(
                        "`cidr` must be an address and a length, such as `10.0.0.0/24`, not `{text}`"
                    ))
                })
            }
            "anything-but" => self.anything_but(value),
            _ => self.text_matcher(operator, value).map(Matcher::Text),
        }
    }

    /// The one member of an operator's object.
    fn only<'a>(
        &self,
        object: &'a Map<String, Value>,
    ) -> Result<(&'a str, &'a Value), InvalidPattern> {
        let mut members = object.iter();
        match (members.next(), members.next()) {
            (Some((name, value)), None) if OPERATORS.contains(&name.as_str()) => Ok((name, value)),
            (Some((name, _)), None) => Err(self.invalid(format!(
                "`{name}` is not a way to compare; there are {}",
                OPERATORS.join(", ")
            ))),
            _ => Err(self.invalid(
                "an object in an array must have one member that says how to compare, such as `{\"prefix\": \"a\"}`",
            )),
        }
    }

    fn text<'a>(&self, operator: &str, value: &'a Value) -> Result<&'a str, InvalidPattern> {
        value
            .as_str()
            .ok_or_else(|| self.invalid(format!("`{operator}` must be a string")))
    }

    fn text_matcher(&self, operator: &str, value: &Value) -> Result<TextMatcher, InvalidPattern> {
        if let ("prefix" | "suffix", Value::Object(object)) = (operator, value) {
            let ("equals-ignore-case", value) = self.only(object)? else {
                return Err(self.invalid(format!(
                    "`{operator}` takes a string or `equals-ignore-case`"
                )));
            };
            let text = self.text("equals-ignore-case", value)?.to_lowercase();
            return Ok(match operator {
                "prefix" => TextMatcher::PrefixIgnoringCase(text),
                _ => TextMatcher::SuffixIgnoringCase(text),
            });
        }
        let text = self.text(operator, value)?;
        match operator {
            "prefix" => Ok(TextMatcher::Prefix(text.to_owned())),
            "suffix" => Ok(TextMatcher::Suffix(text.to_owned())),
            "equals-ignore-case" => Ok(TextMatcher::Same(text.to_lowercase())),
            "wildcard" => self.wildcard(text).map(TextMatcher::Wildcard),
            other => Err(self.invalid(format!("`{other}` cannot stand here"))),
        }
    }

    fn wildcard(&self, text: &str) -> Result<Vec<Token>, InvalidPattern> {
        if text.len() > WILDCARD_BYTES_MAX {
            return Err(self.invalid(format!(
                "a `wildcard` has more than {WILDCARD_BYTES_MAX} bytes"
            )));
        }
        let mut tokens = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            tokens.push(match byte {
                b'*' if tokens.last() == Some(&Token::Any) => {
                    return Err(self.invalid("a `wildcard` has two `*` side by side"));
                }
                b'*' => Token::Any,
                b'\\' => match bytes.next() {
                    Some(escaped @ (b'*' | b'\\')) => Token::Byte(escaped),
                    _ => {
                        return Err(self.invalid(
                            "in a `wildcard`, `\\` stands before `*` or `\\` and nothing else",
                        ));
                    }
                },
                byte => Token::Byte(byte),
            });
        }
        Ok(tokens)
    }

    fn anything_but(&self, value: &Value) -> Result<Matcher, InvalidPattern> {
        let several = |value: &Value| match value {
            Value::Array(array) => array.clone(),
            one => vec![one.clone()],
        };
        if let Value::Object(object) = value {
            let (operator, value) = self.only(object)?;
            let several = several(value);
            if several.is_empty() {
                return Err(self.invalid("`anything-but` needs at least one value"));
            }
            let several = several.iter().map(|one| self.text_matcher(operator, one));
            return Ok(Matcher::AnythingButText(several.collect::<Result<_, _>>()?));
        }
        let several = several(value);
        if several.is_empty() {
            return Err(self.invalid("`anything-but` needs at least one value"));
        }
        let scalars = several.iter().map(|one| match one {
            Value::String(_) | Value::Number(_) => {
                Ok(Scalar::of(one).expect("it is no array or object"))
            }
            _ => Err(self.invalid("`anything-but` takes strings and numbers")),
        });
        Ok(Matcher::AnythingBut(scalars.collect::<Result<_, _>>()?))
    }

    fn numeric(&self, value: &Value) -> Result<Matcher, InvalidPattern> {
        const EXPECTED: &str = "`numeric` must be an array of a comparison and a number, such as `[\"=\", 5]`, or \
                                of a lower and an upper bound, such as `[\">\", 0, \"<=\", 5]`";
        let wrong = || self.invalid(EXPECTED);
        let array = value.as_array().ok_or_else(wrong)?;
        let (pairs, rest) = array.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(wrong());
        }
        let mut comparisons = Vec::new();
        for [comparison, number] in pairs {
            let comparison = match comparison.as_str() {
                Some("=") => Comparison::Equal,
                Some("<") => Comparison::Less,
                Some("<=") => Comparison::LessOrEqual,
                Some(">") => Comparison::Greater,
                Some(">=") => Comparison::GreaterOrEqual,
                _ => return Err(wrong()),
            };
            let number = number.as_f64().ok_or_else(wrong)?;
            if !(-NUMERIC_MAX..=NUMERIC_MAX).contains(&number) {
                return Err(self.invalid(format!(
                    "a number in `numeric` must be within -{NUMERIC_MAX} and {NUMERIC_MAX}"
                )));
            }
            comparisons.push((comparison, number));
        }
        use Comparison as C;
        match comparisons.as_slice() {
            [_] => Ok(Matcher::Numeric(comparisons)),
            [
                (C::Greater | C::GreaterOrEqual, low),
                (C::Less | C::LessOrEqual, high),
            ] => {
                if low >= high {
                    return Err(
                        self.invalid("the lower bound of a `numeric` must be below the upper")
                    );
                }
                Ok(Matcher::Numeric(comparisons))
            }
            _ => Err(wrong()),
        }
    }
}

/// The branches of an `$or`; `None` when it is a field of that name after all.
fn branches(value: &Value) -> Option<Vec<&Map<String, Value>>> {
    let objects: Option<Vec<_>> = value.as_array()?.iter().map(Value::as_object).collect();
    let objects = objects.filter(|objects| !objects.is_empty())?;
    let compares = |object: &&Map<String, Value>| {
        object.len() == 1 && object.keys().all(|key| OPERATORS.contains(&key.as_str()))
    };
    (!objects.iter().any(compares)).then_some(objects)
}

impl Fields {
    fn match_one(&self, one: &Value, absent: &[bool]) -> bool {
        let named = self.named.iter().all(|(name, field)| {
            let value = one.get(name);
            match field {
                Field::OneOf(matchers) => matchers
                    .iter()
                    .any(|matcher| matcher.matches(value, absent)),
                Field::Nested(fields) => match value {
                    Some(Value::Array(array)) => fields.match_any(array, absent),
                    // What is not there has no fields, which can be what is wanted.
                    value => fields.match_one(value.unwrap_or(&Value::Null), absent),
                },
            }
        });
        named
            && self
                .either
                .iter()
                .all(|branches| branches.iter().any(|branch| branch.match_one(one, absent)))
    }

    fn match_any(&self, array: &[Value], absent: &[bool]) -> bool {
        if array.is_empty() {
            return self.match_one(&Value::Null, absent);
        }
        array.iter().any(|one| match one {
            Value::Array(inner) => self.match_any(inner, absent),
            one => self.match_one(one, absent),
        })
    }
}

impl Matcher {
    fn matches(&self, value: Option<&Value>, absent: &[bool]) -> bool {
        if let Self::Absent(number) = self {
            return absent.get(*number).copied().unwrap_or(false);
        }
        value.is_some_and(|value| any_leaf(value, &|leaf| self.matches_leaf(leaf)))
    }

    fn matches_leaf(&self, leaf: &Value) -> bool {
        match self {
            Self::Exactly(scalar) => scalar.is(leaf),
            Self::Text(matcher) => leaf.as_str().is_some_and(|text| matcher.matches(text)),
            Self::AnythingBut(scalars) => !scalars.iter().any(|scalar| scalar.is(leaf)),
            Self::AnythingButText(matchers) => !leaf
                .as_str()
                .is_some_and(|text| matchers.iter().any(|matcher| matcher.matches(text))),
            Self::Numeric(comparisons) => leaf.as_f64().is_some_and(|number| {
                let mut comparisons = comparisons.iter();
                comparisons.all(|(comparison, with)| comparison.holds(number, *with))
            }),
            Self::Cidr(net) => leaf
                .as_str()
                .and_then(|text| text.parse::<IpAddr>().ok())
                .is_some_and(|address| net.contains(&address)),
            Self::Exists => true,
            Self::Absent(_) => false,
        }
    }
}

impl Scalar {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// Numbers are the same as they are written: `300` is not `300.0` (EventBridge User Guide).
    fn is(&self, leaf: &Value) -> bool {
        match (self, leaf) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(one), Value::Bool(other)) => one == other,
            (Self::Number(one), Value::Number(other)) => one == other,
            (Self::Text(one), Value::String(other)) => one == other,
            _ => false,
        }
    }
}

impl TextMatcher {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Same(same) => text.to_lowercase() == *same,
            Self::PrefixIgnoringCase(prefix) => text.to_lowercase().starts_with(prefix.as_str()),
            Self::SuffixIgnoringCase(suffix) => text.to_lowercase().ends_with(suffix.as_str()),
            Self::Wildcard(tokens) => matches_wildcard(tokens, text.as_bytes()),
        }
    }
}

impl Comparison {
    fn holds(self, number: f64, with: f64) -> bool {
        match self {
            Self::Equal => number == with,
            Self::Less => number < with,
            Self::LessOrEqual => number <= with,
            Self::Greater => number > with,
            Self::GreaterOrEqual => number >= with,
        }
    }
}

/// As [`crate::wildcard::matches`] does it, with bytes that are meant as they are.
fn matches_wildcard(tokens: &[Token], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match tokens.get(at) {
            Some(Token::Any) => {
                star = Some((at, place));
                at += 1;
            }
            Some(Token::Byte(byte)) if *byte == text[place] => {
                (at, place) = (at + 1, place + 1);
            }
            _ => match star {
                Some((star_at, swallowed_to)) => {
                    star = Some((star_at, swallowed_to + 1));
                    (at, place) = (star_at + 1, swallowed_to + 1);
                }
                None => return false,
            },
        }
    }
    tokens[at..].iter().all(|token| *token == Token::Any)
}

/// Whether a value, or one in it if it is an array, is neither array nor object and as wanted.
fn any_leaf(value: &Value, wanted: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(array) => array.iter().any(|one| any_leaf(one, wanted)),
        Value::Object(_) => false,
        leaf => wanted(leaf),
    }
}

/// Whether there is a value at the end of a path, whichever elements of arrays it goes through.
fn has_leaf(value: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Array(array), path) => array.iter().any(|one| has_leaf(one, path)),
        (value, []) => any_leaf(value, &|_| true),
        (value, [name, path @ ..]) => value.get(name).is_some_and(|value| has_leaf(value, path)),
    }
}

#[cfg(test)]
mod tests;
