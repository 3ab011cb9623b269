//! Repositories of the built-in registry, and what is pushed to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{image::Digest, time::Timestamp, wildcard};

/// Bytes of a repository's name: 2 to so many, as in ECR.
pub const REPOSITORY_NAME_BYTES_MAX: usize = 256;

/// The name by which the engine of the installation itself logs in, to pull.
pub const ENGINE_USER: &str = "ekiden-engine";

/// A repository and its owner's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Lower-case path, the same for all regions.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether a tag may be given to another image.
    pub mutability: TagMutability,
    /// Tags that `mutability` holds not for: patterns with `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutability_exceptions: Vec<String>,
    /// Kept and told; nothing is scanned.
    #[serde(default)]
    pub scan_on_push: bool,
    /// Kept and told; blobs are as the disk is.
    #[serde(default)]
    pub encryption: Encryption,
    /// Kept and told, a JSON document; access keys decide who may do what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What is removed by itself: a JSON document in ECR's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    /// When `lifecycle` was last gone by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_evaluated_at: Option<Timestamp>,
    /// Its owner's labels, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
}

/// Whether a tag may be given to another image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagMutability {
    /// It may.
    #[default]
    Mutable,
    /// It may not.
    Immutable,
}

/// How a repository says that it is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// `AES256`, `KMS` or `KMS_DSSE`.
    pub kind: String,
    /// The key's ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Default for Encryption {
    fn default() -> Self {
        Self {
            kind: "AES256".to_owned(),
            key: None,
        }
    }
}

/// What is known of a manifest beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Of its bytes.
    pub digest: Digest,
    /// As it was pushed.
    pub media_type: String,
    /// Bytes of it.
    pub size: u64,
    /// Bytes of the layers that it names, compressed; 0 of an index.
    pub layers_size: u64,
    /// What it is, if it is an artifact: its own word, or the media type of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When it was first pushed.
    pub pushed_at: Timestamp,
}

impl Repository {
    /// One with the defaults.
    pub fn new(name: &str, created_at: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            created_at,
            mutability: TagMutability::Mutable,
            mutability_exceptions: Vec::new(),
            scan_on_push: false,
            encryption: Encryption::default(),
            policy: None,
            lifecycle: None,
            lifecycle_evaluated_at: None,
            tags: Vec::new(),
        }
    }

    /// Whether a tag stays with the image that it was given to.
    pub fn keeps(&self, tag: &str) -> bool {
        let is_exception = self
            .mutability_exceptions
            .iter()
            .any(|pattern| wildcard::matches(pattern, tag));
        match self.mutability {
            TagMutability::Mutable => is_exception,
            TagMutability::Immutable => !is_exception,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_turn_the_rule_around() {
        let mut repository = Repository::new("a/b", Timestamp::from_millis(0));
        assert!(!repository.keeps("1"));
        repository.mutability = TagMutability::Immutable;
        repository.mutability_exceptions = vec!["dev-*".to_owned()];
        assert!(repository.keeps("1") && !repository.keeps("dev-1"));
    }
}
