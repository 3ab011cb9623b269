//! What an uploaded tree is made of.

use std::{collections::HashMap, fmt};

use ekiden_model::image::Digest;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::snapshot::{ENTRIES_MAX, Limits, SnapshotError, check_link, check_path, compare, shown};

/// Bytes of a manifest: 200,000 files with paths of 60 bytes fit.
pub const MANIFEST_BYTES_MAX: u64 = 32 << 20;

/// The only format there is.
const FORMAT: u32 = 1;

/// Every file and link of a tree, without content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// In any order; [`Manifest::read`] sorts them.
    #[serde(deserialize_with = "bounded")]
    pub items: Vec<Item>,
}

/// One file or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Relative, with `/` between names.
    pub path: String,
    /// Seconds since the Unix epoch.
    pub modified: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: ItemKind,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ItemKind {
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// Of its content.
        bytes: u64,
        /// Of its content.
        digest: Digest,
    },
    /// A symbolic link.
    Link {
        /// As it is written.
        target: String,
    },
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// It is no manifest at all.
    #[error("the manifest is not understood: {0}")]
    Malformed(String),
    /// Too many bytes.
    #[error("the manifest is larger than {} MiB, the most that is taken", MANIFEST_BYTES_MAX >> 20)]
    TooLarge,
    /// Made by another release.
    #[error(
        "the manifest has format {0}, and this server knows format {FORMAT}: use the same release"
    )]
    Format(u32),
    /// Two sizes for one content.
    #[error("the manifest has two sizes for the content {0}")]
    Sizes(Digest),
    /// What it says can be no tree, or too large a one.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
}

impl Manifest {
    /// A manifest of these items.
    pub fn new(mut items: Vec<Item>) -> Self {
        items.sort_by(|a, b| compare(&a.path, &b.path));
        Self {
            format: FORMAT,
            items,
        }
    }

    /// Reads a manifest that came from somewhere, and checks all that can be checked without content.
    pub fn read(json: &[u8], limits: &Limits) -> Result<Self, InvalidManifest> {
        if json.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(InvalidManifest::TooLarge);
        }
        let read: Self = serde_json::from_slice(json)
            .map_err(|error| InvalidManifest::Malformed(shown(&error.to_string())))?;
        if read.format != FORMAT {
            return Err(InvalidManifest::Format(read.format));
        }
        let manifest = Self::new(read.items);
        manifest.check(limits)?;
        Ok(manifest)
    }

    /// Sees to it that the items can be a tree, within the bounds.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), InvalidManifest> {
        let entries_max = limits.entries_max;
        if self.items.len() > entries_max {
            return Err(SnapshotError::TooMany { entries_max }.into());
        }
        let mut sum = 0;
        let mut sizes: HashMap<Digest, u64> = HashMap::new();
        for item in &self.items {
            let refuse = |problem| SnapshotError::refused(&item.path, problem);
            check_path(&item.path, limits.path_bytes_max).map_err(refuse)?;
            match &item.kind {
                ItemKind::File { bytes, digest, .. } => {
                    limits.add(&item.path, *bytes, &mut sum)?;
                    if sizes
                        .insert(*digest, *bytes)
                        .is_some_and(|was| was != *bytes)
                    {
                        return Err(InvalidManifest::Sizes(*digest));
                    }
                }
                ItemKind::Link { target } => {
                    check_link(&item.path, target, limits.path_bytes_max).map_err(refuse)?;
                }
            }
        }
        Ok(())
    }

    /// The size of each content.
    pub(super) fn contents(&self) -> HashMap<Digest, u64> {
        let files = self.items.iter().filter_map(|item| match item.kind {
            ItemKind::File { digest, bytes, .. } => Some((digest, bytes)),
            ItemKind::Link { .. } => None,
        });
        files.collect()
    }

    /// The time of the newest item.
    pub(super) fn epoch(&self) -> u64 {
        let times = self.items.iter().map(|item| item.modified);
        times.max().unwrap_or_default()
    }

    /// As it is sent.
    pub fn to_json(&self) -> Vec<u8> {
        // Only maps with odd keys fail, and there are none here.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A list that stops being read when it is too long, before it takes more memory than a tree may.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Item>, D::Error> {
    struct Items;

    impl<'de> Visitor<'de> for Items {
        type Value = Vec<Item>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {ENTRIES_MAX} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == ENTRIES_MAX {
                    return Err(A::Error::invalid_length(ENTRIES_MAX + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Items)
}
