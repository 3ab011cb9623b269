//! Where in a pattern its parser is.

use super::PatternError;

/// A pattern, read from left to right.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
    /// Regular expressions that were read.
    pub(super) regexes: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let (at, regexes) = (0, 0);
        Self { text, at, regexes }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Goes over `what` if it is next.
    pub(super) fn eat(&mut self, what: &str) -> bool {
        let is_next = self.rest().starts_with(what);
        if is_next {
            self.at += what.len();
        }
        is_next
    }

    /// Goes over a word, in any case, if it is next and ends where a word ends.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let is_next = rest
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_');
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    pub(super) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    pub(super) fn take_while(&mut self, is_in: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|next| !is_in(next)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What is next up to the first space, comma, closing bracket or operator. `&` and `|` are part of
    /// it when there is only one of them.
    pub(super) fn take_bare(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(at, next)| {
                next.is_whitespace()
                    || ",)]}".contains(*next)
                    || rest[*at..].starts_with("&&")
                    || rest[*at..].starts_with("||")
            })
            .map_or(rest.len(), |(at, _)| at);
        self.at += end;
        &rest[..end]
    }

    /// What is in quotes, without them and with `\"` and `\\` as they were; the opening quote is next.
    pub(super) fn take_quoted(&mut self) -> Result<&'a str, PatternError> {
        let begin = self.clone();
        let quote = self.bump();
        let from = self.at;
        loop {
            match self.bump() {
                None => {
                    return Err(begin.error(
                        "a quote is not closed",
                        "add the closing quote, or write `\\\"` for a quote that is meant",
                    ));
                }
                Some('\\') => {
                    self.bump();
                }
                next if next == quote => return Ok(&self.text[from..self.at - 1]),
                Some(_) => {}
            }
        }
    }

    /// An error here.
    pub(super) fn error(&self, what: impl Into<String>, hint: impl Into<String>) -> PatternError {
        PatternError {
            what: what.into(),
            column: self.text[..self.at].chars().count() + 1,
            hint: hint.into(),
        }
    }
}

/// A text from within quotes, without the escapes of quotes and backslashes.
pub(super) fn unescape(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '\\' => match chars.next_if(|next| matches!(next, '"' | '\'' | '\\')) {
                Some(escaped) => text.push(escaped),
                None => text.push('\\'),
            },
            next => text.push(next),
        }
    }
    text
}
