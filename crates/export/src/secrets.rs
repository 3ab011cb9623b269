//! What only the receiver and we may know.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use crate::target::{ConfigError, Target};

/// The secrets of one target, apart from its settings: settings may be shown, these never are, not even by
/// `Debug`. Which of them a target takes is with its settings; one that it does not take is refused.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// `otlp`, `http`: headers such as `authorization`. One that the settings have as well is refused.
    pub headers: BTreeMap<String, String>,
    /// `fluent`: the key that both sides have.
    pub shared_key: Option<String>,
    /// `fluent`: who we are, where the receiver asks.
    pub username: Option<String>,
    /// `fluent`: with `username`.
    pub password: Option<String>,
    /// `s3`: required.
    pub access_key_id: Option<String>,
    /// `s3`: required.
    pub secret_access_key: Option<String>,
    /// `s3`: with temporary credentials.
    pub session_token: Option<String>,
}

impl Secrets {
    /// Refuses those that a target has no use for: whoever gave them meant something else.
    pub(crate) fn only(&self, target: &Target) -> Result<(), ConfigError> {
        let taken: &[&str] = match target {
            Target::Otlp(_) | Target::Http(_) => &["headers"],
            Target::Syslog(_) => &[],
            Target::Fluent(_) => &["shared_key", "username", "password"],
            Target::S3(_) => &["access_key_id", "secret_access_key", "session_token"],
        };
        match self.present().find(|name| !taken.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let problem = match taken {
                    [] => format!("is no secret of `{}`, which has none", target.name()),
                    taken => format!(
                        "is no secret of `{}`, which has {}",
                        target.name(),
                        taken.join(", ")
                    ),
                };
                Err(ConfigError::invalid(name, problem))
            }
        }
    }

    /// The names of those that are there, for messages.
    fn present(&self) -> impl Iterator<Item = &'static str> {
        [
            ("headers", !self.headers.is_empty()),
            ("shared_key", self.shared_key.is_some()),
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("access_key_id", self.access_key_id.is_some()),
            ("secret_access_key", self.secret_access_key.is_some()),
            ("session_token", self.session_token.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(")?;
        for (index, name) in self.present().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name}")?;
        }
        f.write_str(")")
    }
}
