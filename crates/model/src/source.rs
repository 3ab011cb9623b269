//! Source code: where it is, how it becomes an image, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{image::PreparedImage, secret_reference::SecretReference};

/// What the URL of a source begins with that was uploaded: a name follows.
pub const UPLOAD_SCHEME: &str = "upload://";

/// Where a service's code is and how it becomes an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSource {
    /// A git remote, or [`UPLOAD_SCHEME`] and a name.
    pub url: String,
    /// A branch, a tag or a commit; of an upload, the digest of its archive.
    pub version: String,
    /// The directory that is built, from the root of the tree: empty for that itself, `/` only between
    /// names.
    pub directory: String,
    /// How it is built, as the API was told; what the tree says itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<CodeValues>,
    /// The ARN of the connection whose credential opens the remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
}

/// App Runner's `CodeConfigurationValues`, as far as a build needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeValues {
    /// One of App Runner's names, such as `PYTHON_311`.
    pub runtime: String,
    /// What builds it.
    pub build_command: Option<String>,
    /// What runs it.
    pub start_command: Option<String>,
}

impl CodeSource {
    /// Whether it was uploaded.
    pub fn is_upload(&self) -> bool {
        self.url.starts_with(UPLOAD_SCHEME)
    }
}

/// An image that is ready to be run, and what is known of it besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The image.
    pub image: PreparedImage,
    /// How it was built, if it was.
    pub built: Option<Built>,
}

impl From<PreparedImage> for Prepared {
    fn from(image: PreparedImage) -> Self {
        Self { image, built: None }
    }
}

/// What came of a build besides its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// What was built.
    pub from: BuiltFrom,
    /// Where the application listens, if the tree says so.
    pub port: Option<u16>,
    /// The secret variables that the tree names, if it does.
    pub secrets: Option<BTreeMap<String, SecretReference>>,
}

/// What an image was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltFrom {
    /// The commit, or the digest of an upload.
    pub version: String,
    /// The first line of the commit's message; empty for an upload.
    pub summary: String,
    /// What ran the build, with the version really used.
    pub runtime: String,
    /// The id of the tree that was built, the same for the same files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}
