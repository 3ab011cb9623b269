//! Names of custom domains, and which of them can be one.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name that the DNS can hold, in bytes (RFC 1035, section 3.1, without the last dot).
const NAME_BYTES_MAX: usize = 253;

/// The longest label, in bytes (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// What stands before a name in the name of its validation record: `_`, 32 digits and a dot.
const RECORD_PREFIX_BYTES: usize = 34;

/// The longest name that still has room for its validation record.
pub const DOMAIN_BYTES_MAX: usize = NAME_BYTES_MAX - RECORD_PREFIX_BYTES;

/// What stands before the names of a wildcard.
const WILDCARD: &str = "*.";

/// What stands before the second name of a domain that has one.
const WWW: &str = "www.";

/// A domain that can lead to a service: lower case, no dot at its end, at least two labels, and
/// before them `*.` for every name one label below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DomainName(String);

/// Why a text cannot be a custom domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomainName {
    /// Too long for its validation record.
    #[error(
        "`{start}...` is too long: {bytes} bytes, and with its validation record's label at most \
         {DOMAIN_BYTES_MAX} fit into a DNS name"
    )]
    TooLong {
        /// Its first characters.
        start: String,
        /// How long it is.
        bytes: usize,
    },
    /// It ends in a dot.
    #[error("`{0}` ends in a dot: give the domain without it")]
    TrailingDot(String),
    /// A label is none.
    #[error(
        "`{label}` in `{name}` is not a label of a domain: 1 to {LABEL_BYTES_MAX} letters, digits \
         and `-`, the first and the last a letter or digit"
    )]
    Label {
        /// The whole.
        name: String,
        /// What is wrong with it.
        label: String,
    },
    /// `*` is not in front, or not alone there.
    #[error(
        "`{0}` has a `*` where none can be: a wildcard is `*.` and a domain, such as `*.example.com`"
    )]
    Wildcard(String),
    /// One label alone.
    #[error("`{0}` is a single label: a custom domain has two or more, such as `example.com`")]
    SingleLabel(String),
    /// An address.
    #[error("`{0}` is an IP address, and not a domain")]
    Address(String),
    /// It belongs to the installation.
    #[error(
        "`{name}` is inside `{domain}`, the installation's own domain, which services get their \
         names from"
    )]
    Own {
        /// The whole.
        name: String,
        /// The installation's.
        domain: String,
    },
    /// A wildcard with a www name.
    #[error("the wildcard `{0}` has no www name: leave EnableWWWSubdomain out, or set it to false")]
    WildcardWithWww(String),
}

impl DomainName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for every name one label below.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(WILDCARD)
    }

    /// The name that a certificate proves: itself, or what a wildcard's names are below.
    pub fn base(&self) -> &str {
        self.0.strip_prefix(WILDCARD).unwrap_or(&self.0)
    }

    /// The name that goes with it when it has one: itself with `www.` in front.
    pub fn www(&self) -> String {
        format!("{WWW}{}", self.0)
    }

    /// Whether it comes with its www name: as asked, or else every domain does that is no wildcard.
    ///
    /// # Errors
    /// A wildcard has none, and the www name must not be too long either.
    pub fn with_www(&self, asked: Option<bool>) -> Result<bool, InvalidDomainName> {
        let www = asked.unwrap_or(!self.is_wildcard());
        if www && self.is_wildcard() {
            return Err(InvalidDomainName::WildcardWithWww(self.0.clone()));
        }
        if www && self.0.len() + WWW.len() > DOMAIN_BYTES_MAX {
            return Err(too_long(&self.www()));
        }
        Ok(www)
    }

    /// Refuses the installation's own domain and what is below it.
    ///
    /// # Errors
    /// [`InvalidDomainName::Own`].
    pub fn outside(&self, domain: &str) -> Result<(), InvalidDomainName> {
        let below = self.base().strip_suffix(domain);
        match below {
            Some(rest) if rest.is_empty() || rest.ends_with('.') => Err(InvalidDomainName::Own {
                name: self.0.clone(),
                domain: domain.to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

impl FromStr for DomainName {
    type Err = InvalidDomainName;

    fn from_str(text: &str) -> Result<Self, InvalidDomainName> {
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(too_long(text));
        }
        let name = text.to_ascii_lowercase();
        if name.len() > 1 && name.ends_with('.') {
            return Err(InvalidDomainName::TrailingDot(name));
        }
        let base = name.strip_prefix(WILDCARD).unwrap_or(&name);
        if base.contains('*') {
            return Err(InvalidDomainName::Wildcard(name));
        }
        if let Some(label) = base.split('.').find(|label| !is_label(label)) {
            return Err(InvalidDomainName::Label {
                label: label.to_owned(),
                name,
            });
        }
        // No top level domain is a number, and what ends in one is read as an address (URL
        // Standard, "ends in a number").
        let last = base.rsplit('.').next().unwrap_or(base);
        if base.parse::<Ipv4Addr>().is_ok() || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidDomainName::Address(name));
        }
        if last.len() == base.len() {
            return Err(InvalidDomainName::SingleLabel(name));
        }
        Ok(Self(name))
    }
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn too_long(text: &str) -> InvalidDomainName {
    InvalidDomainName::TooLong {
        start: text.chars().take(40).collect(),
        bytes: text.len(),
    }
}

impl TryFrom<String> for DomainName {
    type Error = InvalidDomainName;

    fn try_from(text: String) -> Result<Self, InvalidDomainName> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> String {
        name.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
