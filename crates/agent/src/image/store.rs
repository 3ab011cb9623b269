//! The image store of one host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use ekiden_engine::remote::ImageSummary;
use ekiden_model::{
    image::{Digest, ImageReference, PreparedImage, ResolvedImage},
    time::Timestamp,
};
use tokio::sync::Semaphore;

use super::{
    blob::Blobs,
    catalog::{Catalog, ImageRecord, LayerRecord},
    collect::{self, Rules},
    draft::{Drafts, make_private_directory},
    error::ImageError,
    flight::Flights,
    holds::{Hold, Holds},
    layer::Layers,
    progress::Progress,
    pull,
    registry::Registry,
    settings::ImageSettings,
};
use crate::durable;

/// Images, unpacked and ready to be mounted.
///
/// Cheap to clone: clones are the same store. One process may have a directory open.
#[derive(Clone)]
pub struct ImageStore(pub(super) Arc<Store>);

/// Keeps an image's layers where they are, until dropped.
#[derive(Debug)]
pub struct ImagePin {
    _hold: Hold,
}

pub(super) struct Store {
    pub(super) dir: PathBuf,
    pub(super) settings: ImageSettings,
    pub(super) registry: Registry,
    pub(super) drafts: Arc<Drafts>,
    /// See [`ImageSettings::scratch`].
    pub(super) scratch: Arc<Drafts>,
    pub(super) layers: Layers,
    pub(super) blobs: Blobs,
    pub(super) pulls: Flights<String, Result<PreparedImage, ImageError>>,
    pub(super) fetches: Flights<Digest, Result<u64, ImageError>>,
    /// One permit per layer in work.
    pub(super) slots: Semaphore,
    pins: Holds,
    state: Mutex<State>,
    /// Taken before `state` by whoever changes the catalogue, and kept until it is on the disk.
    writing: Mutex<()>,
}

struct State {
    catalog: Catalog,
    /// What must stay; `None` until it is first told, and then nothing is collected.
    retained: Option<BTreeSet<Digest>>,
}

impl State {
    fn is_retained(&self, digest: &Digest) -> bool {
        self.retained
            .as_ref()
            .is_some_and(|retained| retained.contains(digest))
    }
}

impl ImageStore {
    /// Opens the store in `dir`, made if need be and for root alone. What a crash has left
    /// unfinished is removed.
    ///
    /// # Errors
    /// [`ImageError::Host`] when the directory or the catalogue in it cannot be read.
    pub async fn open(dir: PathBuf, settings: ImageSettings) -> Result<Self, ImageError> {
        let open = move || Store::open(dir, settings).map(|store| Self(Arc::new(store)));
        blocking(open).await
    }

    /// Makes an image ready to run. A tag is resolved anew at each call, at its registry; an image
    /// asked for by digest, and every image under `localhost/`, is used as it is here.
    ///
    /// Callers who want the same image at the same time share one download, and only the first
    /// one's `progress` is told. Takes at most [`ImageSettings::pull_deadline`]. Not tied to the
    /// caller: a download goes on when the future is dropped, and the next call finds it done.
    ///
    /// # Errors
    /// Every [`ImageError`] about registries, layers and the disk.
    pub async fn prepare(
        &self,
        reference: &ImageReference,
        progress: &Progress,
    ) -> Result<PreparedImage, ImageError> {
        let store = &self.0;
        if let Some(prepared) = store.find_without_asking(reference) {
            return Ok(prepared);
        }
        if reference.is_local() {
            return Err(ImageError::NotHere {
                image: reference.to_string(),
            });
        }
        let work = || pull::pull(Arc::clone(store), reference.clone(), progress.clone());
        let (_, pulled) = store.pulls.run(reference.to_string(), work).await;
        pulled.unwrap_or_else(|| Err(lost()))
    }

    /// Asks a registry what a reference stands for now. Fetches nothing, and is no use of the image.
    ///
    /// # Errors
    /// Those of a registry, and [`ImageError::NotHere`] of an image under `localhost/`, which no
    /// registry has.
    pub async fn resolve(&self, reference: &ImageReference) -> Result<ResolvedImage, ImageError> {
        if reference.is_local() {
            return Err(ImageError::NotHere {
                image: reference.to_string(),
            });
        }
        pull::stands_for(&self.0, reference).await
    }

    /// The directories of an image's layers, topmost first, as overlayfs wants them. A layer that
    /// an image has twice is there once, where it is topmost: overlayfs refuses a directory that
    /// occurs twice, and everything of the lower one is hidden by the upper one.
    ///
    /// # Errors
    /// [`ImageError::NotHere`].
    pub fn layers(&self, digest: &Digest) -> Result<Vec<PathBuf>, ImageError> {
        let state = self.0.state();
        let record = state
            .catalog
            .images
            .get(digest)
            .ok_or_else(|| not_here(digest))?;
        let mut seen = BTreeSet::new();
        let topmost_first = record
            .layers
            .iter()
            .rev()
            .filter(|layer| seen.insert(layer.diff_id));
        Ok(topmost_first
            .map(|layer| self.0.layers.path(&layer.diff_id))
            .collect())
    }

    /// Keeps an image, for an instance that runs from it.
    ///
    /// # Errors
    /// [`ImageError::NotHere`] when it is gone already: prepare it again.
    pub fn pin(&self, digest: &Digest) -> Result<ImagePin, ImageError> {
        // First the hold, then the look: see `Holds`.
        let hold = self.0.pins.hold(*digest);
        match self.0.state().catalog.images.contains_key(digest) {
            true => Ok(ImagePin { _hold: hold }),
            false => Err(not_here(digest)),
        }
    }

    /// Tells which images must stay; replaces what was told before. Until the first call after the
    /// store was opened, everything stays.
    pub fn retain(&self, images: &[Digest]) {
        self.0.state().retained = Some(images.iter().copied().collect());
    }

    /// Every image, by digest.
    pub fn list(&self) -> Vec<ImageSummary> {
        let state = self.0.state();
        let images = state.catalog.images.iter();
        images
            .map(|(digest, record)| ImageSummary {
                digest: *digest,
                names: state
                    .catalog
                    .names_of(digest)
                    .iter()
                    .flat_map(|name| name.parse())
                    .collect(),
                size_bytes: record.layer_bytes(),
                in_use: state.is_retained(digest) || self.0.pins.count(digest) > 0,
            })
            .collect()
    }

    /// Takes a name away. The image goes when nothing needs it and its room is wanted.
    ///
    /// # Errors
    /// [`ImageError::Host`] when the catalogue cannot be written.
    pub async fn unname(&self, name: &ImageReference) -> Result<(), ImageError> {
        let (store, name) = (Arc::clone(&self.0), name.to_string());
        blocking(move || {
            store
                .change(|state| state.catalog.names.remove(&name))
                .map(|_| ())
        })
        .await
    }

    /// Takes a name away, and the image with it when it has no other; or, given a name with a
    /// digest, the image that has the digest with all its names.
    ///
    /// # Errors
    /// [`ImageError::NotHere`]; [`ImageError::InUse`] while an instance runs from it;
    /// [`ImageError::BadRequest`] while a service's revision needs it.
    pub async fn remove(&self, reference: &ImageReference) -> Result<(), ImageError> {
        let store = Arc::clone(&self.0);
        let asked = reference.clone();
        blocking(move || store.remove(&asked)).await
    }
}

impl Store {
    fn open(dir: PathBuf, settings: ImageSettings) -> Result<Self, ImageError> {
        let fail = |error| ImageError::host("open the image store", &dir, &error);
        make_private_directory(&dir).map_err(fail)?;
        let mut catalog = Catalog::read(&dir.join("catalog.json")).map_err(fail)?;
        let drafts = Arc::new(Drafts::open(dir.join("tmp")).map_err(fail)?);
        let scratch = match settings.scratch.clone() {
            Some(dir) => Arc::new(Drafts::open_to_others(dir).map_err(fail)?),
            None => Arc::clone(&drafts),
        };
        let records = catalog.images.values().flat_map(|record| &record.layers);
        let known = records.map(|layer| (layer.diff_id, layer.bytes)).collect();
        let layers = Layers::open(dir.join("layers"), Arc::clone(&drafts), &known).map_err(fail)?;
        drop_incomplete(&mut catalog, &layers);
        let known = used_blobs(&catalog);
        let blobs = Blobs::open(dir.join("blobs"), Arc::clone(&drafts), &known).map_err(fail)?;
        layers.sweep(&used_layers(&catalog)).map_err(fail)?;
        Ok(Self {
            registry: Registry::new(&settings),
            slots: Semaphore::new(settings.parallel_layers.max(1)),
            state: Mutex::new(State {
                catalog,
                retained: None,
            }),
            writing: Mutex::new(()),
            pins: Holds::default(),
            pulls: Flights::default(),
            fetches: Flights::default(),
            dir,
            settings,
            scratch,
            drafts,
            layers,
            blobs,
        })
    }

    /// Names under `localhost` and digests that are here mean what is here.
    fn find_without_asking(&self, reference: &ImageReference) -> Option<PreparedImage> {
        if reference.digest.is_none() && !reference.is_local() {
            return None;
        }
        self.use_image(&self.find(reference)?)
    }

    /// What a name stands for here.
    pub(super) fn find(&self, reference: &ImageReference) -> Option<Digest> {
        let state = self.state();
        match &reference.digest {
            Some(digest) => state.catalog.image(digest),
            None => state.catalog.names.get(&reference.to_string()).copied(),
        }
    }

    /// An image that is here; it counts as used now.
    pub(super) fn use_image(&self, digest: &Digest) -> Option<PreparedImage> {
        let mut state = self.state();
        let record = state.catalog.images.get_mut(digest)?;
        // Written with the next change: a crash forgets when an image was last used, no more.
        record.used_at = now();
        Some(record.prepared(*digest))
    }

    pub(super) fn record(&self, digest: &Digest) -> Option<ImageRecord> {
        self.state().catalog.images.get(digest).cloned()
    }

    /// Adds an image whose layers and blobs are there and held. Syncs everything first. Blocks.
    pub(super) fn add(
        &self,
        digest: Digest,
        record: ImageRecord,
        name: Option<String>,
    ) -> Result<PreparedImage, ImageError> {
        self.sync()?;
        let prepared = record.prepared(digest);
        self.change(|state| {
            state.catalog.images.insert(digest, record);
            if let Some(name) = name {
                state.catalog.names.insert(name, digest);
            }
        })?;
        Ok(prepared)
    }

    /// Adds what a pull has learnt of an image that is there. Blocks when that is new.
    pub(super) fn learn(
        &self,
        digest: Digest,
        name: Option<String>,
        index: Option<Digest>,
    ) -> Result<(), ImageError> {
        let known = {
            let state = self.state();
            let names = &state.catalog.names;
            let indexes = state
                .catalog
                .images
                .get(&digest)
                .map(|record| &record.indexes);
            name.as_ref()
                .is_none_or(|name| names.get(name) == Some(&digest))
                && index.is_none_or(|index| indexes.is_some_and(|known| known.contains(&index)))
        };
        if known {
            return Ok(());
        }
        self.change(|state| {
            let Some(record) = state.catalog.images.get_mut(&digest) else {
                return;
            };
            if let Some(index) = index
                && !record.indexes.contains(&index)
            {
                record.indexes.push(index);
            }
            if let Some(name) = name {
                state.catalog.names.insert(name, digest);
            }
        })
    }

    /// Tidies up after an image has come or failed to come. `keep_layers`: layers that no image has
    /// stay as long as the budget has room. What goes wrong is logged: the image is there, or not,
    /// all the same. Blocks.
    pub(super) fn tidy(&self, keep_layers: bool) {
        let tidied = if keep_layers {
            self.collect()
        } else {
            self.sweep()
        };
        if let Err(error) = tidied {
            tracing::warn!(%error, "old images could not be removed");
        }
    }

    /// Brings the store within its budget, as far as what is needed leaves room.
    fn collect(&self) -> Result<(), ImageError> {
        let budget_bytes = self.settings.budget_bytes;
        let unnamed_bytes = {
            let state = self.state();
            let used = used_layers(&state.catalog);
            self.layers
                .total_bytes()
                .saturating_sub(used.values().sum())
        };
        let named_bytes = collect::bytes(&self.state().catalog);
        if named_bytes + unnamed_bytes <= budget_bytes {
            return Ok(());
        }
        if named_bytes <= budget_bytes {
            return self.sweep();
        }
        let (removed, left) = self.change(|state| {
            let Some(retained) = &state.retained else {
                return (0, 0);
            };
            let is_needed =
                |digest: &Digest| retained.contains(digest) || self.pins.count(digest) > 0;
            let rules = Rules {
                now: now(),
                budget_bytes,
                keep_recent: self.settings.keep_recent,
                is_needed: &is_needed,
            };
            let victims = collect::plan(&state.catalog, &rules);
            for victim in &victims {
                state.catalog.remove(victim);
            }
            (victims.len(), collect::bytes(&state.catalog))
        })?;
        if left > budget_bytes {
            tracing::warn!(
                left,
                budget_bytes,
                "images in use are larger than the budget"
            );
        }
        tracing::info!(removed, "images collected");
        self.sweep()
    }

    fn remove(&self, asked: &ImageReference) -> Result<(), ImageError> {
        let missing = || ImageError::NotHere {
            image: asked.to_string(),
        };
        let digest = self.find(asked).ok_or_else(missing)?;
        self.change(|state| {
            let name = asked.to_string();
            let names = state.catalog.names_of(&digest);
            if asked.digest.is_none() && names.iter().any(|other| *other != name) {
                state.catalog.names.remove(&name);
                return Ok(());
            }
            self.check_unused(state, &digest, name)?;
            state.catalog.remove(&digest);
            Ok(())
        })??;
        self.sweep()
    }

    fn check_unused(
        &self,
        state: &State,
        digest: &Digest,
        image: String,
    ) -> Result<(), ImageError> {
        let users = self.pins.count(digest);
        if users > 0 {
            return Err(ImageError::InUse { image, users });
        }
        if state.is_retained(digest) {
            let problem = format!(
                "image `{image}` is kept for a service, which may need it to start or to go back: \
                 delete the service or deploy something else first"
            );
            return Err(ImageError::BadRequest { problem });
        }
        Ok(())
    }

    /// Removes layers and blobs that no image has and nobody is working on.
    pub(super) fn sweep(&self) -> Result<(), ImageError> {
        // Nobody may add an image meanwhile: it would let go of its layers before we look.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (layers, blobs) = {
            let state = self.state();
            (used_layers(&state.catalog), used_blobs(&state.catalog))
        };
        let fail = |error| ImageError::host("remove old images in", &self.dir, &error);
        self.layers.sweep(&layers).map_err(fail)?;
        self.blobs.sweep(&blobs).map_err(fail)
    }

    /// One sync for all files of an image, rather than one for each.
    fn sync(&self) -> Result<(), ImageError> {
        let synced = File::open(&self.dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        synced.map_err(|error| ImageError::host("sync", &self.dir, &error))
    }

    /// Changes the catalogue, here and on the disk, or neither.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, ImageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, before, after) = {
            let mut state = self.state();
            let before = state.catalog.clone();
            (change(&mut state), before, state.catalog.clone())
        };
        let path = self.dir.join("catalog.json");
        durable::write_json(&path, &after).map_err(|error| {
            self.state().catalog = before;
            ImageError::host("write", &path, &error)
        })?;
        Ok(answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image with a layer missing is none: somebody has been at the directory.
fn drop_incomplete(catalog: &mut Catalog, layers: &Layers) {
    let is_there = |layer: &LayerRecord| layers.bytes(&layer.diff_id).is_some();
    let incomplete: Vec<Digest> = catalog
        .images
        .iter()
        .filter(|(_, record)| !record.layers.iter().all(is_there))
        .map(|(digest, _)| *digest)
        .collect();
    for digest in incomplete {
        tracing::warn!(%digest, "image has lost a layer and is forgotten");
        catalog.remove(&digest);
    }
}

fn used_layers(catalog: &Catalog) -> BTreeMap<Digest, u64> {
    let records = catalog.images.values();
    records
        .flat_map(|record| &record.layers)
        .map(|layer| (layer.diff_id, layer.bytes))
        .collect()
}

fn used_blobs(catalog: &Catalog) -> BTreeSet<Digest> {
    let records = catalog.images.values();
    records
        .flat_map(ImageRecord::blobs)
        .map(|blob| blob.digest)
        .collect()
}

fn not_here(digest: &Digest) -> ImageError {
    ImageError::NotHere {
        image: digest.to_string(),
    }
}

pub(super) fn lost() -> ImageError {
    let problem = "it was given up; ask again".to_owned();
    ImageError::Host {
        doing: "finish work on the image".to_owned(),
        problem,
    }
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ImageError::task(&error))?
}

#[cfg(test)]
mod tests;
