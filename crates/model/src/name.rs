//! Names that people give.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A service's name: 4 to 40 of `A-Z a-z 0-9 - _`, starting with a letter or digit.
///
/// The form is App Runner's (`ServiceName` in its service model), so that a name that is good here
/// is good there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServiceName(String);

/// Text that cannot name a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` cannot name a service: 4 to 40 letters, digits, `-` and `_`, starting with a letter or digit"
)]
pub struct InvalidServiceName {
    text: String,
}

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = InvalidServiceName;

    fn from_str(text: &str) -> Result<Self, InvalidServiceName> {
        let well_formed = (4..=40).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        match well_formed {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidServiceName {
                text: text.chars().take(64).collect(),
            }),
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidServiceName;

    fn try_from(text: String) -> Result<Self, InvalidServiceName> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
