//! Images that no registry has: of a source tree, of other images' layers, of what an instance has left.
//!
//! Their layers are there already, or become so without being copied. Nothing of them is kept that could
//! be given away: whoever wants them elsewhere builds them there.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ekiden_engine::{MadeImage, STACKED_MAX};
use ekiden_model::image::{Digest, ImageConfig, ImageReference, PreparedImage};
use serde_json::json;

use super::{
    bootstrap::Bootstrap,
    catalog::{ImageRecord, LayerRecord, Origin},
    decode::DecodeBounds,
    error::ImageError,
    holds::Hold,
    manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform},
    progress::Progress,
    pull::digest_of,
    seal::{self, Rules, SealError, Sealed, Seen},
    store::{ImageStore, Store, blocking, now},
    unpack::UnpackBudget,
};

/// The distribution that base images of builds are made of.
const DISTRIBUTION: &str = "debian:bookworm";

/// The repository, below `localhost/`, that has the base images.
const BASES: &str = "ekiden-base";

/// What an instance has left, to be made an image.
pub struct Left {
    /// The image that it ran.
    pub image: Digest,
    /// Its upper directory.
    pub upper: PathBuf,
    /// The host's id of root inside.
    pub uid_base: u32,
    /// The newest time that a file has, in seconds since the Unix epoch.
    pub epoch: u64,
    /// A directory below `/` whose part is an image of its own.
    pub part: Option<String>,
    /// What the image says of its process.
    pub config: ImageConfig,
}

impl ImageStore {
    /// The base image with these packages, made if it is not here.
    ///
    /// # Errors
    /// Those of [`ImageStore::bootstrap`].
    pub async fn base(
        &self,
        mut packages: Vec<String>,
        progress: &Progress,
    ) -> Result<PreparedImage, ImageError> {
        packages.sort();
        packages.dedup();
        let tag = digest_of(packages.join(" ").as_bytes()).short();
        let name = format!("localhost/{BASES}:{tag}").parse::<ImageReference>();
        let name = name.map_err(|error| ImageError::BadRequest {
            problem: error.to_string(),
        })?;
        let bootstrap = Bootstrap {
            distribution: DISTRIBUTION.to_owned(),
            packages,
            mirror: None,
            name: name.clone(),
            refresh: false,
        };
        let made = self.bootstrap(bootstrap, progress).await;
        // One that is old is better than none while the mirror does not answer.
        let old = || self.0.use_image(&self.0.find(&name)?);
        made.or_else(|error| {
            let old = old().ok_or_else(|| error.clone())?;
            progress.phase(format!("the base image is not made anew: {error}"));
            Ok(old)
        })
    }

    /// The image of one layer whose archive is a file. It is read with every bound that a layer of a
    /// registry is.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when it is not what its digest says, and all that a layer can be refused
    /// for.
    pub async fn take_source(
        &self,
        archive: PathBuf,
        digest: Digest,
    ) -> Result<PreparedImage, ImageError> {
        let store = Arc::clone(&self.0);
        blocking(move || {
            let taken = take_source(&store, &archive, digest);
            store.tidy(taken.is_ok());
            taken
        })
        .await
    }

    /// The image of the layers of others, those of the first at the bottom.
    ///
    /// # Errors
    /// [`ImageError::NotHere`] when one of them is not; [`ImageError::BadRequest`] for none or too many.
    pub async fn stack(
        &self,
        images: Vec<Digest>,
        config: ImageConfig,
    ) -> Result<PreparedImage, ImageError> {
        let store = Arc::clone(&self.0);
        blocking(move || {
            if images.is_empty() || images.len() > STACKED_MAX {
                let problem = format!("1 to {STACKED_MAX} images can be stacked");
                return Err(ImageError::BadRequest { problem });
            }
            let held = hold_layers(&store, &images)?;
            store.add_made(held.layers.clone(), config)
        })
        .await
    }

    /// Makes an image of what an instance has left; its upper directory is gone then.
    ///
    /// # Errors
    /// [`ImageError::BadRequest`] when there is more of it than an image may have, or what none can
    /// have.
    pub async fn take_left(&self, left: Left) -> Result<MadeImage, ImageError> {
        let store = Arc::clone(&self.0);
        blocking(move || {
            let taken = take_left(&store, left);
            store.tidy(taken.is_ok());
            taken
        })
        .await
    }
}

/// Layers that stay while this is there.
struct HeldLayers {
    layers: Vec<LayerRecord>,
    _holds: Vec<Hold>,
}

fn hold_layers(store: &Store, images: &[Digest]) -> Result<HeldLayers, ImageError> {
    let mut layers = Vec::new();
    let mut holds = Vec::new();
    for digest in images {
        let not_here = || ImageError::NotHere {
            image: digest.to_string(),
        };
        let record = store.record(digest).ok_or_else(not_here)?;
        for layer in record.layers {
            // First the hold, then the look: see `Holds`.
            holds.push(store.layers.hold(layer.diff_id));
            if store.layers.bytes(&layer.diff_id).is_none() {
                return Err(not_here());
            }
            layers.push(layer);
        }
        store.use_image(digest);
    }
    Ok(HeldLayers {
        layers,
        _holds: holds,
    })
}

fn take_source(store: &Store, archive: &Path, digest: Digest) -> Result<PreparedImage, ImageError> {
    let hold = store.layers.hold(digest);
    if let Some(bytes) = store.layers.bytes(&digest) {
        let layer = LayerRecord {
            diff_id: digest,
            bytes,
        };
        let made = store.add_made(vec![layer], ImageConfig::default());
        drop(hold);
        return made;
    }
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(archive)
        .map_err(|error| ImageError::host("read the source in", archive, &error))?;
    let settings = &store.settings;
    let budget = UnpackBudget::new(settings.image_bytes_max, settings.image_entries_max);
    let bounds = DecodeBounds {
        budget: &budget,
        ratio_max: settings.compression_ratio_max,
    };
    let filled = store
        .layers
        .fill(BufReader::new(file), Some(digest), bounds);
    let (layer, _hold) = filled.map_err(|error| error.tell(&digest, &store.dir))?;
    store.add_made(vec![layer], ImageConfig::default())
}

fn take_left(store: &Store, left: Left) -> Result<MadeImage, ImageError> {
    let below = hold_layers(store, &[left.image])?;
    let fail = |error: &io::Error| ImageError::host("make a layer in", &store.dir, error);
    // First out of the way of whoever removes the instance.
    let upper = store
        .drafts
        .bury(&left.upper)
        .map_err(|error| fail(&error))?;
    let upper = upper.path();
    seal::prune(upper).map_err(|error| fail(&error))?;
    let mut seen = Seen::default();
    let mut rules = Rules {
        uid_base: left.uid_base,
        epoch: left.epoch,
        bytes_max: store.settings.image_bytes_max,
        entries_max: store.settings.image_entries_max,
    };
    let mut holds = Vec::new();
    let part = match &left.part {
        Some(name) => {
            let draft = store.drafts.directory().map_err(|error| fail(&error))?;
            let inside = upper.join(name);
            match is_plain_directory(&inside) {
                true => {
                    std::fs::rename(&inside, draft.path().join(name)).map_err(|e| fail(&e))?;
                    Some(take_tree(
                        store,
                        draft.path(),
                        &mut rules,
                        &mut seen,
                        &mut holds,
                    )?)
                }
                false => None,
            }
        }
        None => None,
    };
    let rest = take_tree(store, upper, &mut rules, &mut seen, &mut holds)?;
    let (rest, part) = (rest, part.flatten());
    let layers = below.layers.iter().copied().chain(rest).chain(part);
    let image = store.add_made(layers.collect(), left.config)?;
    let part = part.map(|layer| store.add_made(vec![layer], ImageConfig::default()));
    Ok(MadeImage {
        image,
        part: part.transpose()?,
    })
}

fn is_plain_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Makes a directory a layer, unless there is nothing in it. What it has used is taken off the bounds.
fn take_tree(
    store: &Store,
    top: &Path,
    rules: &mut Rules,
    seen: &mut Seen,
    holds: &mut Vec<Hold>,
) -> Result<Option<LayerRecord>, ImageError> {
    let Sealed {
        diff_id,
        bytes,
        entries,
    } = seal::seal(top, rules, seen).map_err(|error| refused(error, rules))?;
    if entries == 0 {
        return Ok(None);
    }
    rules.bytes_max = rules.bytes_max.saturating_sub(bytes);
    rules.entries_max = rules.entries_max.saturating_sub(entries);
    let layer = LayerRecord { diff_id, bytes };
    holds.push(store.layers.hold(diff_id));
    store
        .layers
        .adopt(top, layer)
        .map_err(|error| ImageError::host("make a layer in", &store.dir, &error))?;
    Ok(Some(layer))
}

fn refused(error: SealError, rules: &Rules) -> ImageError {
    match error {
        SealError::Refused(problem) => ImageError::BadRequest {
            problem: format!("what the build left cannot be an image: {problem}"),
        },
        SealError::TooLarge => ImageError::TooLarge {
            what: "what the build left".to_owned(),
            bytes_max: rules.bytes_max,
        },
        SealError::Host { path, source } => ImageError::host("read", &path, &source),
    }
}

impl Store {
    /// Adds an image of layers that are there and held. Blocks.
    fn add_made(
        &self,
        layers: Vec<LayerRecord>,
        config: ImageConfig,
    ) -> Result<PreparedImage, ImageError> {
        let digest = describe(&layers, &config);
        if let Some(prepared) = self.use_image(&digest) {
            return Ok(prepared);
        }
        let record = ImageRecord {
            config,
            layers,
            indexes: Vec::new(),
            origin: Origin::Made,
            added_at: now(),
            used_at: now(),
        };
        self.add(digest, record, None)
    }
}

/// The digest of the manifest that an image would have in a registry, its layers uncompressed.
fn describe(layers: &[LayerRecord], config: &ImageConfig) -> Digest {
    let platform = Platform::here();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    // In the order of names, so that the same says the same.
    let process = BTreeMap::from([
        ("Entrypoint", json!(config.entrypoint)),
        ("Cmd", json!(config.cmd)),
        ("Env", json!(config.env)),
        ("WorkingDir", json!(config.working_dir)),
        ("User", json!(config.user)),
        ("StopSignal", json!(config.stop_signal)),
    ]);
    let configuration = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let configuration = configuration.to_string().into_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(
            OCI_CONFIG,
            digest_of(&configuration),
            configuration.len() as u64,
        ),
        layers: layers
            .iter()
            .map(|layer| Descriptor::new(OCI_LAYER, layer.diff_id, layer.bytes))
            .collect(),
    };
    digest_of(&serde_json::to_vec(&manifest).unwrap_or_default())
}
