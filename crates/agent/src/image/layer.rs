//! Unpacked layers, each once, named by the digest of its archive (the diff id).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    io::BufRead,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ekiden_model::image::Digest;

use super::{
    catalog::LayerRecord,
    decode::{DecodeBounds, decode},
    draft::{Draft, Drafts, make_private_directory},
    error::ImageError,
    holds::{Hold, Holds},
    unpack::{UnpackError, unpack},
};

/// The directory of layers.
///
/// A layer is there when it is in `complete`; its directory has the name of its digest from the
/// moment it is whole. It is not synced then: that happens once for all layers of an image, before
/// the image enters the catalogue.
pub(super) struct Layers {
    dir: PathBuf,
    drafts: Arc<Drafts>,
    complete: Mutex<BTreeMap<Digest, u64>>,
    holds: Holds,
}

impl Layers {
    /// Takes over the layers that the catalogue knows and removes all others. Blocks.
    pub(super) fn open(
        dir: PathBuf,
        drafts: Arc<Drafts>,
        known: &BTreeMap<Digest, u64>,
    ) -> io::Result<Self> {
        make_private_directory(&dir)?;
        let mut complete = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            match digest_of(&entry.path()).and_then(|digest| known.get_key_value(&digest)) {
                Some((digest, bytes)) => drop(complete.insert(*digest, *bytes)),
                None => drop(drafts.bury(&entry.path())?),
            }
        }
        Ok(Self {
            dir,
            drafts,
            complete: Mutex::new(complete),
            holds: Holds::default(),
        })
    }

    /// Where a layer's files are, or would be.
    pub(super) fn path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join(diff_id.hex())
    }

    /// Keeps a layer, whether it is there already or comes later.
    pub(super) fn hold(&self, diff_id: Digest) -> Hold {
        self.holds.hold(diff_id)
    }

    /// Bytes of a layer that is there.
    pub(super) fn bytes(&self, diff_id: &Digest) -> Option<u64> {
        self.lock().get(diff_id).copied()
    }

    /// Bytes of all layers, those included that no image has yet.
    pub(super) fn total_bytes(&self) -> u64 {
        self.lock().values().sum()
    }

    /// Unpacks a layer from its compressed archive and checks that it is `expected`. It is held
    /// when it is there. Blocks.
    pub(super) fn fill(
        &self,
        source: impl BufRead + Send,
        expected: Option<Digest>,
        bounds: DecodeBounds<'_>,
    ) -> Result<(LayerRecord, Hold), FillError> {
        let draft = self.drafts.directory().map_err(FillError::Place)?;
        let decoded = decode(source, bounds, |archive| {
            unpack(archive, draft.path(), bounds.budget)
        })
        .map_err(FillError::Unpack)?;
        if let Some(expected) = expected
            && expected != decoded.diff_id
        {
            return Err(FillError::DiffId {
                expected,
                actual: decoded.diff_id,
            });
        }
        let layer = LayerRecord {
            diff_id: decoded.diff_id,
            bytes: decoded.bytes,
        };
        let hold = self.hold(layer.diff_id);
        self.finish(draft, layer).map_err(FillError::Place)?;
        Ok((layer, hold))
    }

    /// Takes a directory over that is a layer already. Blocks.
    pub(super) fn adopt(&self, directory: &Path, layer: LayerRecord) -> io::Result<()> {
        if let Entry::Vacant(vacant) = self.lock().entry(layer.diff_id) {
            fs::rename(directory, self.path(&layer.diff_id))?;
            vacant.insert(layer.bytes);
        }
        Ok(())
    }

    fn finish(&self, draft: Draft, layer: LayerRecord) -> io::Result<()> {
        // An import and a pull may have had the same layer in work.
        if let Entry::Vacant(vacant) = self.lock().entry(layer.diff_id) {
            draft.finish(&self.path(&layer.diff_id))?;
            vacant.insert(layer.bytes);
        }
        Ok(())
    }

    /// Removes every layer that is neither in `used` nor held. Blocks.
    pub(super) fn sweep(&self, used: &BTreeMap<Digest, u64>) -> io::Result<()> {
        let mut buried = Vec::new();
        {
            let mut complete = self.lock();
            let unused: Vec<Digest> = complete
                .keys()
                .filter(|diff_id| !used.contains_key(diff_id) && self.holds.count(diff_id) == 0)
                .copied()
                .collect();
            for diff_id in unused {
                buried.push(self.drafts.bury(&self.path(&diff_id))?);
                complete.remove(&diff_id);
            }
        }
        // Here the files go, which takes long, while others may look.
        drop(buried);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a layer was not filled.
#[derive(Debug)]
pub(super) enum FillError {
    Unpack(UnpackError),
    DiffId {
        expected: Digest,
        actual: Digest,
    },
    /// The layer's own directory.
    Place(io::Error),
}

impl FillError {
    /// For people. `layer` is the digest that the manifest has; `dir` the store's directory.
    pub(super) fn tell(self, layer: &Digest, dir: &Path) -> ImageError {
        let layer = layer.short();
        let refused = |problem| ImageError::Layer {
            layer: layer.clone(),
            problem,
        };
        match self {
            Self::DiffId { expected, actual } => ImageError::Corrupt {
                what: format!("unpacked layer `{layer}`"),
                expected,
                actual,
            },
            Self::Place(error) => ImageError::host("unpack a layer in", dir, &error),
            Self::Unpack(UnpackError::Refused(problem)) => refused(problem),
            Self::Unpack(UnpackError::TooLarge(bytes_max)) => ImageError::TooLarge {
                what: format!("the image with layer `{layer}`"),
                bytes_max,
            },
            Self::Unpack(UnpackError::Read(error)) => {
                refused(format!("it cannot be decompressed: {error}"))
            }
            Self::Unpack(UnpackError::Write { entry, source }) => ImageError::host(
                format!("unpack `{entry}` of layer `{layer}` in"),
                dir,
                &source,
            ),
        }
    }
}

fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?)
        .parse()
        .ok()
}
