//! What a value is compared with.

use std::cmp::Ordering;

use super::{
    PatternError, REGEXES_MAX,
    cursor::{Cursor, unescape},
    glob::Glob,
    literal::Literals,
    number::Number,
    regexp::Regexp,
};

/// A comparison: an operator and what is at its right.
#[derive(Debug, Clone)]
pub(super) enum Test {
    /// `<`, `>`, `<=` or `>=` a number.
    Order(Order, Number),
    Is(Wanted),
    IsNot(Wanted),
}

/// What is equal.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Text(Glob),
    /// Written without quotes: also what is the same number.
    Number(Glob, Number),
    Regexp(Regexp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    /// Reads an operator and a value.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        cursor.skip_space();
        let begin = cursor.clone();
        if cursor.eat("==") {
            return Err(begin.error("`==` is no operator", "write `=`"));
        }
        let order = if cursor.eat("!=") {
            return Ok(Self::IsNot(Wanted::parse(cursor)?));
        } else if cursor.eat("=") {
            return Ok(Self::Is(Wanted::parse(cursor)?));
        } else if cursor.eat("<=") {
            Order::LessOrEqual
        } else if cursor.eat("<") {
            Order::Less
        } else if cursor.eat(">=") {
            Order::GreaterOrEqual
        } else if cursor.eat(">") {
            Order::Greater
        } else {
            return Err(begin.error(
                "there is no operator",
                "there are `=`, `!=`, `<`, `<=`, `>` and `>=`, and in JSON `IS NULL`, `IS TRUE`, `IS FALSE` and `NOT EXISTS`",
            ));
        };
        cursor.skip_space();
        let begin = cursor.clone();
        match Number::parse(cursor.take_bare()) {
            Some(number) => Ok(Self::Order(order, number)),
            None => Err(begin.error(
                "`<` and `>` compare with no number",
                "write a number, such as 500, -1.5 or 1e3, or use `=` or `!=`",
            )),
        }
    }

    /// Whether a text passes, which is a number too if it reads like one.
    pub(super) fn passes_text(&self, text: &[u8]) -> bool {
        let number = || Number::parse(str::from_utf8(text).ok()?);
        match self {
            Self::Order(order, right) => number().is_some_and(|left| order.holds(left, *right)),
            Self::Is(wanted) => wanted.is(text, number),
            Self::IsNot(wanted) => !wanted.is(text, number),
        }
    }

    /// What a text must have in it to pass.
    pub(super) fn literal(&self) -> &[u8] {
        match self {
            Self::Is(Wanted::Text(glob)) => glob.longest_piece(),
            Self::Is(Wanted::Regexp(regexp)) => regexp.literal(),
            Self::Is(Wanted::Number(..)) | Self::IsNot(_) | Self::Order(..) => &[],
        }
    }

    /// What a message must have in it for one of its words to pass.
    pub(super) fn literals(&self) -> Literals {
        Literals::of_text(self.literal())
    }
}

impl Wanted {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        cursor.skip_space();
        let begin = cursor.clone();
        match cursor.peek() {
            Some('"') => Ok(Self::Text(Glob::new(&unescape(cursor.take_quoted()?)))),
            Some('%') => {
                let regexp = Regexp::parse(cursor)?;
                match cursor.regexes > REGEXES_MAX {
                    true => Err(begin.error(
                        "there are too many regular expressions",
                        format!("use at most {REGEXES_MAX}"),
                    )),
                    false => Ok(Self::Regexp(regexp)),
                }
            }
            _ => match cursor.take_bare() {
                "" => Err(begin.error("there is no value", "write a number, a word, `\"a text\"` or `%regex%`")),
                bare if bare.contains(['"', '(', '[', '{', '=', '<', '>']) => Err(begin.error(
                    format!("`{bare}` is no value"),
                    "put it in quotes if it is a text, or write `&&` or `||` before the next condition",
                )),
                bare => Ok(match Number::parse(bare) {
                    Some(number) => Self::Number(Glob::new(bare), number),
                    None => Self::Text(Glob::new(bare)),
                }),
            },
        }
    }

    fn is(&self, text: &[u8], number: impl FnOnce() -> Option<Number>) -> bool {
        match self {
            Self::Text(glob) => glob.matches(text),
            Self::Number(glob, right) => {
                glob.matches(text)
                    || number().is_some_and(|left| left.compare(*right) == Some(Ordering::Equal))
            }
            Self::Regexp(regexp) => regexp.matches(text),
        }
    }
}

impl Order {
    fn holds(self, left: Number, right: Number) -> bool {
        match (self, left.compare(right)) {
            (_, None) => false,
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::LessOrEqual, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::GreaterOrEqual, Some(order)) => order.is_ge(),
        }
    }
}
