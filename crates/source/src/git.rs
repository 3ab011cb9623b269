//! Trees from git remotes.
//!
//! The `git` program is what talks to remotes, not a library. It knows every server there is, over HTTPS and
//! over SSH with all of OpenSSH's keys and host keys; it is what attackers of repositories have tried for
//! twenty years; and its updates come with the system. The libraries lack SSH (gix runs `ssh` as well), or are
//! C in this process (libgit2), where a fault would be ours. The price is a program to install, and a process
//! for each step.
//!
//! What keeps a hostile remote or revision from doing harm:
//!
//! - Nothing is ever checked out: a bare repository is filled, and blobs are read from it into a
//!   [`Snapshot`]. So no hook, filter, attribute or name of a file has any effect.
//! - git runs with an environment and a configuration of our own and nothing else; see `session`.
//! - Arguments are never put through a shell, and texts of users are parsed first ([`Remote`], [`Revision`]):
//!   none can be an option or choose another transport.
//! - The size of the repository, the memory and the time of each process are bounded; a future that is dropped
//!   kills what it has started, with all its children.
//! - Secrets are in files that only we can read and that are gone afterwards, never in an argument or in the
//!   environment, and go to the host they are for only.
//!
//! `fsckObjects` stays off on purpose: what it guards against are checkouts, and many good repositories carry
//! old faults that it refuses. Every path is checked when the snapshot is written.

mod error;
mod module;
mod process;
mod remote;
mod repository;
mod session;
mod tree;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

pub use error::GitError;
pub use remote::{CommitId, InvalidRemote, InvalidRevision, Remote, Revision};

use crate::snapshot::{Limits, Snapshot};
use module::Module;
use process::Deadline;
use repository::Repository;
use session::Session;
use tree::{Found, Object};

/// How long a fetch may take, unless the caller says otherwise.
pub const TIME_MAX: Duration = Duration::from_secs(600);

/// How long it may take to ask a remote what a revision is.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes that one fetch may bring, compressed, unless the caller says otherwise: 1 GiB.
pub const REPOSITORY_BYTES_MAX: u64 = 1 << 30;

/// Submodules of submodules.
pub const MODULE_DEPTH_MAX: usize = 5;

/// Submodules of one snapshot.
pub const MODULES_MAX: usize = 100;

/// LFS pointers that are named; the rest is counted.
const POINTERS_NAMED: usize = 5;

/// How git is used on this host.
#[derive(Debug, Clone)]
pub struct Git {
    /// Directories below which a remote may be a path on this host; canonical.
    pub allowed_local: Vec<PathBuf>,
    /// Where the keys of SSH hosts are kept that were seen for the first time; the directory must exist.
    pub known_hosts: PathBuf,
    /// Where private directories are made for a moment; the directory must exist.
    pub scratch: PathBuf,
    /// How long a fetch may take, with all its submodules.
    pub time_max: Duration,
    /// Bytes that a fetch may bring, compressed.
    pub repository_bytes_max: u64,
    /// How large a snapshot may become.
    pub limits: Limits,
    /// Variables that git gets beside its own, such as `https_proxy` and `GIT_SSL_CAINFO`.
    pub environment: Vec<(OsString, OsString)>,
}

/// What a remote wants to see before it answers.
#[derive(Clone, Default)]
pub enum Credential {
    /// A public repository.
    #[default]
    None,
    /// For `https://`: an access token or a password.
    Token {
        /// Empty for providers that do not care.
        username: String,
        /// The token.
        secret: Zeroizing<String>,
    },
    /// For `ssh://`.
    SshKey {
        /// A private key in any format that OpenSSH reads, without a passphrase.
        pem: Zeroizing<String>,
        /// Lines of a `known_hosts` file that the host must be in; without, the first key seen is kept.
        known_hosts: Option<String>,
    },
}

impl std::fmt::Debug for Credential {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token { .. } => "Token",
            Self::SshKey { .. } => "SshKey",
        })
    }
}

/// What a revision stands for at a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The commit.
    pub id: CommitId,
    /// The branch or tag it was found by, beginning with `refs/`; absent when it was named itself.
    pub reference: Option<String>,
}

/// What to fetch, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// Where from.
    pub remote: &'a Remote,
    /// What.
    pub commit: &'a Commit,
    /// With what.
    pub credential: &'a Credential,
    /// The directory of the repository that is built; empty for all of it. The snapshot has all of it anyway.
    pub directory: &'a str,
    /// A directory that is kept for later fetches of the same service, and may be removed at any other time.
    /// Made when it is missing. One fetch at a time.
    pub cache: &'a Path,
    /// Where the tar file is put.
    pub into: &'a Path,
}

/// A tree that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit.
    pub commit: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When it was committed, in seconds since the Unix epoch.
    pub time: u64,
    /// The tree with all its submodules.
    pub snapshot: Snapshot,
    /// git's id of the source directory's tree: the same for two commits that do not differ there.
    pub directory_tree: String,
    /// What the user should know, one sentence each.
    pub warnings: Vec<String>,
}

impl Git {
    /// The usual bounds, and no remotes on this host. `state` is a directory of our own that is kept.
    pub fn new(state: &Path) -> Self {
        Self {
            allowed_local: Vec::new(),
            known_hosts: state.join("known_hosts"),
            scratch: state.to_owned(),
            time_max: TIME_MAX,
            repository_bytes_max: REPOSITORY_BYTES_MAX,
            limits: Limits::default(),
            environment: Vec::new(),
        }
    }

    /// Asks a remote what a revision is: a branch, else a tag. A whole commit id stands for itself and is not
    /// asked for. Cancel-safe.
    pub async fn resolve(
        &self,
        remote: &Remote,
        revision: &Revision,
        credential: &Credential,
    ) -> Result<Commit, GitError> {
        if let Some(id) = revision.as_commit() {
            return Ok(Commit {
                id,
                reference: None,
            });
        }
        let deadline = Deadline::after(RESOLVE_TIME_MAX.min(self.time_max));
        let session = Session::open(self, remote, credential, deadline)?;
        repository::resolve(&session, revision).await
    }

    /// Fetches a commit and makes a snapshot of its tree. What git says of its progress goes to `on_line`.
    ///
    /// Cancel-safe: what was begun is killed, and no tar file is left.
    pub async fn fetch(
        &self,
        fetch: Fetch<'_>,
        on_line: impl Fn(String) + Send + Sync,
    ) -> Result<Fetched, GitError> {
        let done = self.fetch_into_cache(fetch, &on_line).await;
        if matches!(done, Err(GitError::TooLarge { .. })) {
            repository::clear(fetch.cache).await?;
        }
        done
    }

    async fn fetch_into_cache(
        &self,
        fetch: Fetch<'_>,
        on_line: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Fetched, GitError> {
        let deadline = Deadline::after(self.time_max);
        let room = repository::prepare(fetch.cache, self.repository_bytes_max).await?;
        let session = Session::open(self, fetch.remote, fetch.credential, deadline)?;
        let path = fetch.cache.join("repository.git");
        let root = Repository::open(&session, &path, fetch.cache, room).await?;
        root.fetch(fetch.commit, on_line).await?;
        let about = root.about(&fetch.commit.id).await?;
        let directory_tree = root.tree_id(&fetch.commit.id, fetch.directory).await?;
        let mut tree = Found::default();
        root.list(&fetch.commit.id, "", self.limits, &mut tree)
            .await?;
        let first = Module {
            path: String::new(),
            remote: fetch.remote.clone(),
            commit: fetch.commit.id.clone(),
            repository: path,
            depth: 0,
        };
        let stores = self
            .fetch_modules(fetch, first, room, deadline, &mut tree, on_line)
            .await?;
        let (snapshot, pointers) = root
            .write(tree.objects, &stores, fetch.into, about.time, self.limits)
            .await?;
        Ok(Fetched {
            commit: fetch.commit.id.clone(),
            subject: about.subject,
            author: about.author,
            time: about.time,
            snapshot,
            directory_tree,
            warnings: warnings(fetch, &pointers),
        })
    }

    /// Fetches submodules until there are no more, and lays their trees into `tree`; where their objects are.
    async fn fetch_modules(
        &self,
        fetch: Fetch<'_>,
        first: Module,
        room: u64,
        deadline: Deadline,
        tree: &mut Found,
        on_line: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Vec<PathBuf>, GitError> {
        let (mut stores, mut count) = (Vec::new(), 0);
        let mut todo = vec![(first, std::mem::take(&mut tree.modules))];
        while let Some((parent, links)) = todo.pop() {
            if links.is_empty() {
                continue;
            }
            for (path, module) in self.modules(fetch, &parent, &links, deadline).await? {
                count += 1;
                if count > MODULES_MAX {
                    return Err(GitError::TooManyModules);
                }
                let named = |source: GitError| GitError::Module {
                    path: crate::snapshot::shown(&path),
                    source: Box::new(source),
                };
                if module.depth > MODULE_DEPTH_MAX {
                    return Err(named(GitError::TooDeep));
                }
                on_line(format!("submodule {}", crate::snapshot::shown(&path)));
                // A secret goes to the host it was given for, and to the same owner's there.
                let credential = match module.remote.same_owner(fetch.remote) {
                    true => fetch.credential,
                    false => &Credential::None,
                };
                let inner = async {
                    let session = Session::open(self, &module.remote, credential, deadline)?;
                    let repository =
                        Repository::open(&session, &module.repository, fetch.cache, room).await?;
                    let commit = Commit {
                        id: module.commit.clone(),
                        reference: None,
                    };
                    repository.fetch(&commit, on_line).await?;
                    repository
                        .list(&module.commit, &path, self.limits, tree)
                        .await
                };
                inner.await.map_err(named)?;
                stores.push(module.repository.join("objects"));
                todo.push((module, std::mem::take(&mut tree.modules)));
            }
        }
        stores.sort();
        stores.dedup();
        Ok(stores)
    }

    /// What the `.gitmodules` of a repository says of its gitlinks, by the path in the snapshot.
    async fn modules(
        &self,
        fetch: Fetch<'_>,
        parent: &Module,
        links: &[Object],
        deadline: Deadline,
    ) -> Result<BTreeMap<String, Module>, GitError> {
        let session = Session::open(self, &parent.remote, &Credential::None, deadline)?;
        let repository = Repository::at(&session, &parent.repository);
        let declared = repository.declared_modules(&parent.commit).await?;
        let module = |link: &Object| {
            parent
                .child(link, &declared, fetch.cache, &self.allowed_local)
                .map(|module| (link.path.clone(), module))
                .map_err(|source| GitError::Module {
                    path: crate::snapshot::shown(&link.path),
                    source: Box::new(source),
                })
        };
        links.iter().map(module).collect()
    }
}

fn warnings(fetch: Fetch<'_>, pointers: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    if fetch.remote.is_clear_text() && matches!(fetch.credential, Credential::Token { .. }) {
        warnings.push(format!(
            "the token for `{}` goes over the network unencrypted: use https",
            fetch.remote
        ));
    }
    if !pointers.is_empty() {
        let named = pointers.iter().take(POINTERS_NAMED);
        let named: Vec<String> = named
            .map(|path| format!("`{}`", crate::snapshot::shown(path)))
            .collect();
        let more = match pointers.len().saturating_sub(POINTERS_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        warnings.push(format!(
            "{}{more} are pointers of Git LFS, which is not supported: their content is not there",
            named.join(", ")
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
