//! What was typed: settings from the file, the environment and flags, each with its origin.
//!
//! Later ones count: the file, then `EKIDEN_*` variables, then flags. Nothing is judged here but
//! whether the file is TOML.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, setting::SETTINGS};

/// Variables beginning so that are no settings.
const OTHER_VARIABLES: &[&str] = &["EKIDEN_CONFIG", "EKIDEN_ENDPOINT"];

/// Where settings may come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file's path and text, if there is a file.
    pub file: Option<(PathBuf, String)>,
    /// The environment; only `EKIDEN_*` is looked at.
    pub environment: BTreeMap<String, String>,
    /// Key and value of each flag, and the flag itself, in order.
    pub flags: Vec<(String, String, String)>,
}

/// Every value that was typed, those that count more later.
#[derive(Debug, Default)]
pub struct Typed {
    /// In the order to apply them.
    pub entries: Vec<Entry>,
}

/// One value that was typed.
#[derive(Debug)]
pub struct Entry {
    /// The key's parts.
    pub path: Vec<String>,
    /// The value.
    pub given: Given,
    /// Where it stands.
    pub origin: Origin,
}

/// A value as typed.
#[derive(Debug, Clone)]
pub enum Given {
    /// Text, a number, or a boolean, as text.
    One(String),
    /// A list of those.
    List(Vec<String>),
}

/// Where a value was typed.
#[derive(Debug, Clone)]
pub enum Origin {
    /// In the file; line and column count from 1.
    File {
        /// Which.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In a variable.
    Variable(String),
    /// As a flag.
    Flag(String),
}

impl Sources {
    /// Collects what was typed.
    ///
    /// # Errors
    /// The file is not TOML, or a variable begins with `EKIDEN_` but is no setting's.
    pub fn read(&self) -> Result<Typed, ConfigError> {
        let mut typed = Typed::default();
        if let Some((path, text)) = &self.file {
            read_file(&mut typed, path.clone(), text)?;
        }
        for (name, value) in &self.environment {
            read_variable(&mut typed, name, value)?;
        }
        for (key, value, flag) in &self.flags {
            typed.entries.push(Entry {
                path: key.split('.').map(str::to_owned).collect(),
                given: Given::One(value.clone()),
                origin: Origin::Flag(flag.clone()),
            });
        }
        Ok(typed)
    }
}

impl Given {
    /// As a list: one text is split at commas.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::List(texts) => texts.clone(),
            Self::One(text) => text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect(),
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::List(texts) => write!(f, "[{}]", texts.join(", ")),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => {
                write!(f, "{}, line {line}, column {column}", path.display())
            }
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

fn read_variable(typed: &mut Typed, name: &str, value: &str) -> Result<(), ConfigError> {
    if !name.starts_with("EKIDEN_") || OTHER_VARIABLES.contains(&name) {
        return Ok(());
    }
    let setting = SETTINGS
        .iter()
        .find(|setting| setting.variable().as_deref() == Some(name));
    let Some(setting) = setting else {
        return Err(ConfigError::Unknown {
            origin: Origin::Variable(name.to_owned()),
            key: name["EKIDEN_".len()..].to_lowercase(),
            nearest: super::setting::nearest(&name["EKIDEN_".len()..].to_lowercase()),
        });
    };
    typed.entries.push(Entry {
        path: setting.key.split('.').map(str::to_owned).collect(),
        given: Given::One(value.to_owned()),
        origin: Origin::Variable(name.to_owned()),
    });
    Ok(())
}

fn read_file(typed: &mut Typed, path: PathBuf, text: &str) -> Result<(), ConfigError> {
    let place = |at: usize| {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Origin::File {
            path: path.clone(),
            line,
            column,
        }
    };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: place(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    walk(table.get_ref(), &mut Vec::new(), &place, typed);
    Ok(())
}

fn walk(
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    place: &impl Fn(usize) -> Origin,
    typed: &mut Typed,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => walk(inner, path, place, typed),
            value => typed.entries.push(Entry {
                path: path.clone(),
                given: given(value),
                origin: place(key.span().start),
            }),
        }
        path.pop();
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::Array(values) => {
            Given::List(values.iter().map(|value| scalar(value.get_ref())).collect())
        }
        value => Given::One(scalar(value)),
    }
}

/// A value as text. What no setting takes becomes its kind's name, which every form refuses.
fn scalar(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list in a list".to_owned(),
        DeValue::Table(_) => "a table in a list".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn flags_count_over_variables_and_variables_over_the_file() {
        let mut sources = Sources {
            file: Some((
                "ekiden.toml".into(),
                "name = \"file\"\n[api]\nlisten = \"127.0.0.1:1\"".into(),
            )),
            environment: [
                ("EKIDEN_NAME", "variable"),
                ("EKIDEN_EDGE_LISTEN", "[::1]:1,[::1]:2"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            flags: Vec::new(),
        };
        let read = |sources: &Sources| Config::from_typed(&sources.read().unwrap()).unwrap();
        assert_eq!(read(&sources).name, "variable");
        assert_eq!(read(&sources).edge.listen.len(), 2);
        assert_eq!(read(&sources).api.listen.port(), 1);
        sources
            .flags
            .push(("name".into(), "flag".into(), "--name".into()));
        assert_eq!(read(&sources).name, "flag");
    }

    #[test]
    fn a_variable_that_is_no_setting_is_refused() {
        let sources = Sources {
            environment: [("EKIDEN_EDGE_LISTN".to_owned(), "x".to_owned())].into(),
            ..Sources::default()
        };
        assert_eq!(
            sources.read().unwrap_err().to_string(),
            "variable EKIDEN_EDGE_LISTN: no setting is called `edge_listn`, did you mean \
             `edge.listen`?"
        );
    }
}
