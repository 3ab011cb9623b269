//! Source trees: fetched from git or uploaded, and kept for the engine to take.
//!
//! ```text
//! <data_dir>/sources/
//!   trees/<digest>.tar, .json   trees, by the digest of their archive, and what is where in them
//!   uploads/<region>.<name>     the digest of what was uploaded last for a service of that name
//!   git/<service>/              what git has fetched, so that the next fetch brings what is new
//!   state/                      keys of SSH hosts, and private directories of a moment
//! ```
//!
//! A tree from git is gone when it is built; the next build makes it anew from what git has. One that was
//! uploaded stays while a service is configured to run it, and as the last one of its name: the next
//! upload brings only what is new.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read, Seek},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use ekiden_build::{
    ekiden_yaml::{self, EkidenYaml},
    tree::READ_BYTES_MAX,
};
use ekiden_model::{
    id::ServiceId,
    image::Digest,
    name::ServiceName,
    source::{CodeSource, UPLOAD_SCHEME},
};
use ekiden_source::{
    git::{Commit, Credential, Fetch, Git, Remote, Revision},
    snapshot::{Limits, Listed, Snapshot, SnapshotFiles},
    upload::{Manifest, UploadError, assemble, missing},
};
use ekiden_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    BuildError, Order,
    log::{OpenLog, ids_in},
    uploads::Problem,
};
use crate::{clock, config::BuildsConfig, keyring::Keyring, worker::Chain};

/// How long a tree stays that nothing is known to need: a build may be about to take it.
const SPARE_TIME: Duration = Duration::from_secs(3600);

/// Characters of a commit's id that people are shown.
const SHORT_ID: usize = 12;

/// Where trees are, and what opens their repositories.
pub(crate) struct Sources {
    dir: PathBuf,
    store: Arc<Store>,
    keyring: Arc<Keyring>,
    git: Git,
    limits: Limits,
    in_use: InUse,
    /// One upload at a time is put in its place.
    keeping: Arc<Mutex<()>>,
    /// One fetch of a service at a time.
    fetching: Mutex<HashMap<ServiceId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A tree that is to be built.
pub(super) struct Tree {
    /// All of it.
    pub(super) files: Files,
    /// The directory that is built.
    inside: SnapshotFiles,
    directory: String,
    /// The commit, or the digest of an upload.
    pub(super) version: String,
    /// The first line of the commit's message.
    pub(super) summary: String,
    /// The same for two trees whose directories have the same files.
    pub(super) id: Option<String>,
    /// Its archive is of no use when it was built, unless another build has it as well.
    _passing: Option<Passing>,
}

/// Archives that builds have, each with how many do.
type InUse = Arc<Mutex<HashMap<PathBuf, usize>>>;

/// An archive that is removed by the last build that has it.
struct Passing {
    path: PathBuf,
    in_use: InUse,
}

impl Passing {
    /// Puts an archive in its place.
    fn place(draft: &Path, path: PathBuf, in_use: &InUse) -> io::Result<Self> {
        let mut counts = in_use.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(draft, &path)?;
        *counts.entry(path.clone()).or_default() += 1;
        drop(counts);
        let in_use = Arc::clone(in_use);
        Ok(Self { path, in_use })
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let mut counts = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.entry(self.path.clone()).or_default();
        *left = left.saturating_sub(1);
        // One that was uploaded as well stays; what else stays is removed when it is old.
        if *left == 0 && !self.path.with_extension("json").exists() {
            let _ = fs::remove_file(&self.path);
        }
        counts.retain(|_, left| *left > 0);
    }
}

/// The files of a tree, and what they are as an archive.
pub(super) struct Files {
    all: SnapshotFiles,
    digest: Digest,
}

impl Files {
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// The newest time in it, in seconds since the Unix epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.all.epoch()
    }
}

impl Tree {
    /// What its `ekiden.yaml` says.
    pub(super) fn options(&self) -> Result<EkidenYaml, String> {
        let read = self
            .inside
            .read(ekiden_yaml::FILE_NAME, READ_BYTES_MAX as u64);
        let Some(bytes) = read.map_err(|error| Chain(&error).to_string())? else {
            return Ok(EkidenYaml::default());
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| format!("`{}` is not UTF-8", ekiden_yaml::FILE_NAME))?;
        ekiden_yaml::parse(&text).map_err(|error| error.to_string())
    }
}

impl ekiden_build::Tree for Tree {
    fn is_file(&self, path: &str) -> bool {
        self.inside.is_file(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        let bytes = self.inside.read(path, READ_BYTES_MAX as u64).ok()??;
        String::from_utf8(bytes).ok()
    }

    fn list(&self, dir: &str) -> Vec<String> {
        let listed = self.inside.list(dir).into_iter();
        listed
            .map(|listed| match listed {
                Listed::File(name) | Listed::Directory(name) => name,
            })
            .collect()
    }
}

/// A credential as it is kept: sealed.
#[derive(Serialize, Deserialize)]
struct KeptFor {
    /// It is sent to no other.
    host: String,
    credential: Kept,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Token {
        username: String,
        secret: Zeroizing<String>,
    },
    SshKey {
        pem: Zeroizing<String>,
        known_hosts: Option<String>,
    },
}

impl Sources {
    /// Opens the directory, made if need be and for its owner alone. Blocks.
    pub(super) fn open(
        dir: PathBuf,
        store: Arc<Store>,
        keyring: Arc<Keyring>,
        config: &BuildsConfig,
    ) -> io::Result<Self> {
        for name in ["trees", "uploads", "git", "state"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir.join(name))?;
        }
        // What a control plane that was killed has left, secrets of a moment among it.
        for entry in fs::read_dir(dir.join("state"))?.flatten() {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let limits = Limits {
            bytes_max: config.source_bytes_max,
            file_bytes_max: config.source_bytes_max,
            ..Limits::default()
        };
        let mut git = Git::new(&dir.join("state"));
        git.allowed_local = config
            .local_sources
            .iter()
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        git.repository_bytes_max = config.source_bytes_max;
        git.time_max = config.time_limit;
        git.limits = limits;
        if let Some(authorities) = &config.authorities {
            git.environment
                .push(("GIT_SSL_CAINFO".into(), authorities.into()));
        }
        Ok(Self {
            dir,
            store,
            keyring,
            git,
            limits,
            in_use: InUse::default(),
            keeping: Arc::default(),
            fetching: Mutex::default(),
        })
    }

    /// Where a URL of a repository leads, if it can.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(
        &self,
        region: &str,
        name: &ServiceName,
        source: &CodeSource,
    ) -> Result<(), String> {
        if let Some(uploaded) = source.url.strip_prefix(UPLOAD_SCHEME) {
            if uploaded != name.as_str() {
                return Err(format!(
                    "`{}` is not this service's: `{UPLOAD_SCHEME}{name}` is",
                    source.url
                ));
            }
            let version = source.version.parse::<Digest>().ok();
            let owned = version.is_some_and(|digest| self.is_owner(region, name, digest));
            return match owned {
                true => Ok(()),
                false => Err(format!(
                    "`{}` is no version that was uploaded for this service, or not here any more; `ekiden \
                     deploy` uploads",
                    source.version
                )),
            };
        }
        self.remote(source)?;
        source
            .version
            .parse::<Revision>()
            .map(drop)
            .map_err(|e| e.to_string())
    }

    /// Whether a tree was uploaded for a service of this name.
    fn is_owner(&self, region: &str, name: &ServiceName, digest: Digest) -> bool {
        let owners = fs::read_to_string(owners(&self.dir, digest)).unwrap_or_default();
        owners.lines().any(|owner| owner == owner_of(region, name))
    }

    fn remote(&self, source: &CodeSource) -> Result<Remote, String> {
        Remote::parse(&source.url, &self.git.allowed_local).map_err(|error| error.to_string())
    }

    /// Gets the tree of a source.
    pub(super) async fn get(&self, order: &Order, log: &OpenLog) -> Result<Tree, BuildError> {
        let source = &order.source;
        match source.is_upload() {
            true => self.uploaded(source, log).await,
            false => self.fetch(order.service, source, log).await,
        }
    }

    async fn uploaded(&self, source: &CodeSource, log: &OpenLog) -> Result<Tree, BuildError> {
        let gone = || {
            BuildError::Failed(
                "what was uploaded is not here any more: upload it again with `ekiden deploy`"
                    .to_owned(),
            )
        };
        let digest: Digest = source.version.parse().map_err(|_| gone())?;
        let dir = self.dir.clone();
        let read = blocking(move || Ok(read_tree(&dir, digest))).await?;
        let all = read.ok_or_else(gone)?;
        log.say(format!(
            "source: {} files that were uploaded",
            all.entries().len()
        ));
        tree(all, digest, source, None)
    }

    async fn fetch(
        &self,
        service: ServiceId,
        source: &CodeSource,
        log: &OpenLog,
    ) -> Result<Tree, BuildError> {
        let lock = self.lock_of(service);
        let _turn = lock.lock().await;
        let remote = self.remote(source).map_err(BuildError::Failed)?;
        let credential = self.credential(source, &remote).await?;
        log.say(format!("source: {} of {}", source.version, source.url));
        let commit = self.resolve(source, &remote, &credential).await;
        let commit = commit.map_err(BuildError::Failed)?;
        let draft = self.draft_path();
        let fetch = Fetch {
            remote: &remote,
            commit: &commit,
            credential: &credential,
            directory: &source.directory,
            cache: &self.dir.join("git").join(service.to_string()),
            into: &draft,
        };
        let fetched = self.git.fetch(fetch, |line| log.hear(line)).await;
        let fetched = fetched.map_err(|error| BuildError::Failed(Chain(&error).to_string()))?;
        let short: String = fetched.commit.as_str().chars().take(SHORT_ID).collect();
        log.say(format!("commit {short} {}", fetched.subject));
        for warning in &fetched.warnings {
            log.say(format!("warning: {warning}"));
        }
        let digest = fetched.snapshot.digest;
        let place = self.archive(digest);
        let snapshot = fetched.snapshot;
        let in_use = Arc::clone(&self.in_use);
        let opened = blocking(move || {
            let passing = Passing::place(&draft, place.clone(), &in_use)?;
            let all = SnapshotFiles::open(snapshot, &place).map_err(io::Error::other)?;
            Ok((all, passing))
        });
        let (all, passing) = opened.await?;
        let mut tree = tree(all, digest, source, Some(passing))?;
        tree.version = fetched.commit.as_str().to_owned();
        tree.summary = fetched.subject;
        tree.id = Some(fetched.directory_tree);
        Ok(tree)
    }

    async fn resolve(
        &self,
        source: &CodeSource,
        remote: &Remote,
        credential: &Credential,
    ) -> Result<Commit, String> {
        let revision = source
            .version
            .parse::<Revision>()
            .map_err(|e| e.to_string())?;
        let resolved = self.git.resolve(remote, &revision, credential).await;
        resolved.map_err(|error| Chain(&error).to_string())
    }

    /// The commit that a source's branch is at now.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(crate) async fn head(&self, source: &CodeSource) -> Result<String, String> {
        let remote = self.remote(source)?;
        let credential = self
            .credential(source, &remote)
            .await
            .map_err(|e| e.to_string())?;
        let commit = self.resolve(source, &remote, &credential).await?;
        Ok(commit.id.as_str().to_owned())
    }

    /// The id of the tree in the directory that a source builds, as its branch is now.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(crate) async fn tree_of(
        &self,
        service: ServiceId,
        source: &CodeSource,
    ) -> Result<Option<String>, String> {
        let lock = self.lock_of(service);
        let _turn = lock.lock().await;
        let remote = self.remote(source)?;
        let credential = self
            .credential(source, &remote)
            .await
            .map_err(|e| e.to_string())?;
        let commit = self.resolve(source, &remote, &credential).await?;
        let draft = self.draft_path();
        let fetch = Fetch {
            remote: &remote,
            commit: &commit,
            credential: &credential,
            directory: &source.directory,
            cache: &self.dir.join("git").join(service.to_string()),
            into: &draft,
        };
        let fetched = self.git.fetch(fetch, drop).await;
        let _ = fs::remove_file(&draft);
        let fetched = fetched.map_err(|error| Chain(&error).to_string())?;
        Ok(Some(fetched.directory_tree))
    }

    fn lock_of(&self, service: ServiceId) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fetching.entry(service).or_default())
    }

    /// Only some files of a tree, where they are in it; the digest of that and the newest time in it.
    pub(super) async fn subset(
        &self,
        tree: &Tree,
        files: &[String],
    ) -> Result<(Digest, u64), BuildError> {
        let all = tree.files.all.clone();
        let wanted: Vec<String> = files
            .iter()
            .map(|file| match tree.directory.as_str() {
                "" => file.clone(),
                directory => format!("{directory}/{file}"),
            })
            .collect();
        let (dir, draft) = (self.dir.clone(), self.draft_path());
        blocking(move || {
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            let snapshot = all.subset(&wanted, &draft).map_err(io::Error::other)?;
            // The engine has it by the time that this is old.
            fs::rename(&draft, archive(&dir, snapshot.digest))?;
            Ok((snapshot.digest, snapshot.epoch))
        })
        .await
    }

    /// The directory that is built, as a tree of its own; its digest.
    pub(super) async fn context(&self, tree: &Tree) -> Result<Digest, BuildError> {
        if tree.directory.is_empty() {
            return Ok(tree.files.digest);
        }
        let (inside, limits) = (tree.inside.clone(), self.limits);
        let (dir, draft) = (self.dir.clone(), self.draft_path());
        blocking(move || {
            let snapshot = inside.write(&draft, limits).map_err(io::Error::other)?;
            // The engine has it by the time that this is old.
            fs::rename(&draft, archive(&dir, snapshot.digest))?;
            Ok(snapshot.digest)
        })
        .await
    }

    /// The digests of contents that an upload has to bring.
    pub(crate) async fn missing(
        &self,
        region: &str,
        name: &ServiceName,
        mut manifest: File,
    ) -> Result<Vec<String>, Problem> {
        let (dir, limits) = (self.dir.clone(), self.limits);
        let last = self.last_upload(region, name);
        let looked = tokio::task::spawn_blocking(move || {
            let mut json = Vec::new();
            manifest.rewind().map_err(Problem::host)?;
            manifest.read_to_end(&mut json).map_err(Problem::host)?;
            let manifest = Manifest::read(&json, &limits).map_err(Problem::refused)?;
            let previous = read_last(&dir, &last);
            let missing = missing(&manifest, previous.as_ref());
            Ok(missing.iter().map(Digest::hex).collect())
        });
        looked.await.map_err(Problem::host)?
    }

    /// Makes a tree of an upload; answers its version, and how many files and bytes it has.
    pub(crate) async fn take_upload(
        &self,
        region: &str,
        name: &ServiceName,
        mut upload: File,
    ) -> Result<(String, u64, u64), Problem> {
        let (dir, limits, draft) = (self.dir.clone(), self.limits, self.draft_path());
        let last = self.last_upload(region, name);
        let owner = owner_of(region, name);
        let keeping = Arc::clone(&self.keeping);
        let taken = tokio::task::spawn_blocking(move || {
            upload.rewind().map_err(Problem::host)?;
            let previous = read_last(&dir, &last);
            let assembled = assemble(upload, previous.as_ref(), &draft, limits);
            let snapshot = assembled.map_err(|error| match error {
                UploadError::Missing { .. } => Problem::Stale(error.to_string()),
                error => Problem::refused(error),
            })?;
            let _turn = keeping.lock().unwrap_or_else(PoisonError::into_inner);
            keep(&dir, &last, &owner, &draft, &snapshot).map_err(Problem::host)?;
            let files = snapshot.entries.len() as u64;
            Ok((snapshot.digest.to_string(), files, snapshot.bytes))
        });
        taken.await.map_err(Problem::host)?
    }

    /// A file without a name, to take down what comes.
    pub(crate) fn draft(&self) -> io::Result<File> {
        let path = self.draft_path();
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// Bytes that a tree may have.
    pub(crate) const fn bytes_max(&self) -> u64 {
        self.limits.bytes_max
    }

    fn draft_path(&self) -> PathBuf {
        let trees = self.dir.join("trees");
        trees.join(format!("{}.draft", draft_name()))
    }

    fn archive(&self, digest: Digest) -> PathBuf {
        archive(&self.dir, digest)
    }

    fn last_upload(&self, region: &str, name: &ServiceName) -> PathBuf {
        self.dir.join("uploads").join(owner_of(region, name))
    }

    /// Removes trees that nothing needs, but for those that are young. Blocks.
    pub(super) fn sweep(
        &self,
        needed: &HashSet<Digest>,
        named: &HashSet<String>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join("uploads"))? {
            let entry = entry?;
            let is_named = entry
                .file_name()
                .to_str()
                .is_some_and(|name| named.contains(name));
            if !is_named && is_old(&entry) {
                fs::remove_file(entry.path())?;
            }
        }
        let uploads = fs::read_dir(self.dir.join("uploads"))?.flatten();
        let last: HashSet<Digest> = uploads
            .filter_map(|entry| fs::read_to_string(entry.path()).ok()?.trim().parse().ok())
            .collect();
        for entry in fs::read_dir(self.dir.join("trees"))? {
            let entry = entry?;
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let digest = stem.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let is_needed =
                digest.is_some_and(|digest| needed.contains(&digest) || last.contains(&digest));
            let is_in_use = {
                let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
                in_use.contains_key(&path)
            };
            if !is_needed && !is_in_use && is_old(&entry) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The services that something is kept for.
    pub(super) fn services(&self) -> Vec<ServiceId> {
        ids_in(&self.dir.join("git"))
    }

    /// Removes what is kept for a service.
    pub(super) fn forget(&self, service: ServiceId) {
        let _ = fs::remove_dir_all(self.dir.join("git").join(service.to_string()));
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.remove(&service);
    }

    async fn credential(
        &self,
        source: &CodeSource,
        remote: &Remote,
    ) -> Result<Credential, BuildError> {
        let Some(connection) = &source.connection else {
            return Ok(Credential::None);
        };
        let Some(sealed) = self.store.source_secret(connection).await? else {
            return Ok(Credential::None);
        };
        let broken = || {
            BuildError::Failed(format!(
                "the credential of the connection cannot be opened: give it again, with `ekiden \
                 connection credential`. ARN: '{connection}'"
            ))
        };
        let opened = self.keyring.open(&place(connection), &sealed);
        let opened = Zeroizing::new(opened.map_err(|_| broken())?);
        let kept: KeptFor = serde_json::from_slice(&opened).map_err(|_| broken())?;
        if kept.host != remote.host() {
            return Err(BuildError::Failed(format!(
                "the credential of the connection is for `{}`, and the repository is at `{}`: use another \
                 connection. ARN: '{connection}'",
                kept.host,
                remote.host()
            )));
        }
        Ok(match kept.credential {
            Kept::Token { username, secret } => Credential::Token { username, secret },
            Kept::SshKey { pem, known_hosts } => Credential::SshKey { pem, known_hosts },
        })
    }

    /// Keeps what a connection opens the repositories of a host with.
    pub(crate) async fn put_credential(
        &self,
        connection: &str,
        host: &str,
        credential: &Credential,
    ) -> Result<(), StoreError> {
        let credential = match credential.clone() {
            Credential::None => return self.forget_credential(connection).await,
            Credential::Token { username, secret } => Kept::Token { username, secret },
            Credential::SshKey { pem, known_hosts } => Kept::SshKey { pem, known_hosts },
        };
        let host = host.to_owned();
        let kept = KeptFor { host, credential };
        // It is made of text.
        let json = Zeroizing::new(serde_json::to_vec(&kept).unwrap_or_default());
        let sealed = self.keyring.seal(&place(connection), &json);
        self.store
            .put_source_secret(connection, Some(&sealed))
            .await
    }

    /// Forgets what a connection opened repositories with.
    pub(crate) async fn forget_credential(&self, connection: &str) -> Result<(), StoreError> {
        self.store.put_source_secret(connection, None).await
    }

    /// Keeps what the webhooks of a service are signed with, or forgets it.
    pub(crate) async fn put_webhook_secret(
        &self,
        service: ServiceId,
        secret: Option<&str>,
    ) -> Result<(), StoreError> {
        let service = &webhook(service);
        let sealed = secret.map(|secret| self.keyring.seal(&place(service), secret.as_bytes()));
        self.store
            .put_source_secret(service, sealed.as_deref())
            .await
    }

    /// What the webhooks of a service are signed with.
    pub(crate) async fn webhook_secret(
        &self,
        service: ServiceId,
    ) -> Result<Option<Zeroizing<String>>, StoreError> {
        let service = &webhook(service);
        let sealed = self.store.source_secret(service).await?;
        let opened = sealed.and_then(|sealed| self.keyring.open(&place(service), &sealed).ok());
        let text = opened.and_then(|opened| String::from_utf8(opened.to_vec()).ok());
        Ok(text.map(Zeroizing::new))
    }
}

/// Who owns the secret of a service's webhooks.
fn webhook(service: ServiceId) -> String {
    format!("webhook {service}")
}

fn draft_name() -> String {
    let id = clock::random_id();
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a secret is sealed for: it opens as no other's.
fn place(owner: &str) -> String {
    format!("source {owner}")
}

/// Whether a file was written so long ago that it is of a build no more.
fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age >= SPARE_TIME)
}

fn tree(
    all: SnapshotFiles,
    digest: Digest,
    source: &CodeSource,
    passing: Option<Passing>,
) -> Result<Tree, BuildError> {
    let inside = match source.directory.as_str() {
        "" => Some(all.clone()),
        directory => all.below(directory),
    };
    let inside = inside.ok_or_else(|| {
        BuildError::Failed(format!(
            "the source has no directory `{}`: correct SourceDirectory",
            source.directory
        ))
    })?;
    Ok(Tree {
        files: Files { all, digest },
        inside,
        directory: source.directory.clone(),
        version: source.version.clone(),
        summary: String::new(),
        id: None,
        _passing: passing,
    })
}

fn archive(dir: &Path, digest: Digest) -> PathBuf {
    dir.join("trees").join(format!("{}.tar", digest.hex()))
}

/// Who a tree was uploaded for, a line each.
fn owners(dir: &Path, digest: Digest) -> PathBuf {
    archive(dir, digest).with_extension("owners")
}

/// A service that there may be some day.
fn owner_of(region: &str, name: &ServiceName) -> String {
    format!("{region}.{name}")
}

fn index(dir: &Path, digest: Digest) -> PathBuf {
    archive(dir, digest).with_extension("json")
}

/// A tree that is kept; `None` when it, or a part of it, is not there.
fn read_tree(dir: &Path, digest: Digest) -> Option<SnapshotFiles> {
    let index = fs::read(index(dir, digest)).ok()?;
    let snapshot: Snapshot = serde_json::from_slice(&index).ok()?;
    SnapshotFiles::open(snapshot, &archive(dir, digest)).ok()
}

fn read_last(dir: &Path, last: &Path) -> Option<SnapshotFiles> {
    let digest = fs::read_to_string(last).ok()?.trim().parse().ok()?;
    read_tree(dir, digest)
}

/// Puts an upload in its place, the last word being what is the last one.
fn keep(dir: &Path, last: &Path, owner: &str, draft: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let digest = snapshot.digest;
    let mut all = fs::read_to_string(owners(dir, digest)).unwrap_or_default();
    if !all.lines().any(|other| other == owner) {
        all.push_str(owner);
        all.push('\n');
        write_synced(&owners(dir, digest), all.as_bytes())?;
    }
    File::open(draft)?.sync_all()?;
    fs::rename(draft, archive(dir, digest))?;
    write_synced(&index(dir, digest), &serde_json::to_vec(snapshot)?)?;
    write_synced(last, digest.to_string().as_bytes())?;
    File::open(dir.join("trees"))?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Of a name that no other file is made by.
    let draft = path.with_file_name(format!("{}.draft", draft_name()));
    let mut file = File::create(&draft)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BuildError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)
        .and_then(|done| done)
        .map_err(|error| BuildError::Failed(format!("the source cannot be kept: {error}")))
}
