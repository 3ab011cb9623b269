//! Patterns for messages that are JSON.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    JSON_BYTES_MAX, PatternError, SELECTOR_WILDCARDS_MAX, STEPS_MAX,
    condition::Condition,
    cursor::{Cursor, unescape},
    literal::Literals,
    test::Test,
};

/// What a JSON document must be like. A message that is no JSON, that has more than
/// [`JSON_BYTES_MAX`] bytes or more than 127 levels within each other does not match.
#[derive(Debug, Clone)]
pub(super) struct Json {
    condition: Condition<(Selector, JsonTest)>,
}

#[derive(Debug, Clone)]
enum JsonTest {
    Compare(Test),
    IsNull,
    IsBool(bool),
    NotExists,
}

/// What is looked at: `$.a.b[0]`.
#[derive(Debug, Clone)]
struct Selector(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Name(String),
    Index(usize),
    /// Any element of an array or any member of an object.
    Any,
}

impl Json {
    /// Reads `{ ... }`; the brace is next.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        cursor.bump();
        let (mut tests, mut wildcards) = (0, 0);
        let mut test = |cursor: &mut Cursor<'_>| {
            let selector = Selector::parse(cursor, &mut wildcards)?;
            Ok((selector, JsonTest::parse(cursor)?))
        };
        let condition = Condition::parse(cursor, &mut test, &mut tests)?;
        match cursor.eat("}") {
            true => Ok(Self { condition }),
            false => Err(cursor.error(
                "a condition does not end here",
                "write `}` at the end of the pattern, or `&&` or `||` and another condition",
            )),
        }
    }

    pub(super) fn matches(&self, message: &[u8]) -> bool {
        let Some(document) = document(message) else {
            return false;
        };
        self.condition
            .holds(&|(selector, test)| test.passes(selector, &document))
    }

    pub(super) fn literals(&self) -> Literals {
        self.condition.literals(&|(selector, test)| match test {
            JsonTest::NotExists => Literals::none(),
            JsonTest::IsNull | JsonTest::IsBool(_) => selector.literals(),
            JsonTest::Compare(test) => selector
                .literals()
                .and(Literals::of_json_text(test.literal())),
        })
    }
}

/// Reads a message as JSON, if it is an object or an array within the bounds.
pub(crate) fn document(message: &[u8]) -> Option<Value> {
    let message = message.trim_ascii();
    match message.first() {
        Some(b'{' | b'[') if message.len() <= JSON_BYTES_MAX => {
            serde_json::from_slice(message).ok()
        }
        _ => None,
    }
}

impl JsonTest {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        cursor.skip_space();
        let begin = cursor.clone();
        if cursor.eat_word("IS") {
            cursor.skip_space();
            return if cursor.eat_word("NULL") {
                Ok(Self::IsNull)
            } else if cursor.eat_word("TRUE") {
                Ok(Self::IsBool(true))
            } else if cursor.eat_word("FALSE") {
                Ok(Self::IsBool(false))
            } else {
                Err(cursor.error(
                    "`IS` compares with something else",
                    "there are `IS NULL`, `IS TRUE` and `IS FALSE`",
                ))
            };
        }
        if cursor.eat_word("NOT") {
            cursor.skip_space();
            return match cursor.eat_word("EXISTS") {
                true => Ok(Self::NotExists),
                false => Err(cursor.error(
                    "`NOT` stands before something else",
                    "there is `NOT EXISTS`",
                )),
            };
        }
        if cursor.eat_word("EXISTS") {
            return Err(begin.error(
                "`EXISTS` is not supported",
                "write `= *` for a field that has a value",
            ));
        }
        Test::parse(cursor).map(Self::Compare)
    }

    fn passes(&self, selector: &Selector, document: &Value) -> bool {
        match self {
            Self::NotExists => !selector.any(document, &|_| true),
            Self::IsNull => selector.any(document, &Value::is_null),
            Self::IsBool(wanted) => {
                selector.any(document, &|value| value.as_bool() == Some(*wanted))
            }
            // AWS: what is an array or an object, or is not there, passes neither `=` nor `!=`.
            Self::Compare(test) => selector.any(document, &|value| {
                text_of(value).is_some_and(|text| test.passes_text(text.as_bytes()))
            }),
        }
    }
}

/// A string, a number or a boolean as text.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(bool) => Some(Cow::Borrowed(if *bool { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Selector {
    fn parse(cursor: &mut Cursor<'_>, wildcards: &mut usize) -> Result<Self, PatternError> {
        let begin = cursor.clone();
        if !cursor.eat("$") {
            return Err(begin.error("there is no selector", "write `$.` and the name of a field"));
        }
        let (mut steps, wildcards_before) = (Vec::new(), *wildcards);
        loop {
            let here = cursor.clone();
            let step = if cursor.eat("[") || cursor.eat(".[") {
                bracketed(cursor, &here)?
            } else if cursor.eat(".") {
                if cursor.eat("*") {
                    Step::Any
                } else {
                    match cursor
                        .take_while(|next| next.is_alphanumeric() || "_-@#$:/".contains(next))
                    {
                        "" => {
                            return Err(cursor.error(
                                "a selector has no name after its point",
                                "write letters, digits, `-` and `_`, or `[\"any name\"]`",
                            ));
                        }
                        name => Step::Name(name.to_owned()),
                    }
                }
            } else {
                break;
            };
            if matches!(step, Step::Any) {
                *wildcards += 1;
                if *wildcards - wildcards_before > 1 || *wildcards > SELECTOR_WILDCARDS_MAX {
                    let hint =
                        format!("use one in a selector and {SELECTOR_WILDCARDS_MAX} in a pattern");
                    return Err(here.error("there are too many wildcards in selectors", hint));
                }
            }
            if steps.len() == STEPS_MAX {
                return Err(here.error(
                    "a selector is too long",
                    format!("use at most {STEPS_MAX} steps"),
                ));
            }
            steps.push(step);
        }
        match steps.is_empty() {
            true => Err(begin.error(
                "`$` selects the whole document",
                "write `$.` and the name of a field",
            )),
            false => Ok(Self(steps)),
        }
    }

    /// Whether it selects something for which `test` holds.
    fn any(&self, document: &Value, test: &impl Fn(&Value) -> bool) -> bool {
        fn walk(steps: &[Step], value: &Value, test: &impl Fn(&Value) -> bool) -> bool {
            let Some((step, steps)) = steps.split_first() else {
                return test(value);
            };
            match (step, value) {
                (Step::Name(name), Value::Object(members)) => members
                    .get(name)
                    .is_some_and(|value| walk(steps, value, test)),
                (Step::Index(index), Value::Array(elements)) => elements
                    .get(*index)
                    .is_some_and(|value| walk(steps, value, test)),
                (Step::Any, Value::Array(elements)) => {
                    elements.iter().any(|value| walk(steps, value, test))
                }
                (Step::Any, Value::Object(members)) => {
                    members.values().any(|value| walk(steps, value, test))
                }
                _ => false,
            }
        }
        walk(&self.0, document, test)
    }

    fn literals(&self) -> Literals {
        self.0
            .iter()
            .map(|step| match step {
                Step::Name(name) => Literals::of_json_name(name),
                Step::Index(_) | Step::Any => Literals::none(),
            })
            .fold(Literals::none(), Literals::and)
    }
}

/// What is between brackets; the opening one was read.
fn bracketed(cursor: &mut Cursor<'_>, begin: &Cursor<'_>) -> Result<Step, PatternError> {
    cursor.skip_space();
    let here = cursor.clone();
    let step = match cursor.peek() {
        Some('"' | '\'') => Step::Name(unescape(cursor.take_quoted()?)),
        Some('*') => {
            cursor.bump();
            Step::Any
        }
        _ => match cursor.take_while(|next| next.is_ascii_digit()).parse() {
            Ok(index) => Step::Index(index),
            Err(_) => {
                return Err(here.error(
                    "there is no element in the brackets",
                    "write a number from 0, `*`, or a name in quotes",
                ));
            }
        },
    };
    cursor.skip_space();
    match cursor.eat("]") {
        true => Ok(step),
        false => Err(begin.error("a bracket of a selector is not closed", "write `]`")),
    }
}
