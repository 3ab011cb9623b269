//! Patterns for lines whose fields are separated by spaces.
//!
//! What is in quotes or brackets is one field. Without an ellipsis the last field of the pattern takes
//! the rest of the line, so that `[w1=ERROR, w2]` is about every line of at least two words whose first
//! is `ERROR`, as the documentation says. With one, the fields before it are the first ones of the line
//! and those after it the last ones.

use std::collections::VecDeque;

use super::{
    FIELDS_MAX, PatternError, condition::Condition, cursor::Cursor, literal::Literals, test::Test,
};

/// What the fields of a line must be like.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    first: Vec<Field>,
    /// Those after the ellipsis, if there is one.
    last: Option<Vec<Field>>,
}

/// One of them; `None` if it need only be there.
type Field = Option<Condition<Test>>;

impl Fields {
    /// Reads `[...]`; the bracket is next.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        cursor.bump();
        let (mut first, mut last, mut tests) = (Vec::new(), None, 0);
        loop {
            cursor.skip_space();
            let here = cursor.clone();
            if cursor.eat("...") {
                if last.is_some() {
                    return Err(here.error("there are two ellipses", "use one `...`"));
                }
                last = Some(Vec::new());
            } else {
                let field = field(cursor, &mut tests)?;
                let fields = last.as_mut().unwrap_or(&mut first);
                fields.push(field);
            }
            if first.len() + last.as_ref().map_or(0, Vec::len) > FIELDS_MAX {
                return Err(here.error(
                    "there are too many fields",
                    format!("use at most {FIELDS_MAX}"),
                ));
            }
            cursor.skip_space();
            if cursor.eat("]") {
                return Ok(Self { first, last });
            }
            if !cursor.eat(",") {
                return Err(cursor.error(
                    "a field does not end here",
                    "write `,` before the next field, `&&` or `||` before another condition, or `]` at the end",
                ));
            }
        }
    }

    pub(super) fn matches(&self, line: &[u8]) -> bool {
        let mut words = Words { rest: line };
        for (index, field) in self.first.iter().enumerate() {
            let is_last = self.last.is_none() && index + 1 == self.first.len();
            let Some(word) = (if is_last { words.all() } else { words.next() }) else {
                return false;
            };
            if !passes(field, word) {
                return false;
            }
        }
        let Some(last) = &self.last else {
            return true;
        };
        let mut window = VecDeque::with_capacity(last.len());
        for word in words {
            if window.len() == last.len() {
                window.pop_front();
            }
            if !last.is_empty() {
                window.push_back(word);
            }
        }
        window.len() == last.len()
            && last
                .iter()
                .zip(window)
                .all(|(field, word)| passes(field, word))
    }

    pub(super) fn literals(&self) -> Literals {
        self.first
            .iter()
            .chain(self.last.iter().flatten())
            .flatten()
            .map(|condition| condition.literals(&Test::literals))
            .fold(Literals::none(), Literals::and)
    }
}

fn passes(field: &Field, word: &[u8]) -> bool {
    match field {
        None => true,
        Some(condition) => condition.holds(&|test: &Test| test.passes_text(word)),
    }
}

/// A name, or conditions that all have the same name at their left.
fn field(cursor: &mut Cursor<'_>, tests: &mut usize) -> Result<Field, PatternError> {
    let begin = cursor.clone();
    if cursor.peek() != Some('(') {
        name(cursor)?;
        cursor.skip_space();
        if matches!(cursor.peek(), Some(',' | ']')) {
            return Ok(None);
        }
        *cursor = begin;
    }
    let mut first: Option<String> = None;
    let mut test = |cursor: &mut Cursor<'_>| {
        let here = cursor.clone();
        let name = name(cursor)?;
        let first = first.get_or_insert_with(|| name.to_owned());
        match first.eq_ignore_ascii_case(name) {
            true => Test::parse(cursor),
            false => Err(here.error(
                "conditions of one field have different names",
                "use the same name, or `,` before the next field",
            )),
        }
    };
    Condition::parse(cursor, &mut test, tests).map(Some)
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, PatternError> {
    match cursor.take_while(|next| next.is_alphanumeric() || "_-.@$".contains(next)) {
        "" => Err(cursor.error(
            "a field has no name",
            "write a name of letters, digits, `-` and `_`, or `...` for any number of fields",
        )),
        name => Ok(name),
    }
}

/// The fields of a line.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// Everything that is left, without quotes or brackets if it is one field.
    fn all(&mut self) -> Option<&'a [u8]> {
        let all = self.rest.trim_ascii();
        let word = self.next()?;
        match self.rest.trim_ascii().is_empty() {
            true => Some(word),
            false => Some(all),
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.trim_ascii_start();
        let enclosed = match rest.first()? {
            b'"' => closing_quote(rest),
            b'[' => memchr::memchr(b']', rest),
            _ => None,
        };
        let (word, rest) = match enclosed {
            Some(end) => (&rest[1..end], &rest[end + 1..]),
            None => rest.split_at(
                rest.iter()
                    .position(u8::is_ascii_whitespace)
                    .unwrap_or(rest.len()),
            ),
        };
        self.rest = rest;
        Some(word)
    }
}

/// Where the quote that is first is closed; `\"` does not close it.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
