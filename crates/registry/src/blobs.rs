//! The files of blobs, and uploads on their way to become some.
//!
//! ```text
//! blobs/<2 digits>/<64 digits>      whole, verified, never changed
//! uploads/<id>/repository           whose it is
//! uploads/<id>/data                 what has come so far
//! ```
//!
//! An upload is written and hashed as it comes, a piece at a time, where nothing else waits for it. What is
//! known of it in memory can be lost: the next request to it reads the file again.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use ekiden_model::image::Digest;
use http_body::Body;
use http_body_util::BodyExt;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use uuid::Uuid;

use crate::error::Refusal;

/// Uploads at one time.
pub const UPLOADS_MAX: usize = 256;

/// How long an upload may rest before it is forgotten.
pub const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long an upload must have rested before it makes room for another one, when there are too many.
pub const UPLOAD_REST: Duration = Duration::from_secs(10 * 60);

/// How long a client may send nothing in the middle of a body.
pub const BODY_IDLE: Duration = Duration::from_secs(60);

/// Bytes of a body that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes read from a file at a time.
pub(crate) const READ_BYTES: usize = 512 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    uploads: Mutex<HashMap<Uuid, Arc<AsyncMutex<Upload>>>>,
    /// Bytes of all uploads.
    coming: AtomicU64,
}

/// An upload, while nobody else is at it.
pub(crate) type Held = OwnedMutexGuard<Upload>;

/// What has come of a blob.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: Uuid,
    repository: String,
    /// Absent when a write broke in the middle: then the file is read again.
    state: Option<State>,
    /// When a request was last at it.
    touched: Instant,
}

#[derive(Debug)]
struct State {
    file: File,
    hasher: Sha256,
    offset: u64,
}

/// An upload that is whole and on the disk, and has no name yet.
#[derive(Debug)]
pub(crate) struct Sealed {
    upload: Held,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Blobs {
    /// Makes the directories. Blocks.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        for part in ["blobs", "uploads"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let blobs = Self {
            dir: dir.to_owned(),
            uploads: Mutex::default(),
            coming: AtomicU64::new(0),
        };
        blobs.count_coming()?;
        Ok(blobs)
    }

    /// Where a whole blob is.
    pub(crate) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join("blobs").join(&hex[..2]).join(hex)
    }

    fn upload_dir(&self, id: Uuid) -> PathBuf {
        self.dir.join("uploads").join(id.to_string())
    }

    /// Begins an upload to a repository. When there are too many, the one that has rested longest goes.
    pub(crate) async fn begin(&self, repository: &str) -> Result<Held, Refusal> {
        let id = Uuid::new_v4();
        let upload = Arc::new(AsyncMutex::new(Upload {
            id,
            repository: repository.to_owned(),
            state: None,
            touched: Instant::now(),
        }));
        // Nobody else can have it yet.
        let mut held = Arc::clone(&upload).lock_owned().await;
        let replaced = self.enter(id, upload)?;
        if let Some(resting) = replaced {
            self.cancel(resting).await;
        }
        let (dir, owner) = (self.upload_dir(id), repository.to_owned());
        let state = blocking("begin an upload", move || {
            fs::create_dir(&dir)?;
            fs::write(dir.join("repository"), owner)?;
            State::read(&dir)
        });
        match state.await {
            Ok(state) => {
                held.state = Some(state);
                Ok(held)
            }
            Err(refusal) => {
                self.cancel(held).await;
                Err(refusal)
            }
        }
    }

    /// Puts an upload into the table; the one that must make room for it.
    fn enter(&self, id: Uuid, upload: Arc<AsyncMutex<Upload>>) -> Result<Option<Held>, Refusal> {
        let mut table = self.table();
        let mut resting = None;
        if table.len() >= UPLOADS_MAX {
            // Whoever is at one now goes on.
            let free = table
                .values()
                .filter_map(|upload| Arc::clone(upload).try_lock_owned().ok());
            let longest = free.min_by_key(|upload| upload.touched);
            resting = longest.filter(|upload| upload.touched.elapsed() >= UPLOAD_REST);
            let Some(resting) = &resting else {
                return Err(Refusal::new(
                    http::StatusCode::TOO_MANY_REQUESTS,
                    "TOOMANYREQUESTS",
                    format!("{UPLOADS_MAX} uploads are under way: try again when one has ended"),
                ));
            };
            table.remove(&resting.id);
        }
        table.insert(id, upload);
        Ok(resting)
    }

    /// Takes up an upload of a repository; refused while another request is at it.
    pub(crate) async fn resume(&self, repository: &str, id: Uuid) -> Result<Held, Refusal> {
        let known = self.table().get(&id).cloned();
        let upload = match known {
            Some(upload) => upload,
            None => self.adopt(id).await?,
        };
        let mut held = upload.try_lock_owned().map_err(|_| {
            Refusal::new(
                http::StatusCode::CONFLICT,
                "BLOB_UPLOAD_INVALID",
                "another request is sending to this upload",
            )
        })?;
        if held.repository != repository {
            return Err(Refusal::no_upload());
        }
        held.touched = Instant::now();
        if held.state.is_none() {
            let dir = self.upload_dir(id);
            let state = blocking("read an upload", move || match dir.exists() {
                true => State::read(&dir).map(Some),
                false => Ok(None),
            });
            // It may have been ended while it was looked up.
            held.state = Some(state.await?.ok_or_else(Refusal::no_upload)?);
        }
        Ok(held)
    }

    /// Finds an upload of an earlier life.
    async fn adopt(&self, id: Uuid) -> Result<Arc<AsyncMutex<Upload>>, Refusal> {
        let path = self.upload_dir(id).join("repository");
        let repository = blocking("read an upload", move || match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        });
        let repository = repository.await?.ok_or_else(Refusal::no_upload)?;
        if let Some(known) = self.table().get(&id) {
            return Ok(Arc::clone(known));
        }
        let upload = Arc::new(AsyncMutex::new(Upload {
            id,
            repository,
            state: None,
            touched: Instant::now(),
        }));
        if let Some(resting) = self.enter(id, Arc::clone(&upload))? {
            self.cancel(resting).await;
        }
        Ok(upload)
    }

    /// Writes a body to the end of an upload, as long as all uploads together have room; the offset after
    /// it. What came before a body broke stays.
    pub(crate) async fn append<B>(
        &self,
        upload: &mut Held,
        mut body: B,
        room: u64,
    ) -> Result<u64, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut writer = Writer::of(upload)?;
        let fed = loop {
            match self.next_piece(&mut body, room).await {
                Ok(Some(piece)) => writer.add(piece).await?,
                Ok(None) => break Ok(()),
                Err(refusal) => break Err(refusal),
            }
        };
        let state = writer.end().await?;
        let offset = state.offset;
        upload.state = Some(state);
        upload.touched = Instant::now();
        fed.map(|()| offset)
    }

    async fn next_piece<B>(&self, body: &mut B, room: u64) -> Result<Option<Bytes>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let cut = |why: String| {
            Refusal::new(
                http::StatusCode::BAD_REQUEST,
                "BLOB_UPLOAD_INVALID",
                format!("the body was cut off: {why}"),
            )
        };
        loop {
            let frame = match timeout(BODY_IDLE, body.frame()).await {
                Err(_) => return Err(cut(format!("nothing came for {} s", BODY_IDLE.as_secs()))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(cut(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(piece) = frame.into_data() else {
                continue; // trailers
            };
            let length = piece.len() as u64;
            let coming = self.coming.fetch_add(length, Ordering::Relaxed);
            if coming.saturating_add(length) > room {
                self.coming.fetch_sub(length, Ordering::Relaxed);
                return Err(Refusal::over_budget());
            }
            return Ok(Some(piece));
        }
    }

    /// Sees to it that an upload is what was said, and on the disk.
    pub(crate) async fn seal(&self, mut upload: Held, digest: Digest) -> Result<Sealed, Refusal> {
        let state = upload.state.take().ok_or_else(Refusal::no_upload)?;
        let size = state.offset;
        let is = Digest::from_sha256(state.hasher.finalize().into());
        if is != digest {
            self.cancel(upload).await;
            return Err(Refusal::digest_invalid(format!(
                "{size} bytes came, and they are {is}, not {digest}: send them again"
            )));
        }
        blocking("keep a blob", move || state.file.sync_all()).await?;
        Ok(Sealed {
            upload,
            digest,
            size,
        })
    }

    /// Makes a blob of an upload.
    pub(crate) async fn keep(&self, sealed: Sealed) -> Result<(), Refusal> {
        let id = sealed.upload.id;
        let (path, dir) = (self.path(sealed.digest), self.upload_dir(id));
        blocking("keep a blob", move || {
            let shelf = path.parent().unwrap_or(Path::new("."));
            match fs::create_dir(shelf) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
                Ok(()) => sync(shelf.parent().unwrap_or(shelf))?,
            }
            fs::rename(dir.join("data"), &path)?;
            sync(shelf)?;
            fs::remove_dir_all(&dir)
        })
        .await?;
        self.table().remove(&id);
        self.less_coming(sealed.size);
        Ok(())
    }

    /// Forgets an upload with all that has come.
    pub(crate) async fn cancel(&self, upload: Held) {
        let dir = self.upload_dir(upload.id);
        self.table().remove(&upload.id);
        // What is left is removed when it is old.
        let removed = spawn_blocking(move || remove_upload(&dir)).await;
        self.less_coming(removed.unwrap_or(0));
    }

    /// Removes uploads that nobody went on with. Blocks.
    pub(crate) fn forget_old_uploads(&self, now: SystemTime) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join("uploads"))?.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse::<Uuid>().ok());
            let last = fs::metadata(entry.path().join("data")).or_else(|_| entry.metadata());
            let age = last
                .and_then(|last| last.modified())
                .map(|at| now.duration_since(at));
            if !matches!(age, Ok(Ok(age)) if age > UPLOAD_AGE_MAX) {
                continue;
            }
            // Whoever is at it now goes on.
            let held = {
                let mut table = self.table();
                let known = id.and_then(|id| table.get(&id)).cloned();
                let Ok(held) = known.map(AsyncMutex::try_lock_owned).transpose() else {
                    continue;
                };
                id.map(|id| table.remove(&id));
                held
            };
            remove_upload(&entry.path());
            drop(held);
        }
        // What was counted and could not be written is found out here.
        self.count_coming()
    }

    /// Removes the file of a blob; one that is gone already is fine. Blocks.
    pub(crate) fn remove(&self, digest: Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every blob that has a file. Blocks.
    pub(crate) fn files(&self) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for shelf in fs::read_dir(self.dir.join("blobs"))? {
            for file in fs::read_dir(shelf?.path())? {
                let name = file?.file_name();
                let digest: Option<Digest> = name
                    .to_str()
                    .and_then(|hex| format!("sha256:{hex}").parse().ok());
                found.extend(digest);
            }
        }
        Ok(found)
    }

    fn count_coming(&self) -> io::Result<()> {
        let entries = fs::read_dir(self.dir.join("uploads"))?;
        let sizes = entries
            .flatten()
            .filter_map(|entry| fs::metadata(entry.path().join("data")).ok());
        self.coming
            .store(sizes.map(|data| data.len()).sum(), Ordering::Relaxed);
        Ok(())
    }

    fn less_coming(&self, bytes: u64) {
        let less = |coming: u64| Some(coming.saturating_sub(bytes));
        // It never refuses.
        let _ = self
            .coming
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<AsyncMutex<Upload>>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Bytes that have come.
    pub(crate) fn offset(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.offset)
    }
}

impl State {
    /// What there is of an upload on the disk. Blocks.
    fn read(dir: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .open(dir.join("data"))?;
        let (mut hasher, mut offset) = (Sha256::new(), 0);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            offset += read as u64;
        }
        Ok(Self {
            file,
            hasher,
            offset,
        })
    }

    /// Blocks.
    fn write(mut self, pieces: &[Bytes]) -> io::Result<Self> {
        for piece in pieces {
            self.file.write_all(piece)?;
            self.hasher.update(piece);
            self.offset += piece.len() as u64;
        }
        Ok(self)
    }
}

/// Writes what has come while more comes: a thread is taken only when there is enough.
struct Writer {
    /// The write that goes on; it gives back what the next one needs.
    writing: JoinHandle<io::Result<State>>,
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Writer {
    fn of(upload: &mut Held) -> Result<Self, Refusal> {
        let state = upload.state.take().ok_or_else(Refusal::no_upload)?;
        Ok(Self {
            writing: spawn_blocking(move || Ok(state)),
            pieces: Vec::new(),
            bytes: 0,
        })
    }

    async fn add(&mut self, piece: Bytes) -> Result<(), Refusal> {
        self.bytes += piece.len();
        self.pieces.push(piece);
        if self.bytes >= WRITE_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    /// Waits for the write before, and begins the next one.
    async fn write(&mut self) -> Result<(), Refusal> {
        let state = written((&mut self.writing).await)?;
        let pieces = std::mem::take(&mut self.pieces);
        self.bytes = 0;
        self.writing = spawn_blocking(move || state.write(&pieces));
        Ok(())
    }

    async fn end(mut self) -> Result<State, Refusal> {
        self.write().await?;
        written(self.writing.await)
    }
}

fn written(done: Result<io::Result<State>, tokio::task::JoinError>) -> Result<State, Refusal> {
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| Refusal::io("write an upload", &error))
}

/// Removes an upload, best effort; how many bytes it had. Blocks.
fn remove_upload(dir: &Path) -> u64 {
    let bytes = fs::metadata(dir.join("data")).map_or(0, |data| data.len());
    match fs::remove_dir_all(dir) {
        Ok(()) => bytes,
        Err(_) => 0,
    }
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| Refusal::io(doing, &error))
}

/// Makes the names in a directory last.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn full(text: &str) -> Full<Bytes> {
        Full::new(Bytes::copy_from_slice(text.as_bytes()))
    }

    async fn finish(blobs: &Blobs, upload: Held, digest: Digest) -> Result<u64, Refusal> {
        let sealed = blobs.seal(upload, digest).await?;
        let size = sealed.size;
        blobs.keep(sealed).await?;
        Ok(size)
    }

    #[tokio::test]
    async fn an_upload_goes_on_after_all_was_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let mut upload = blobs.begin("a/b").await.unwrap();
        let id = upload.id;
        blobs.append(&mut upload, full("hel"), 100).await.unwrap();
        assert_eq!(
            blobs.resume("a/b", id).await.unwrap_err().code,
            "BLOB_UPLOAD_INVALID"
        );
        drop(upload);
        let blobs = Blobs::open(directory.path()).unwrap();
        assert_eq!(
            blobs.resume("a/c", id).await.unwrap_err().code,
            "BLOB_UPLOAD_UNKNOWN"
        );
        let mut upload = blobs.resume("a/b", id).await.unwrap();
        assert_eq!(upload.offset(), 3);
        assert_eq!(blobs.append(&mut upload, full("lo"), 100).await.unwrap(), 5);
        let digest = crate::manifest::digest_of(b"hello");
        assert_eq!(finish(&blobs, upload, digest).await.unwrap(), 5);
        assert_eq!(fs::read(blobs.path(digest)).unwrap(), b"hello");
        assert_eq!(blobs.files().unwrap(), [digest]);
        assert_eq!(
            fs::read_dir(directory.path().join("uploads"))
                .unwrap()
                .count(),
            0
        );
    }

    #[tokio::test]
    async fn what_is_not_what_was_said_is_no_blob() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let mut upload = blobs.begin("a").await.unwrap();
        let id = upload.id;
        blobs.append(&mut upload, full("hello"), 5).await.unwrap();
        let refused = blobs.append(&mut upload, full("!"), 0).await.unwrap_err();
        assert_eq!(refused.status, http::StatusCode::INSUFFICIENT_STORAGE);
        let wrong = crate::manifest::digest_of(b"other");
        let refused = finish(&blobs, upload, wrong).await.unwrap_err();
        assert_eq!(refused.code, "DIGEST_INVALID");
        assert!(blobs.files().unwrap().is_empty());
        assert_eq!(
            blobs.resume("a", id).await.unwrap_err().code,
            "BLOB_UPLOAD_UNKNOWN"
        );
    }

    #[tokio::test]
    async fn uploads_that_rest_for_long_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let old = blobs.begin("a").await.unwrap();
        let id = old.id;
        let later = SystemTime::now() + UPLOAD_AGE_MAX * 2;
        blobs.forget_old_uploads(later).unwrap();
        assert!(blobs.upload_dir(id).exists());
        drop(old);
        blobs.forget_old_uploads(SystemTime::now()).unwrap();
        assert!(blobs.upload_dir(id).exists());
        blobs.forget_old_uploads(later).unwrap();
        assert!(!blobs.upload_dir(id).exists());
    }
}
