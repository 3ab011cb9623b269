//! Regular expressions between percent signs.
//!
//! Only what AWS documents is taken ("Supported regular expressions (regex) syntax"): letters, digits,
//! the symbols `:_#=@/;,-`, spaces, the operators `^$?[]{}|\*+.`, and no parentheses. It is written anew
//! for the `regex` crate, which takes linear time.

use regex::bytes::{Regex, RegexBuilder};

use super::{PatternError, REGEX_BYTES_MAX, cursor::Cursor, literal::Literals};

const SYMBOLS: &str = ":_#=@/;,- ";
const ESCAPED_SYMBOLS: &str = "the symbols are `: _ # = @ / ; , -` and the space; \
    write any other as `\\x` and two hexadecimal digits";

/// What a text must have in it.
#[derive(Debug, Clone)]
pub(super) struct Regexp {
    regex: Regex,
    /// What is in every text that matches; may be empty.
    literal: Vec<u8>,
}

impl Regexp {
    /// Reads `%...%`; the first percent sign is next.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, PatternError> {
        let begin = cursor.clone();
        cursor.bump();
        cursor.regexes += 1;
        let mut translation = Translation::default();
        loop {
            let here = cursor.clone();
            match cursor.bump() {
                None => {
                    return Err(begin.error(
                        "a regular expression is not closed",
                        "write `%` at its end, or put the term in quotes if it is none",
                    ));
                }
                Some('%') => break,
                Some(next) => translation.take(next, cursor, &here)?,
            }
        }
        if translation.out.is_empty() {
            return Err(begin.error(
                "a regular expression is empty",
                "write one between the percent signs",
            ));
        }
        let regex = RegexBuilder::new(&translation.out)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| {
                let why = match error {
                    regex::Error::CompiledTooBig(_) => "is too large".to_owned(),
                    other => {
                        let text = other.to_string();
                        let last = text.lines().last().unwrap_or_default();
                        format!("cannot be read ({})", last.trim_start_matches("error: "))
                    }
                };
                begin.error(
                    format!("a regular expression {why}"),
                    "repeat less, or write `\\` before an operator that is meant as a character",
                )
            })?;
        let literal = translation.literal();
        Ok(Self { regex, literal })
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    pub(super) fn literal(&self) -> &[u8] {
        &self.literal
    }

    pub(super) fn literals(&self) -> Literals {
        Literals::of_text(&self.literal)
    }
}

/// An expression as the `regex` crate has it, and the characters that it cannot do without.
#[derive(Debug, Default)]
struct Translation {
    out: String,
    run: Vec<u8>,
    longest: Vec<u8>,
    has_alternatives: bool,
    /// What was read last is `*`, `+`, `?` or a count.
    is_repeated: bool,
}

impl Translation {
    fn take(
        &mut self,
        next: char,
        cursor: &mut Cursor<'_>,
        here: &Cursor<'_>,
    ) -> Result<(), PatternError> {
        let was_repeated = std::mem::take(&mut self.is_repeated);
        match next {
            '*' | '+' | '{' if was_repeated => {
                let hint = "write one of `*`, `+`, `?` and `{}`, or `\\` before one that is meant as a character";
                return Err(here.error("a repetition is repeated", hint));
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' => self.plain(next),
            next if SYMBOLS.contains(next) => self.plain(next),
            '^' | '$' | '.' => self.operator(&next.to_string()),
            '|' => {
                self.has_alternatives = true;
                self.operator("|");
            }
            '*' | '?' => {
                self.run.pop();
                self.repeat(&next.to_string());
            }
            '+' => self.repeat("+"),
            '{' => {
                let counts: String = cursor
                    .take_while(|next| next.is_ascii_digit() || next == ',' || next == ' ')
                    .split(' ')
                    .collect();
                let counts = match counts.strip_prefix(',') {
                    Some(most) if !most.is_empty() => format!("0,{most}"),
                    _ => counts,
                };
                if counts.is_empty() || counts == "," || !cursor.eat("}") {
                    let hint = "write `{2}`, `{2,}`, `{,5}` or `{2,5}`, or `\\{` for the character";
                    return Err(here.error("`{` begins no count of repetitions", hint));
                }
                self.run.pop();
                self.repeat(&format!("{{{counts}}}"));
            }
            '[' => {
                self.end_run();
                self.class(cursor, here)?;
            }
            '\\' => match escape(cursor, here)? {
                Escape::Char(char) => self.plain(char),
                Escape::Class(class) => self.operator(class),
            },
            other => {
                return Err(here.error(
                    format!("`{other}` is not supported in a regular expression"),
                    ESCAPED_SYMBOLS,
                ));
            }
        }
        Ok(())
    }

    fn plain(&mut self, next: char) {
        put(&mut self.out, next);
        self.run.push(next as u8);
    }

    fn operator(&mut self, text: &str) {
        self.out.push_str(text);
        self.end_run();
    }

    fn repeat(&mut self, text: &str) {
        self.operator(text);
        self.is_repeated = true;
    }

    fn end_run(&mut self) {
        if self.run.len() > self.longest.len() {
            self.longest.clone_from(&self.run);
        }
        self.run.clear();
    }

    /// A class of characters; its `[` was read.
    fn class(&mut self, cursor: &mut Cursor<'_>, begin: &Cursor<'_>) -> Result<(), PatternError> {
        self.out.push('[');
        if cursor.eat("^") {
            self.out.push('^');
        }
        let (mut is_first, mut may_be_range) = (true, false);
        loop {
            let here = cursor.clone();
            let next = cursor.bump();
            match next {
                None | Some('%') => {
                    let hint = "write `]` at its end, or `\\[` for the character";
                    return Err(begin.error("`[` is not closed", hint));
                }
                Some(']') if !is_first => break,
                Some('-') if may_be_range && cursor.peek() != Some(']') => {
                    self.out.push('-');
                    let here = cursor.clone();
                    match cursor.bump() {
                        Some('\\') => match escape(cursor, &here)? {
                            Escape::Char(char) => put(&mut self.out, char),
                            Escape::Class(_) => {
                                let hint = "write `\\-` for the character";
                                return Err(here.error("a range ends with a class", hint));
                            }
                        },
                        Some(char) if is_member(char) => put(&mut self.out, char),
                        _ => {
                            return Err(
                                here.error("a range has no end", "write `\\-` for the character")
                            );
                        }
                    }
                    may_be_range = false;
                }
                Some('\\') => match escape(cursor, &here)? {
                    Escape::Char(char) => {
                        put(&mut self.out, char);
                        may_be_range = true;
                    }
                    Escape::Class(class) => {
                        self.out.push_str(class);
                        may_be_range = false;
                    }
                },
                Some(char) if is_member(char) => {
                    put(&mut self.out, char);
                    may_be_range = true;
                }
                Some(other) => {
                    return Err(here.error(
                        format!("`{other}` is not supported in a regular expression"),
                        ESCAPED_SYMBOLS,
                    ));
                }
            }
            is_first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn literal(mut self) -> Vec<u8> {
        self.end_run();
        match self.has_alternatives {
            true => Vec::new(),
            false => self.longest,
        }
    }
}

/// Whether it may stand in a class of characters as itself.
fn is_member(char: char) -> bool {
    char.is_ascii_alphanumeric() || SYMBOLS.contains(char) || "^$?[]{}|*+.".contains(char)
}

/// Writes an ASCII character as itself.
fn put(out: &mut String, char: char) {
    match char.is_ascii_alphanumeric() || char == '_' {
        true => out.push(char),
        false => out.push_str(&format!("\\x{:02x}", u32::from(char))),
    }
}

enum Escape {
    Char(char),
    Class(&'static str),
}

/// What follows a backslash.
fn escape(cursor: &mut Cursor<'_>, here: &Cursor<'_>) -> Result<Escape, PatternError> {
    Ok(match cursor.bump() {
        Some('d') => Escape::Class("[0-9]"),
        Some('D') => Escape::Class("[^0-9]"),
        Some('w') => Escape::Class("[a-zA-Z_0-9]"),
        Some('W') => Escape::Class("[^a-zA-Z_0-9]"),
        Some('s') => Escape::Class("[ \\t\\n\\x0b\\x0c\\r]"),
        Some('S') => Escape::Class("[^ \\t\\n\\x0b\\x0c\\r]"),
        Some('t') => Escape::Char('\t'),
        Some('n') => Escape::Char('\n'),
        Some('r') => Escape::Char('\r'),
        Some('x') => {
            let digits: String = [cursor.bump(), cursor.bump()]
                .into_iter()
                .flatten()
                .collect();
            match u8::from_str_radix(&digits, 16) {
                Ok(byte) if byte.is_ascii() && digits.len() == 2 => Escape::Char(char::from(byte)),
                _ => {
                    let hint = "write two hexadecimal digits, 00 to 7f";
                    return Err(here.error("`\\x` names no ASCII character", hint));
                }
            }
        }
        Some(symbol) if symbol.is_ascii_punctuation() || symbol == ' ' => Escape::Char(symbol),
        Some(other) => {
            return Err(here.error(
                format!("`\\{other}` is not supported in a regular expression"),
                "there are `\\d \\D \\s \\S \\w \\W`, `\\xhh`, and a backslash before an operator",
            ));
        }
        None => return Err(here.error("a backslash is last", "write what it is to escape")),
    })
}
