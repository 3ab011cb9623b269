//! Pulling an image: from a name to layers that are here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ekiden_model::image::{Digest, ImageReference, PreparedImage, ResolvedImage};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::timeout};

use super::{
    catalog::{ImageRecord, LayerRecord, Origin},
    decode::DecodeBounds,
    download::{PipeReader, download, pipe},
    error::ImageError,
    flight::{Part, Work},
    layer::FillError,
    manifest::{Configuration, Descriptor, Document, Manifest, NoPlatform, Platform},
    progress::Progress,
    registry::Repository,
    store::{Store, blocking, lost, now},
    unpack::UnpackBudget,
};

/// Tries for a layer when somebody else's try, which was joined, failed: it may have been from
/// another registry, or for an image that was too large.
const JOINS_MAX: usize = 2;

/// Pulls an image, within the deadline.
pub(super) fn pull(
    store: Arc<Store>,
    reference: ImageReference,
    progress: Progress,
) -> Work<Result<PreparedImage, ImageError>> {
    Box::pin(async move {
        let deadline = store.settings.pull_deadline;
        let image = reference.to_string();
        let pulling = pull_within(Arc::clone(&store), reference, progress);
        let pulled = match timeout(deadline, pulling).await {
            Ok(result) => result,
            Err(_) => Err(ImageError::Deadline { image, deadline }),
        };
        if let Err(error) = &pulled {
            // What came of an image that may come whole the next time is worth keeping.
            let keep_layers = error.is_passing();
            blocking(move || {
                store.tidy(keep_layers);
                Ok(())
            })
            .await?;
        }
        pulled
    })
}

async fn pull_within(
    store: Arc<Store>,
    reference: ImageReference,
    progress: Progress,
) -> Result<PreparedImage, ImageError> {
    progress.phase(format!("asking `{}` for `{reference}`", reference.registry));
    let repository = Arc::new(store.registry.repository(&reference)?);
    let found = resolve(&store, &repository, &reference).await?;
    // A name with a digest is no name: the tag in it is only a remark.
    let name = reference.digest.is_none().then(|| reference.to_string());
    let Some(manifest) = found.manifest else {
        let learner = Arc::clone(&store);
        blocking(move || learner.learn(found.digest, name, found.index)).await?;
        return store.use_image(&found.digest).ok_or_else(lost);
    };
    let configuration = configuration(&store, &repository, &manifest).await?;
    // Until the image is in the catalogue, nobody else knows that its layers are needed.
    let holds: Vec<_> = configuration
        .diff_ids
        .iter()
        .map(|id| store.layers.hold(*id))
        .collect();
    let layers = layers(&store, &repository, &manifest, &configuration, &progress).await?;
    progress.phase("syncing");
    let record = ImageRecord {
        config: configuration.process,
        layers,
        indexes: found.index.into_iter().collect(),
        origin: Origin::Pulled,
        added_at: now(),
        used_at: now(),
    };
    blocking(move || {
        let prepared = store.add(found.digest, record, name)?;
        drop(holds);
        store.tidy(true);
        Ok(prepared)
    })
    .await
}

/// What a reference stands for just now, for this platform.
pub(super) async fn stands_for(
    store: &Store,
    reference: &ImageReference,
) -> Result<ResolvedImage, ImageError> {
    let repository = store.registry.repository(reference)?;
    let (named, document) = document_named(store, &repository, reference).await?;
    let image = match document {
        Document::Manifest(_) => named,
        Document::Index(index) => {
            let chosen = index.choose(&Platform::here());
            chosen.map_err(|no| no.tell(&repository.image))?.digest
        }
    };
    Ok(ResolvedImage { named, image })
}

/// What a name stands for just now.
struct Found {
    digest: Digest,
    /// The index that named it, if one did.
    index: Option<Digest>,
    /// Absent when the image is here already.
    manifest: Option<Manifest>,
}

async fn resolve(
    store: &Store,
    repository: &Repository,
    reference: &ImageReference,
) -> Result<Found, ImageError> {
    let (digest, document) = document_named(store, repository, reference).await?;
    let index = match document {
        Document::Manifest(manifest) => {
            let manifest = store.record(&digest).is_none().then_some(manifest);
            return Ok(Found {
                digest,
                index: None,
                manifest,
            });
        }
        Document::Index(index) => index,
    };
    let chosen = index
        .choose(&Platform::here())
        .map_err(|no| no.tell(&repository.image))?;
    let index = Some(digest);
    if store.record(&chosen.digest).is_some() {
        return Ok(Found {
            digest: chosen.digest,
            index,
            manifest: None,
        });
    }
    let asked = chosen.digest.to_string();
    match document_of(store, repository, &asked, chosen.digest).await? {
        Document::Manifest(manifest) => Ok(Found {
            digest: chosen.digest,
            index,
            manifest: Some(manifest),
        }),
        Document::Index(_) => Err(invalid(repository, "its index leads to another index")),
    }
}

async fn document_named(
    store: &Store,
    repository: &Repository,
    reference: &ImageReference,
) -> Result<(Digest, Document), ImageError> {
    let asked = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
    };
    document(store, repository, &asked, reference.digest).await
}

async fn document(
    store: &Store,
    repository: &Repository,
    asked: &str,
    expected: Option<Digest>,
) -> Result<(Digest, Document), ImageError> {
    let received = store.registry.document(repository, asked).await?;
    let actual = digest_of(&received.bytes);
    if let Some(expected) = expected {
        check_digest("manifest", expected, actual)?;
    }
    let document = Document::parse(&received.bytes, &received.media_type);
    Ok((
        actual,
        document.map_err(|problem| invalid(repository, problem))?,
    ))
}

async fn document_of(
    store: &Store,
    repository: &Repository,
    asked: &str,
    expected: Digest,
) -> Result<Document, ImageError> {
    Ok(document(store, repository, asked, Some(expected)).await?.1)
}

async fn configuration(
    store: &Store,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Configuration, ImageError> {
    let bytes = store
        .registry
        .small_blob(repository, &manifest.config.digest)
        .await?;
    check_digest("configuration", manifest.config.digest, digest_of(&bytes))?;
    let configuration = Configuration::parse(&bytes, manifest.layers.len())
        .map_err(|problem| invalid(repository, problem))?;
    configuration
        .check_platform(&Platform::here())
        .map_err(|no| no.tell(&repository.image))?;
    Ok(configuration)
}

/// Brings all layers here, several at a time.
async fn layers(
    store: &Arc<Store>,
    repository: &Arc<Repository>,
    manifest: &Manifest,
    configuration: &Configuration,
    progress: &Progress,
) -> Result<Vec<LayerRecord>, ImageError> {
    let bytes_max = store.settings.image_bytes_max;
    let total = manifest.layer_bytes();
    if total > bytes_max {
        let what = format!("image `{}`", repository.image);
        return Err(ImageError::TooLarge { what, bytes_max });
    }
    let budget = Arc::new(UnpackBudget::new(
        bytes_max,
        store.settings.image_entries_max,
    ));
    let counter = Arc::new(Counter {
        done: AtomicU64::new(0),
        total,
        progress: progress.clone(),
    });
    let (failure, failed) = watch::channel(None);
    let fetches = manifest
        .layers
        .iter()
        .zip(&configuration.diff_ids)
        .map(|(blob, diff_id)| {
            let fetch = Fetch {
                store: Arc::clone(store),
                repository: Arc::clone(repository),
                blob: blob.clone(),
                diff_id: *diff_id,
                budget: Arc::clone(&budget),
                counter: Arc::clone(&counter),
                failed: failed.clone(),
            };
            fetch.layer_or_stop(&failure)
        });
    // All are awaited, also when one has failed, so that nothing is at work afterwards.
    let layers = join_all(fetches).await;
    match failure.borrow().clone() {
        Some(error) => Err(error),
        None => layers.into_iter().collect(),
    }
}

/// One layer to bring here.
#[derive(Clone)]
struct Fetch {
    store: Arc<Store>,
    repository: Arc<Repository>,
    blob: Descriptor,
    diff_id: Digest,
    budget: Arc<UnpackBudget>,
    counter: Arc<Counter>,
    /// The pull's first failure; closed when the pull is gone.
    failed: watch::Receiver<Option<ImageError>>,
}

impl Fetch {
    /// Brings the layer here; when that fails, the pull's other layers need not go on.
    async fn layer_or_stop(
        self,
        failure: &watch::Sender<Option<ImageError>>,
    ) -> Result<LayerRecord, ImageError> {
        let layer = self.layer().await;
        if let Err(error) = &layer {
            failure.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(|| error.clone());
                is_first
            });
        }
        layer
    }

    async fn layer(self) -> Result<LayerRecord, ImageError> {
        let mut joined = 0;
        let bytes = loop {
            if let Some(bytes) = self.store.layers.bytes(&self.diff_id) {
                self.counter.add(self.blob.size);
                break bytes;
            }
            let work = || self.clone().work();
            match self.store.fetches.run(self.diff_id, work).await {
                (Part::Led, result) => break result.unwrap_or_else(|| Err(lost()))?,
                (Part::Joined, Some(Err(error))) if joined == JOINS_MAX => return Err(error),
                (Part::Joined, _) => joined += 1,
            }
        };
        Ok(LayerRecord {
            diff_id: self.diff_id,
            bytes,
        })
    }

    /// In a task of its own, because another pull may wait for it too.
    fn work(self) -> Work<Result<u64, ImageError>> {
        Box::pin(self.download_and_unpack())
    }

    /// One pass: the layer is unpacked while it is downloaded, and its blob is not kept, because
    /// nothing needs it again. Both digests are checked before the layer counts as there.
    async fn download_and_unpack(self) -> Result<u64, ImageError> {
        let store = Arc::clone(&self.store);
        let _slot = tokio::select! {
            // Both are cancel-safe, and nothing is in flight.
            slot = store.slots.acquire() => slot.map_err(|_| lost())?,
            () = self.stopped() => return Err(lost()),
        };
        let (sink, source) = pipe();
        let fetch = self.clone();
        let unpacking = tokio::task::spawn_blocking(move || fetch.unpack(source));
        let on_bytes = |bytes| self.counter.add(bytes);
        let downloaded = tokio::select! {
            // Dropping it closes the pipe, which ends the unpacking.
            downloaded = download(&store.registry, &self.repository, &self.blob, sink, on_bytes) => {
                downloaded.map(drop)
            }
            () = self.stopped() => Err(lost()),
        };
        let unpacked = unpacking.await.map_err(|error| ImageError::task(&error))?;
        self.verdict(downloaded, unpacked)
    }

    fn unpack(&self, source: PipeReader) -> Result<LayerRecord, FillError> {
        let ratio_max = self.store.settings.compression_ratio_max;
        let bounds = DecodeBounds {
            budget: &self.budget,
            ratio_max,
        };
        let (layer, _) = self.store.layers.fill(source, Some(self.diff_id), bounds)?;
        Ok(layer)
    }

    /// Until the pull that began this has failed, or was given up at its deadline.
    async fn stopped(&self) {
        // Failing to wait means that the pull is gone.
        let _ = self.failed.clone().wait_for(Option::is_some).await;
    }

    /// A failed download comes first: what the unpacker then says follows from it.
    fn verdict(
        &self,
        downloaded: Result<(), ImageError>,
        unpacked: Result<LayerRecord, FillError>,
    ) -> Result<u64, ImageError> {
        downloaded?;
        let layer = unpacked.map_err(|error| error.tell(&self.blob.digest, &self.store.dir))?;
        Ok(layer.bytes)
    }
}

/// Bytes of one image that have come so far.
struct Counter {
    done: AtomicU64,
    total: u64,
    progress: Progress,
}

impl Counter {
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.bytes(done.min(self.total), self.total);
    }
}

impl NoPlatform {
    pub(super) fn tell(self, image: &str) -> ImageError {
        let (wanted, available) = (self.wanted, self.available);
        ImageError::WrongPlatform {
            image: image.to_owned(),
            wanted,
            available,
        }
    }
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

fn check_digest(what: &str, expected: Digest, actual: Digest) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::Corrupt {
        what: what.to_owned(),
        expected,
        actual,
    })
}

fn invalid(repository: &Repository, problem: impl Into<String>) -> ImageError {
    ImageError::Invalid {
        image: repository.image.clone(),
        problem: problem.into(),
    }
}
