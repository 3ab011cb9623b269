//! What a store has, as one durable file.
//!
//! The catalogue is the only thing that is believed: a directory or a blob that it does not name
//! is a leftover of work that did not end, and is removed when the store is opened. An image enters
//! it after everything it names is on the disk.

use std::{collections::BTreeMap, io, path::Path};

use ekiden_model::{
    image::{Digest, ImageConfig, PreparedImage},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::durable;

/// Raised when an older Ekiden could not read the file any more.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Catalog {
    version: u32,
    /// By the digest of the platform's manifest.
    pub(super) images: BTreeMap<Digest, ImageRecord>,
    /// Full names with a tag and without a digest.
    pub(super) names: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) config: ImageConfig,
    /// Lowest first, as the image has them.
    pub(super) layers: Vec<LayerRecord>,
    /// Digests of indexes that led to this image: it is also known by them.
    pub(super) indexes: Vec<Digest>,
    pub(super) origin: Origin,
    pub(super) added_at: Timestamp,
    pub(super) used_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) diff_id: Digest,
    /// Of its archive, uncompressed.
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// From a registry, which still has it.
    Pulled,
    /// Made here of layers; nobody else has it, and it is made again if need be.
    Made,
    /// From a file: its blobs are kept, because nobody else may have them.
    Imported {
        /// Manifest, configuration, layers.
        blobs: Vec<BlobRecord>,
        /// How it was bootstrapped, if it was.
        recipe: Option<Recipe>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRecord {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// What a base image was made of: the same again gives nothing new for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) suite: String,
    /// Sorted.
    pub(super) packages: Vec<String>,
    pub(super) mirror: Option<String>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            version: VERSION,
            images: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }
}

impl Catalog {
    /// Reads the catalogue; a store without one is empty. Blocks.
    ///
    /// # Errors
    /// `InvalidData` for a file that is broken or of a newer Ekiden.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let catalog: Self = durable::read_json(path)?.unwrap_or_default();
        if catalog.version != VERSION {
            let problem = format!("it has version {}, not {VERSION}", catalog.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(catalog)
    }

    /// The image known by a digest: its own, or that of an index it came from.
    pub(super) fn image(&self, digest: &Digest) -> Option<Digest> {
        if self.images.contains_key(digest) {
            return Some(*digest);
        }
        self.images
            .iter()
            .find(|(_, record)| record.indexes.contains(digest))
            .map(|(digest, _)| *digest)
    }

    pub(super) fn names_of(&self, digest: &Digest) -> Vec<String> {
        let named = self.names.iter().filter(|(_, named)| *named == digest);
        named.map(|(name, _)| name.clone()).collect()
    }

    /// Takes an image out with all its names.
    pub(super) fn remove(&mut self, digest: &Digest) {
        self.images.remove(digest);
        self.names.retain(|_, named| named != digest);
    }
}

impl ImageRecord {
    pub(super) fn prepared(&self, digest: Digest) -> PreparedImage {
        PreparedImage {
            digest,
            config: self.config.clone(),
            size_bytes: self.layer_bytes(),
        }
    }

    /// Unpacked bytes, a layer that occurs twice counted once.
    pub(super) fn layer_bytes(&self) -> u64 {
        let distinct: BTreeMap<Digest, u64> = self
            .layers
            .iter()
            .map(|layer| (layer.diff_id, layer.bytes))
            .collect();
        distinct.values().sum()
    }

    pub(super) fn blobs(&self) -> &[BlobRecord] {
        match &self.origin {
            Origin::Pulled | Origin::Made => &[],
            Origin::Imported { blobs, .. } => blobs,
        }
    }

    pub(super) fn recipe(&self) -> Option<&Recipe> {
        match &self.origin {
            Origin::Pulled | Origin::Made => None,
            Origin::Imported { recipe, .. } => recipe.as_ref(),
        }
    }
}
