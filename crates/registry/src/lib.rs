//! An OCI registry: the distribution protocol 1.1 over a store of images.
//!
//! [`Registry::respond`] answers one request of `/v2/`, whose sender somebody else has identified.
//! Blobs are files ([`blobs`]); manifests, tags and who has which blob are in [`ekiden_store`]. What was
//! acknowledged is on the disk; what was not may be sent again.
//!
//! Blobs that no manifest names are removed by [`Registry::collect`], some time after they were last
//! pushed or asked for: a push that is under way finds what it was told is there.

mod blobs;
mod error;
pub mod manifest;
mod part;
mod path;
mod query;
mod respond;

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ekiden_model::{image::Digest, repository::Repository, time::Timestamp};
use ekiden_store::{
    Store, StoreError,
    registry::{NewManifest, Put, RepositoryChange},
};
use tokio::{
    sync::{RwLock, watch},
    task::spawn_blocking,
};

use self::blobs::Blobs;
pub use self::{
    blobs::{BODY_IDLE, UPLOAD_AGE_MAX, UPLOAD_REST, UPLOADS_MAX},
    error::{Body, Refusal},
    respond::{Parsed, Wanted},
};

/// How long a blob that no manifest names stays after it was last pushed or asked for: a push may take as
/// long.
pub const UNNAMED_AGE: Duration = UPLOAD_AGE_MAX;

/// Entries of a page of tags, repositories or referrers.
pub const PAGE_MAX: u32 = 1000;

/// The registry.
pub struct Registry {
    store: Arc<Store>,
    blobs: Blobs,
    /// Held while a blob is kept, or blobs are removed: a blob that is kept at this moment has a file.
    files: RwLock<()>,
    budget: u64,
    repositories_max: u64,
    /// Counts tags that were given to another image.
    moved: watch::Sender<u64>,
}

/// What a request does to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Looks at it.
    Pull,
    /// Adds to it; makes it, if it is not there.
    Push,
    /// Takes from it.
    Delete,
}

impl Registry {
    /// A registry with its files in `dir` and so many bytes for them.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub async fn open(
        store: Arc<Store>,
        dir: PathBuf,
        budget: u64,
        repositories_max: u64,
    ) -> io::Result<Self> {
        let blobs = spawn_blocking(move || Blobs::open(&dir)).await;
        Ok(Self {
            store,
            blobs: blobs.map_err(io::Error::other)??,
            files: RwLock::new(()),
            budget,
            repositories_max,
            moved: watch::Sender::new(0),
        })
    }

    /// Changes whenever a tag was given to another image.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Stores a manifest, and gives it a tag.
    ///
    /// # Errors
    /// Something that it names is not there, or the tag is kept, or the store failed.
    pub async fn put_manifest(
        &self,
        repository: &str,
        manifest: &NewManifest,
        tag: Option<&str>,
    ) -> Result<(), Refusal> {
        use http::StatusCode;
        if self.room().await? < manifest.content.len() as u64 {
            return Err(Refusal::over_budget());
        }
        let put = self
            .store
            .put_manifest(repository, manifest, tag, now())
            .await?;
        match put {
            Put::Done { tag_moved } => {
                if tag_moved {
                    self.moved.send_modify(|count| *count += 1);
                }
                Ok(())
            }
            Put::NoRepository => Err(Refusal::no_repository(repository)),
            Put::NoBlob(digest) => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "MANIFEST_BLOB_UNKNOWN",
                format!("the manifest names the blob {digest}, which was not pushed"),
            )),
            Put::NoManifest(digest) => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "MANIFEST_BLOB_UNKNOWN",
                format!("the index names the manifest {digest}, which was not pushed"),
            )),
            Put::TagIsKept => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "TAG_INVALID",
                format!(
                    "the tag `{}` is another image's, and tags of `{repository}` are immutable: push \
                     under another tag",
                    tag.unwrap_or_default()
                ),
            )),
        }
    }

    /// Makes a repository with the defaults, unless it is there.
    async fn provide(&self, name: &str) -> Result<(), Refusal> {
        if self.store.repository(name).await?.is_some() {
            return Ok(());
        }
        let most = self.repositories_max;
        let make = |there: Option<Repository>, _, all| match there {
            Some(_) => Ok((RepositoryChange::None, ())),
            None if all >= most => Err(Refusal::new(
                http::StatusCode::FORBIDDEN,
                "DENIED",
                format!("there are {all} repositories, and `quota.repositories` is {most}"),
            )),
            None => {
                let made = Box::new(Repository::new(name, now()));
                Ok((RepositoryChange::Put(made), ()))
            }
        };
        self.store.change_repository(name, make).await?
    }

    /// Bytes that all uploads together may have.
    async fn room(&self) -> Result<u64, Refusal> {
        Ok(self.budget.saturating_sub(self.store.image_bytes().await?))
    }

    /// Removes blobs that nothing needs, files that nobody knows, and uploads that nobody went on with.
    ///
    /// # Errors
    /// The store or the disk failed; what is left is removed the next time.
    pub async fn collect(self: &Arc<Self>) -> Result<(), CollectError> {
        let before = now()
            .as_millis()
            .saturating_sub(UNNAMED_AGE.as_millis() as u64);
        let unnamed = self
            .store
            .unlink_unnamed_blobs(Timestamp::from_millis(before))
            .await?;
        let registry = Arc::clone(self);
        spawn_blocking(move || registry.blobs.forget_old_uploads(SystemTime::now()))
            .await
            .map_err(io::Error::other)??;
        let registry = Arc::clone(self);
        let files = spawn_blocking(move || registry.blobs.files());
        let files = files.await.map_err(io::Error::other)??;
        let forgotten = self.store.forget_unlinked_blobs().await?;
        let known: HashSet<Digest> = self.store.blobs().await?.into_iter().collect();
        let mut removed = 0;
        for digest in files.into_iter().filter(|digest| !known.contains(digest)) {
            // Nobody keeps a blob meanwhile: one without a row is nobody's.
            let _alone = self.files.write().await;
            if self.store.has_blob(digest).await? {
                continue;
            }
            let registry = Arc::clone(self);
            spawn_blocking(move || registry.blobs.remove(digest))
                .await
                .map_err(io::Error::other)??;
            removed += 1;
        }
        if removed > 0 {
            tracing::info!(
                unnamed,
                forgotten = forgotten.len(),
                removed,
                "the registry removed blobs that nothing needs"
            );
        }
        Ok(())
    }
}

/// Why blobs could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("cannot remove files of the registry")]
    Disk(#[from] io::Error),
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_millis(since.unwrap_or_default().as_millis() as u64)
}
