//! Who may do what: the one place where that is decided.
//!
//! Every operation of every service says what it does as an [`Access`], and every access key has a
//! [`Role`]. Nothing is allowed that is not allowed here.
//!
//! | | viewer | deployer | admin |
//! |---|---|---|---|
//! | its own identity | yes | yes | yes |
//! | look at resources | yes | yes | yes |
//! | change a service, push to a repository | - | if the name matches | yes |
//! | look at secret values, keys, the audit log | - | - | yes |
//! | change anything else | - | - | yes |

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::wildcard;

/// Patterns a deployer may have.
pub const SERVICE_PATTERNS_MAX: usize = 32;

/// Characters of a pattern: more than any service's name has.
pub const SERVICE_PATTERN_LEN_MAX: usize = 64;

/// What an access key is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Looks at everything but secrets, and changes the services whose names match.
    Deployer {
        /// One of these must match a service's name.
        services: Vec<ServicePattern>,
    },
    /// Looks at everything but secrets.
    Viewer,
}

/// What an operation does, as far as permission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Tells callers about themselves, or gives them credentials with no more rights than theirs.
    OwnIdentity,
    /// Looks at resources.
    Read,
    /// Looks at what opens other doors: secret values, access keys, the audit log.
    ReadRestricted,
    /// Changes a service or what belongs to it, or a repository.
    Deploy,
    /// Changes anything else.
    Administer,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
}

/// A service's name with `*` for any number of any characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServicePattern(String);

/// Text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a pattern of service names: expected 1 to {SERVICE_PATTERN_LEN_MAX} letters, digits, `-`, `_` and `*`"
)]
pub struct InvalidServicePattern {
    text: String,
}

/// Whether `role` may do what has `access`, to the service of that name if it names one.
pub fn decide(role: &Role, access: Access, service: Option<&str>) -> Decision {
    let allowed = match role {
        Role::Admin => true,
        Role::Deployer { services } => match access {
            Access::OwnIdentity | Access::Read => true,
            Access::Deploy => {
                service.is_some_and(|name| services.iter().any(|pattern| pattern.matches(name)))
            }
            Access::ReadRestricted | Access::Administer => false,
        },
        Role::Viewer => match access {
            Access::OwnIdentity | Access::Read => true,
            Access::ReadRestricted | Access::Deploy | Access::Administer => false,
        },
    };
    match allowed {
        true => Decision::Allow,
        false => Decision::Deny,
    }
}

impl Role {
    /// The role's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Deployer { .. } => "deployer",
            Self::Viewer => "viewer",
        }
    }
}

impl Access {
    /// Whether something is changed by it, so that the audit log is to have it.
    pub const fn changes(self) -> bool {
        match self {
            Self::OwnIdentity | Self::Read | Self::ReadRestricted => false,
            Self::Deploy | Self::Administer => true,
        }
    }
}

impl ServicePattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole name is as the pattern says.
    pub fn matches(&self, name: &str) -> bool {
        wildcard::matches(&self.0, name)
    }
}

impl FromStr for ServicePattern {
    type Err = InvalidServicePattern;

    fn from_str(text: &str) -> Result<Self, InvalidServicePattern> {
        let well_formed = (1..=SERVICE_PATTERN_LEN_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte));
        match well_formed {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidServicePattern {
                text: text.chars().take(SERVICE_PATTERN_LEN_MAX).collect(),
            }),
        }
    }
}

impl TryFrom<String> for ServicePattern {
    type Error = InvalidServicePattern;

    fn try_from(text: String) -> Result<Self, InvalidServicePattern> {
        text.parse()
    }
}

impl From<ServicePattern> for String {
    fn from(pattern: ServicePattern) -> String {
        pattern.0
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_has_the_characters_of_names_and_stars() {
        for text in ["", "a b", "a/b", "ü", "?", &"a".repeat(65)] {
            assert!(text.parse::<ServicePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_allowed_but_what_the_table_says() {
        use Access as A;
        let deployer = Role::Deployer {
            services: vec!["web-*".parse().unwrap(), "api".parse().unwrap()],
        };
        let nothing = Role::Deployer {
            services: Vec::new(),
        };
        let all = [
            A::OwnIdentity,
            A::Read,
            A::ReadRestricted,
            A::Deploy,
            A::Administer,
        ];
        for service in [None, Some("web-a"), Some("api"), Some("other")] {
            let allowed =
                |role: &Role| all.map(|access| decide(role, access, service) == Decision::Allow);
            assert_eq!(allowed(&Role::Admin), [true; 5]);
            assert_eq!(allowed(&Role::Viewer), [true, true, false, false, false]);
            assert_eq!(allowed(&nothing), [true, true, false, false, false]);
            let own = matches!(service, Some("web-a" | "api"));
            assert_eq!(allowed(&deployer), [true, true, false, own, false]);
        }
    }
}
