//! A parameter of Parameter Store: a named value with numbered versions.
//!
//! The newest version is read when nobody asks for another by number or label. Values are not here:
//! whoever stores a parameter stores them beside it, sealed, whatever their type.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Versions that one parameter has at most; the oldest makes room unless it has a label.
pub const PARAMETER_VERSIONS_MAX: usize = 100;

/// Labels that one version has at most.
pub const LABELS_MAX: usize = 10;

/// Levels of a name at most: Parameter Store's.
pub const LEVELS_MAX: usize = 15;

/// A parameter without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// 32 hexadecimal digits; where its values are kept. Another parameter of the name has another.
    pub id: String,
    /// Its owner's, unique in its region.
    pub name: String,
    /// Its owner's labels, by key.
    pub tags: BTreeMap<String, String>,
    /// Oldest first; never empty.
    pub versions: Vec<ParameterVersion>,
}

/// One value that a parameter has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterVersion {
    /// Counted from 1 within the parameter.
    pub number: u64,
    /// What the value is.
    pub kind: ParameterKind,
    /// Its owner's words.
    pub description: Option<String>,
    /// The key its owner named, of a `SecureString`; the installation's own is used all the same.
    pub key_id: Option<String>,
    /// What a value must match.
    pub allowed_pattern: Option<String>,
    /// `text`, or another type that its owner named.
    pub data_type: Option<String>,
    /// As its owner named it.
    pub tier: Tier,
    /// Names that only this version has.
    pub labels: Vec<String>,
    /// When it was made.
    pub modified_at: Timestamp,
}

/// What a parameter's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParameterKind {
    /// Text.
    String,
    /// Texts, with commas in between.
    StringList,
    /// Text that is shown to those only who ask for it to be opened.
    SecureString,
}

/// How large a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Tier {
    /// 4 KiB.
    #[default]
    Standard,
    /// 8 KiB.
    Advanced,
}

/// Why a parameter does not do as asked, in Parameter Store's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterRefusal {
    /// It has no such version.
    #[error(
        "Systems Manager could not find version {selector} of {name}. Verify the version and try again."
    )]
    NoVersion {
        /// A number or a label.
        selector: String,
        /// The parameter's name.
        name: String,
    },
    /// The oldest version has a label.
    #[error(
        "You attempted to create a new version of {name} by calling the PutParameter API with the overwrite flag. Version {number}, the oldest version, can't be deleted because it has a label associated with it. Move the label to another version of the parameter, and try again."
    )]
    OldestHasLabel {
        /// The parameter's name.
        name: String,
        /// The oldest version.
        number: u64,
    },
    /// More labels than a version may have.
    #[error(
        "A parameter version can have maximum {LABELS_MAX} labels.Move one or more labels to another version and try again."
    )]
    TooManyLabels,
}

impl Parameter {
    /// The newest version; `None` never happens to a stored one.
    pub fn newest(&self) -> Option<&ParameterVersion> {
        self.versions.last()
    }

    /// The version of a number or a label; the newest when none is asked for.
    ///
    /// # Errors
    /// [`ParameterRefusal::NoVersion`].
    pub fn find(&self, selector: Option<&str>) -> Result<&ParameterVersion, ParameterRefusal> {
        let found = match selector {
            None => self.newest(),
            Some(selector) => match selector.parse::<u64>() {
                Ok(number) => self.versions.iter().find(|v| v.number == number),
                Err(_) => self
                    .versions
                    .iter()
                    .find(|v| v.labels.iter().any(|label| label == selector)),
            },
        };
        found.ok_or_else(|| ParameterRefusal::NoVersion {
            selector: selector.unwrap_or_default().to_owned(),
            name: self.name.clone(),
        })
    }

    /// Takes a version in and numbers it.
    ///
    /// # Errors
    /// [`ParameterRefusal::OldestHasLabel`]; then nothing was changed.
    pub fn put(&mut self, version: ParameterVersion) -> Result<u64, ParameterRefusal> {
        if let Some(oldest) = self.versions.first()
            && self.versions.len() >= PARAMETER_VERSIONS_MAX
        {
            if !oldest.labels.is_empty() {
                return Err(ParameterRefusal::OldestHasLabel {
                    name: self.name.clone(),
                    number: oldest.number,
                });
            }
            self.versions.remove(0);
        }
        let number = self.newest().map_or(0, |newest| newest.number) + 1;
        self.versions.push(ParameterVersion { number, ..version });
        Ok(number)
    }

    /// Gives a version labels, which no other has then; the newest when none is named. Answers which.
    ///
    /// # Errors
    /// [`ParameterRefusal`]; then nothing was changed.
    pub fn label(
        &mut self,
        number: Option<u64>,
        labels: &[String],
    ) -> Result<u64, ParameterRefusal> {
        let selector = number.map(|number| number.to_string());
        let found = self.find(selector.as_deref())?;
        let number = found.number;
        let mut all = found.labels.clone();
        all.extend(labels.iter().cloned());
        all.sort();
        all.dedup();
        if all.len() > LABELS_MAX {
            return Err(ParameterRefusal::TooManyLabels);
        }
        for version in &mut self.versions {
            match version.number == number {
                true => version.labels = all.clone(),
                false => version.labels.retain(|label| !labels.contains(label)),
            }
        }
        Ok(number)
    }
}

impl ParameterKind {
    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::String, Self::StringList, Self::SecureString]
            .into_iter()
            .find(|kind| kind.to_string() == name)
    }
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "String",
            Self::StringList => "StringList",
            Self::SecureString => "SecureString",
        })
    }
}

impl Tier {
    /// Bytes that a value may have.
    pub const fn value_bytes_max(self) -> usize {
        match self {
            Self::Standard => 4 * 1024,
            Self::Advanced => 8 * 1024,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "Standard",
            Self::Advanced => "Advanced",
        })
    }
}

/// What is wrong with a new parameter's name, if something is. (It is letters, digits and `_.-/`.)
pub fn name_problem(name: &str) -> Option<&'static str> {
    const FORM: &str = "Parameter name must be a fully qualified name.";
    const CHARACTERS: &str = "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If \
         formed as a path, it can consist of sub-paths divided by slash symbol; each sub-path can be \
         formed as a mix of letters, numbers and the following 3 symbols .-_";
    const PREFIX: &str =
        "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).";
    let is_path = name.trim_start_matches('/').contains('/');
    let sane = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if is_path && !name.starts_with('/') {
        return Some(FORM);
    }
    if name.is_empty() || !name.chars().all(sane) || name.ends_with('/') || name.contains("//") {
        return Some(CHARACTERS);
    }
    let first = name.trim_start_matches('/').to_ascii_lowercase();
    (first.starts_with("aws") || first.starts_with("ssm")).then_some(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> ParameterVersion {
        ParameterVersion {
            number: 0,
            kind: ParameterKind::String,
            description: None,
            key_id: None,
            allowed_pattern: None,
            data_type: None,
            tier: Tier::Standard,
            labels: Vec::new(),
            modified_at: Timestamp::from_millis(1),
        }
    }

    fn parameter() -> Parameter {
        Parameter {
            id: "0".repeat(32),
            name: "/a/b".into(),
            tags: BTreeMap::new(),
            versions: Vec::new(),
        }
    }

    #[test]
    fn versions_are_numbered_and_found_by_number_and_label() {
        let mut parameter = parameter();
        assert_eq!(parameter.put(version()), Ok(1));
        assert_eq!(parameter.put(version()), Ok(2));
        assert_eq!(parameter.label(Some(1), &["old".into()]), Ok(1));
        for (selector, want) in [(None, 2), (Some("1"), 1), (Some("old"), 1)] {
            assert_eq!(parameter.find(selector).unwrap().number, want);
        }
        assert_eq!(parameter.label(None, &["old".into()]), Ok(2));
        assert_eq!(parameter.find(Some("old")).unwrap().number, 2);
        assert_eq!(
            parameter.find(Some("3")).unwrap_err().to_string(),
            "Systems Manager could not find version 3 of /a/b. Verify the version and try again."
        );
    }

    #[test]
    fn versions_and_labels_are_bounded() {
        let mut parameter = parameter();
        for _ in 0..PARAMETER_VERSIONS_MAX + 5 {
            parameter.put(version()).unwrap();
        }
        assert_eq!(parameter.versions.len(), PARAMETER_VERSIONS_MAX);
        assert_eq!(parameter.find(None).unwrap().number, 105);
        let labels: Vec<String> = (0..=LABELS_MAX).map(|n| format!("l{n}")).collect();
        assert_eq!(
            parameter.label(None, &labels),
            Err(ParameterRefusal::TooManyLabels)
        );
        parameter.label(Some(6), &labels[..1]).unwrap();
        assert!(matches!(
            parameter.put(version()),
            Err(ParameterRefusal::OldestHasLabel { number: 6, .. })
        ));
    }

    #[test]
    fn names_are_paths_that_are_nobody_elses() {
        for name in ["a", "/a", "/a/b.c-d_E", "web-key"] {
            assert_eq!(name_problem(name), None, "{name}");
        }
        for name in [
            "", "a/b", "/a//b", "/a/", "/", "a b", "aws-x", "/AWS/x", "SSMx", "/ssm/x", "ä",
        ] {
            assert!(name_problem(name).is_some(), "{name}");
        }
    }
}
