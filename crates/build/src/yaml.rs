//! YAML as a tree of texts with their places.
//!
//! Nothing is made of a scalar but its text: `3.10` stays `3.10` and `no` stays `no`. The tree is
//! bounded in depth and size, aliases included. Nobody's keys are merged (`<<`).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

/// How deep a document may be.
const DEPTH_MAX: usize = 32;

/// Nodes of a document at most, with those that aliases repeat.
const NODES_MAX: usize = 20_000;

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Default for Position {
    /// Where a file begins.
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A node and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, where it is, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// Why a text is no tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) at: Position,
    pub(crate) problem: String,
    pub(crate) advice: &'static str,
}

impl Node {
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Text(_) => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| 1 + entry.node.size()).sum(),
        }
    }
}

impl Value {
    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The one document of a text; `None` if it has none.
///
/// # Errors
/// It is not YAML, has more than one document, a key twice, or too much of something.
pub(crate) fn read(text: &str) -> Result<Option<Node>, Unreadable> {
    let mut options = Options::default();
    options.emit_comments = false;
    let mut reader = Reader {
        text,
        events: Parser::new_from_str_with_options(text, options),
        anchors: BTreeMap::new(),
        nodes: 0,
    };
    let mut root = None;
    while let Some((event, at)) = reader.next()? {
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                let problem = "a second document begins here";
                return Err(unreadable(at, problem, "keep one document in the file"));
            }
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd => {}
            event => root = Some(reader.node(event, at, 0)?),
        }
    }
    Ok(root.filter(|root| !matches!(root.value, Value::Null)))
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Position)>, Unreadable> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, begin(span)))),
            Some(Err(error)) => Err(explain(self.text, &error)),
        }
    }

    fn node(&mut self, event: Event<'a>, at: Position, depth: usize) -> Result<Node, Unreadable> {
        if depth > DEPTH_MAX {
            let problem = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(unreadable(at, problem, "make it flatter"));
        }
        self.count(1, at)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.repeated(anchor, at),
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style)),
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(at, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.map(at, depth)?),
            _ => return Err(unreadable(at, "a value was expected", "write one")),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, at: Position, depth: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Some((Event::SequenceEnd, _)) => return Ok(Value::List(items)),
                Some((event, at)) => items.push(self.node(event, at, depth + 1)?),
                None => return Err(unreadable(at, "the list does not end", "end it")),
            }
        }
    }

    fn map(&mut self, at: Position, depth: usize) -> Result<Value, Unreadable> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: BTreeMap<String, Position> = BTreeMap::new();
        loop {
            let (event, at) = match self.next()? {
                Some((Event::MappingEnd, _)) => return Ok(Value::Map(entries)),
                Some(next) => next,
                None => return Err(unreadable(at, "the map does not end", "end it")),
            };
            let key = match self.node(event, at, depth + 1)?.value {
                Value::Text(key) => key,
                other => {
                    let problem = format!("a key must be a text, not {}", other.kind());
                    return Err(unreadable(at, problem, "write the key as a word"));
                }
            };
            if let Some(first) = seen.insert(key.clone(), at) {
                let problem = format!("`{key}` is there twice, first on line {}", first.line);
                return Err(unreadable(at, problem, "remove one of the two"));
            }
            let node = match self.next()? {
                Some((event, at)) => self.node(event, at, depth + 1)?,
                None => return Err(unreadable(at, "the map does not end", "end it")),
            };
            entries.push(Entry { key, at, node });
        }
    }

    fn repeated(&mut self, anchor: usize, at: Position) -> Result<Node, Unreadable> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            let problem = "an alias stands for a value that contains it";
            return Err(unreadable(at, problem, "write the value out"));
        };
        self.count(node.size(), at)?;
        Ok(Node {
            at,
            value: node.value,
        })
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), Unreadable> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let problem = format!("more than {NODES_MAX} values, with those that aliases repeat");
        Err(unreadable(at, problem, "use fewer aliases"))
    }
}

/// YAML 1.2's null, which only a plain scalar can be.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::Text(text.to_owned()),
    }
}

fn begin(span: Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn unreadable(at: Position, problem: impl Into<String>, advice: &'static str) -> Unreadable {
    Unreadable {
        at,
        problem: problem.into(),
        advice,
    }
}

/// The parser's own words, except where tabs are the cause: those are invisible.
fn explain(text: &str, error: &ScanError) -> Unreadable {
    let at = Position {
        line: error.marker().line().max(1),
        column: error.marker().col() + 1,
    };
    // The parser may notice one line too late.
    let tab = [at.line, at.line.saturating_sub(1)]
        .into_iter()
        .find_map(|line| {
            let text = text.lines().nth(line.checked_sub(1)?)?;
            let indentation = text.len() - text.trim_start().len();
            let column = text[..indentation].find('\t')? + 1;
            Some(Position { line, column })
        });
    match tab {
        Some(at) => unreadable(at, "a tab cannot indent", "indent with spaces"),
        None => unreadable(
            at,
            format!("not YAML: {}", error.info()),
            "check quotes, indentation and the `:` after a key",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, line: usize, column: usize, want: &str) {
        let error = read(text).unwrap_err();
        assert_eq!(error.at, Position { line, column }, "{error:?}");
        assert!(error.problem.contains(want), "{error:?}");
    }

    #[test]
    fn scalars_are_what_was_written() {
        let Some(Node {
            value: Value::Map(entries),
            at,
        }) = read("a: 3.10\nb: no\nc: \"~\"\nd: ~\n").unwrap()
        else {
            panic!("a map was expected");
        };
        assert_eq!(at, Position { line: 1, column: 1 });
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.node.value {
                Value::Text(text) => text.as_str(),
                other => other.kind(),
            })
            .collect();
        assert_eq!(texts, ["3.10", "no", "~", "nothing"]);
        assert_eq!(entries[3].at, Position { line: 4, column: 1 });
        assert!(read("").unwrap().is_none() && read("# no\n---\n").unwrap().is_none());
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        refused(
            "a: 1\nb: 2\na: 3\n",
            3,
            1,
            "`a` is there twice, first on line 1",
        );
        refused("a:\n\tb: 1\n", 2, 1, "a tab cannot indent");
        refused("a: 1\n---\nb: 1\n", 2, 1, "a second document");
        refused("[a]: 1\n", 1, 1, "a key must be a text, not a list");
        refused("a: &x\n  b: *x\n", 2, 6, "contains it");
        let deep = "[".repeat(40) + &"]".repeat(40);
        refused(&deep, 1, 34, "deeper than 32");
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in ["b", "c", "d", "e", "f"]
            .iter()
            .zip(["a", "b", "c", "d", "e"])
        {
            let list = vec![format!("*{before}"); 9].join(", ");
            bomb += &format!("{name}: &{name} [{list}]\n");
        }
        refused(&bomb, 5, 12, "more than 20000 values");
        refused("a: 'x\n", 1, 4, "not YAML");
    }
}
