//! Container images: how they are named and what they say of the process they hold.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The registry that names without a registry belong to, as every container tool has it.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The registry name of images that were imported or made on this machine; never looked up on a
/// network.
pub const LOCAL_REGISTRY: &str = "localhost";

/// The longest image reference accepted, in bytes; App Runner's `ImageIdentifier` has the same.
pub const REFERENCE_BYTES_MAX: usize = 1024;

/// A SHA-256 digest, written `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// Text that is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected `sha256:` and 64 lowercase hexadecimal digits")]
pub struct InvalidDigest {
    text: String,
}

impl Digest {
    /// The digest that a SHA-256 computation gave.
    pub const fn from_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 digits, without the algorithm.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first twelve digits: enough for a person to tell a few apart, never an identity.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest {
            text: text.chars().take(128).collect(),
        };
        let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?.as_bytes();
        if hex.len() != 64 {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])
                .zip(nibble(pair[1]))
                .map(|(h, l)| h << 4 | l)
                .ok_or_else(invalid)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A parsed image reference: `[registry/]repository[:tag][@digest]`.
///
/// Follows the grammar of the distribution project's `reference` package, as Docker, Podman and
/// skopeo do: the first segment is a registry when it has a `.` or a `:` or is `localhost`;
/// without one, the registry is [`DEFAULT_REGISTRY`], and a single-segment repository there is
/// under `library/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ImageReference {
    /// Host and optional port.
    pub registry: String,
    /// Lower-case path below the registry.
    pub repository: String,
    /// Absent when only a digest was given; `latest` when neither was.
    pub tag: Option<String>,
    /// When present, it decides and the tag is only a remark.
    pub digest: Option<Digest>,
}

/// Text that does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not name an image: {problem}")]
pub struct InvalidReference {
    text: String,
    problem: &'static str,
}

impl ImageReference {
    /// Whether it names an image that only this machine can have.
    pub fn is_local(&self) -> bool {
        self.registry == LOCAL_REGISTRY
    }
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse_reference(text).map_err(|problem| InvalidReference {
            text: text.chars().take(200).collect(),
            problem,
        })
    }
}

fn parse_reference(text: &str) -> Result<ImageReference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > REFERENCE_BYTES_MAX {
        return Err("it is longer than 1024 bytes");
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            let digest = digest
                .parse()
                .map_err(|_| "what follows `@` is not a sha256 digest")?;
            (name, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag must be 1 to 128 letters, digits, `_`, `.` and `-`");
    }
    let (registry, repository) = split_registry(name);
    if !is_registry(&registry) {
        return Err("the registry is not a host name with an optional port");
    }
    if !is_repository(&repository) {
        return Err(
            "the repository must be lower-case letters and digits, separated by `.`, `_`, `-` and `/`",
        );
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    let reference = ImageReference {
        registry,
        repository,
        tag,
        digest,
    };
    // What is kept is the whole of it, and must be readable again.
    if reference.to_string().len() > REFERENCE_BYTES_MAX {
        return Err("it is longer than 1024 bytes with its registry and tag");
    }
    Ok(reference)
}

fn split_registry(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == LOCAL_REGISTRY => {
            (first.to_owned(), rest.to_owned())
        }
        Some(_) => (DEFAULT_REGISTRY.to_owned(), name.to_owned()),
        None => (DEFAULT_REGISTRY.to_owned(), format!("library/{name}")),
    }
}

fn is_registry(text: &str) -> bool {
    // A bracketed IPv6 address, or a host name or IPv4 address, each with an optional port.
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => {
            let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
            if !is_address || !(port.is_empty() || port.starts_with(':')) {
                return false;
            }
            return port.is_empty() || is_port(&port[1..]);
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_is_good = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    host_is_good && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Whether it is a lower-case path below a registry (distribution specification, `<name>`).
pub fn is_repository(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Whether it is 1 to 128 letters, digits, `_`, `.` and `-` (distribution specification, `<reference>`).
pub fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, from the distribution specification.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
        return false;
    }
    text.split(alphanumeric).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for ImageReference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.to_string()
    }
}

/// What a reference stands for at its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// What the name leads to: an index, or the image itself.
    pub named: Digest,
    /// The image for this platform: what a revision would pin.
    pub image: Digest,
}

/// An image that is ready to run: pulled, verified and unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedImage {
    /// The digest of its platform manifest: what a revision pins.
    pub digest: Digest,
    /// What it says of its process.
    pub config: ImageConfig,
    /// Bytes of its layers, unpacked.
    pub size_bytes: u64,
}

/// The part of an image's configuration that decides how its process runs (OCI image
/// specification, "Image Configuration").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Argument vector that comes first.
    pub entrypoint: Vec<String>,
    /// Default arguments, replaced by a start command.
    pub cmd: Vec<String>,
    /// `NAME=value` in order; later wins.
    pub env: Vec<String>,
    /// Empty means `/`.
    pub working_dir: String,
    /// `user[:group]`, empty means root.
    pub user: String,
    /// A signal's name (`SIGQUIT`) or number, empty means SIGTERM.
    pub stop_signal: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        match text.parse::<ImageReference>() {
            Ok(reference) => assert_eq!(reference.to_string(), want),
            Err(error) => assert_eq!(format!("error: {}", error.problem), want),
        }
    }

    #[test]
    fn references_are_completed_as_container_tools_do() {
        check("debian", "docker.io/library/debian:latest");
        check("team/app:1", "docker.io/team/app:1");
        check("localhost/app", "localhost/app:latest");
        check(
            "127.0.0.1:5000/app:v1.2-rc_3",
            "127.0.0.1:5000/app:v1.2-rc_3",
        );
        check("[::1]:5000/app", "[::1]:5000/app:latest");
        check(
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/a/b__c:x",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/a/b__c:x",
        );
        let digest = format!("sha256:{}", "ab".repeat(32));
        check(
            &format!("quay.io/a@{digest}"),
            &format!("quay.io/a@{digest}"),
        );
        check(
            &format!("quay.io/a:1@{digest}"),
            &format!("quay.io/a:1@{digest}"),
        );
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        check("", "error: it is empty");
        check(
            "a@sha256:12",
            "error: what follows `@` is not a sha256 digest",
        );
        check(
            "a:-x",
            "error: the tag must be 1 to 128 letters, digits, `_`, `.` and `-`",
        );
        check(
            "bad_host.com:99999/a",
            "error: the registry is not a host name with an optional port",
        );
        for name in [
            "App", "a//b", "../a", "a/../b", "a--", "_a", "a b", "a\nb", "a_-b",
        ] {
            assert!(name.parse::<ImageReference>().is_err(), "{name}");
        }
    }

    /// Found by fuzzing: what was added to a short name made a reference that is kept and that
    /// nobody can read again.
    #[test]
    fn a_reference_that_is_too_long_when_it_is_completed_is_refused() {
        for (length, good) in [(999, true), (1000, false), (1024, false)] {
            let parsed = "a".repeat(length).parse::<ImageReference>();
            assert_eq!(parsed.is_ok(), good, "{length}");
            if let Ok(reference) = parsed {
                assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }
    }

    #[test]
    fn digest_reads_back_what_it_prints() {
        let digest = Digest::from_sha256([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:zz".parse::<Digest>().is_err());
        assert!(
            format!("sha256:{}", "A".repeat(64))
                .parse::<Digest>()
                .is_err()
        );
    }
}
