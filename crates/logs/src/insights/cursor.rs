//! Where in a query its parser is.

use super::QueryError;

/// A query, read from left to right. Comments count as spaces.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

/// Keywords, which are no names unless they are in backticks.
const KEYWORDS: [&str; 9] = ["and", "or", "not", "in", "like", "as", "by", "asc", "desc"];

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// What was read since `begin`.
    pub(super) fn since(&self, begin: &Self) -> &'a str {
        self.text[begin.at..self.at].trim()
    }

    /// Goes over spaces and comments.
    pub(super) fn skip_space(&mut self) {
        loop {
            let rest = self.rest().trim_start();
            let rest = match rest.starts_with('#') {
                true => &rest[rest.find('\n').unwrap_or(rest.len())..],
                false => rest,
            };
            if rest.len() == self.rest().len() {
                return;
            }
            self.at = self.text.len() - rest.len();
        }
    }

    /// What is next, after spaces.
    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    /// Goes over `symbol` if it is next, after spaces.
    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let is_next = self.rest().starts_with(symbol);
        if is_next {
            self.at += symbol.len();
        }
        is_next
    }

    /// Goes over a word, in any case, if it is next, after spaces, and no part of a longer one.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        self.skip_space();
        let rest = self.rest();
        let is_next = rest
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(is_part_of_name);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    pub(super) fn take_while(&mut self, is_in: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|next| !is_in(next)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A name: letters, digits, `_`, `.` and `@`, and anything in backticks. `None` if there is none, or
    /// a keyword.
    pub(super) fn take_name(&mut self) -> Result<Option<String>, QueryError> {
        self.skip_space();
        let begin = self.clone();
        let mut name = String::new();
        let mut is_quoted = false;
        loop {
            name.push_str(self.take_while(is_part_of_name));
            if !self.rest().starts_with('`') {
                break;
            }
            is_quoted = true;
            let here = self.clone();
            self.at += 1;
            name.push_str(self.take_while(|next| next != '`'));
            if self.rest().is_empty() {
                return Err(here.error(
                    "a backtick is not closed",
                    "write a backtick after the name",
                ));
            }
            self.at += 1;
        }
        let is_name = is_quoted && !name.is_empty()
            || name
                .starts_with(|first: char| first.is_alphabetic() || first == '_' || first == '@')
                && !KEYWORDS
                    .iter()
                    .any(|keyword| keyword.eq_ignore_ascii_case(&name));
        if !is_name {
            *self = begin;
        }
        Ok(is_name.then_some(name))
    }

    /// A name, which must be there.
    pub(super) fn name(&mut self, of: &str) -> Result<String, QueryError> {
        match self.take_name()? {
            Some(name) => Ok(name),
            None => Err(self.unexpected(
                format!("there is no {of}"),
                "write a name; one with other characters than letters, digits, `_`, `.` and `@` goes in backticks",
            )),
        }
    }

    /// A text in quotes, if one is next. A backslash stands before a quote or a backslash that is meant;
    /// before anything else it stands for itself.
    pub(super) fn take_text(&mut self) -> Result<Option<String>, QueryError> {
        let Some(quote @ ('"' | '\'')) = self.peek() else {
            return Ok(None);
        };
        let begin = self.clone();
        self.at += 1;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => match chars.clone().next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => {
                        chars.next();
                        text.push(escaped);
                    }
                    _ => text.push('\\'),
                },
                next if next == quote => {
                    self.at += at + 1;
                    return Ok(Some(text));
                }
                next => text.push(next),
            }
        }
        Err(begin.error(
            "a quote is not closed",
            "write the closing quote, or `\\\"` for one that is meant",
        ))
    }

    /// What is between slashes, if a slash is next; `\/` in it is a slash.
    pub(super) fn take_slashed(&mut self) -> Result<Option<String>, QueryError> {
        if self.peek() != Some('/') {
            return Ok(None);
        }
        let begin = self.clone();
        self.at += 1;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => match chars.next() {
                    Some((_, '/')) => text.push('/'),
                    Some((_, escaped)) => text.extend(['\\', escaped]),
                    None => break,
                },
                '/' => {
                    self.at += at + 1;
                    return Ok(Some(text));
                }
                next => text.push(next),
            }
        }
        Err(begin.error(
            "a regular expression is not closed",
            "write `/` at its end, and `\\/` for one in it",
        ))
    }

    /// An error here.
    pub(super) fn error(&self, what: impl Into<String>, hint: impl Into<String>) -> QueryError {
        let before = &self.text[..self.at];
        let line_begin = before.rfind('\n').map_or(0, |at| at + 1);
        QueryError {
            what: what.into(),
            line: before.matches('\n').count() + 1,
            column: before[line_begin..].chars().count() + 1,
            hint: hint.into(),
        }
    }

    /// An error at what is next, after spaces.
    pub(super) fn unexpected(
        &mut self,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> QueryError {
        self.skip_space();
        self.error(what, hint)
    }
}

fn is_part_of_name(char: char) -> bool {
    char.is_alphanumeric() || "_.@".contains(char)
}
