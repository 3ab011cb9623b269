//! Patterns for messages of any form: words and phrases.

use memchr::memmem::Finder;

use super::{
    PatternError, TERMS_MAX,
    cursor::{Cursor, unescape},
    literal::Literals,
};

/// Words and phrases, as parts of a message; upper and lower case are not the same.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// All must be there.
    all: Vec<Finder<'static>>,
    /// One of them must be there, if there are any.
    any: Vec<Finder<'static>>,
    /// None of them may be there.
    none: Vec<Finder<'static>>,
}

impl Terms {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        let (mut all, mut any, mut none) = (Vec::new(), Vec::new(), Vec::new());
        cursor.skip_space();
        while cursor.peek().is_some() {
            if all.len() + any.len() + none.len() == TERMS_MAX {
                return Err(cursor.error(
                    "there are too many terms",
                    format!("use at most {TERMS_MAX}"),
                ));
            }
            let list = match cursor.peek() {
                Some('?') => &mut any,
                Some('-') => &mut none,
                _ => &mut all,
            };
            if matches!(cursor.peek(), Some('?' | '-')) {
                cursor.bump();
            }
            let term = term(cursor)?;
            // AWS: `" "` matches everything.
            if !term.trim().is_empty() {
                list.push(Finder::new(term.as_bytes()).into_owned());
            }
            cursor.skip_space();
        }
        // AWS: "If you combine ? with other filter patterns, all question mark terms will be ignored."
        if !(all.is_empty() && none.is_empty()) {
            any.clear();
        }
        Ok(Self { all, any, none })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.any.is_empty() && self.none.is_empty()
    }

    pub(super) fn matches(&self, message: &[u8]) -> bool {
        let is_in = |term: &Finder<'static>| term.find(message).is_some();
        self.all.iter().all(is_in)
            && (self.any.is_empty() || self.any.iter().any(is_in))
            && !self.none.iter().any(is_in)
    }

    pub(super) fn literals(&self) -> Literals {
        let all = match (self.all.as_slice(), self.any.as_slice()) {
            ([], [only]) => std::slice::from_ref(only),
            (all, _) => all,
        };
        all.iter()
            .map(|term| Literals::of_text(term.needle()))
            .fold(Literals::none(), Literals::and)
    }
}

fn term(cursor: &mut Cursor<'_>) -> Result<String, PatternError> {
    let begin = cursor.clone();
    if cursor.peek() == Some('"') {
        let phrase = unescape(cursor.take_quoted()?);
        return match cursor.peek() {
            Some(next) if !next.is_whitespace() => Err(cursor.error(
                "a phrase does not end with its quote",
                "put a space after the closing quote, or write `\\\"` for a quote that is meant",
            )),
            _ => Ok(phrase),
        };
    }
    let word = cursor.take_while(|next| !next.is_whitespace());
    match word {
        "" => Err(begin.error(
            "`?` and `-` stand before no term",
            "write the term right behind it, or `\"-\"` for the character",
        )),
        "||" | "&&" => Err(begin.error(
            format!("`{word}` is no operator between terms"),
            "terms next to each other must all be there; put `?` before each for any of them",
        )),
        _ if word.starts_with('%') => Err(begin.error(
            "a regular expression stands beside terms",
            "use it alone, as `%regex%`, or put the term in quotes",
        )),
        _ if word.contains('"') => Err(begin.error(
            "a term has a quote in it",
            "put the whole term in quotes, with `\\\"` for the quote in it",
        )),
        _ => Ok(word.to_owned()),
    }
}
