//! A bare repository of ours that holds what was fetched.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use tokio::{process::Command, task::spawn_blocking};

use super::{
    Commit, CommitId, Revision,
    error::{GitError, host, is_unadvertised},
    module,
    process::{Growth, OnLine, converse, size},
    session::Session,
    tree::{self, Found, Object},
};
use crate::snapshot::{Limits, Snapshot, SnapshotError, check_path};

/// Where the newest commit is kept, so that the next fetch brings only what is new.
const CURRENT: &str = "refs/ekiden/current";

/// One repository of the cache.
#[derive(Debug)]
pub(super) struct Repository<'a> {
    session: &'a Session<'a>,
    path: PathBuf,
    growth: Option<(PathBuf, u64)>,
}

/// What a commit says of itself.
#[derive(Debug)]
pub(super) struct About {
    pub(super) subject: String,
    pub(super) author: String,
    pub(super) time: u64,
}

/// What a revision is, as the remote says.
pub(super) async fn resolve(
    session: &Session<'_>,
    revision: &Revision,
) -> Result<Commit, GitError> {
    let name = revision.as_str();
    let candidates = match name {
        "HEAD" => vec!["HEAD".to_owned()],
        _ if name.starts_with("refs/") => vec![format!("{name}^{{}}"), name.to_owned()],
        _ => vec![
            format!("refs/heads/{name}"),
            format!("refs/tags/{name}^{{}}"),
            format!("refs/tags/{name}"),
        ],
    };
    let mut arguments = vec!["ls-remote", "--symref", "--", session.remote.as_str()];
    arguments.extend(candidates.iter().map(String::as_str));
    let answer = session.run(session.command(&arguments)).await?;
    let answer = String::from_utf8_lossy(&answer);
    let found: HashMap<&str, &str> = answer
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(id, name)| (name, id))
        .collect();
    let symbolic = found_default(&answer).filter(|_| name == "HEAD");
    for candidate in &candidates {
        let Some(id) = found.get(candidate.as_str()) else {
            continue;
        };
        let id = id
            .parse()
            .map_err(|_| GitError::Odd("its objects are not named by SHA-1"))?;
        let reference = candidate.trim_end_matches("^{}");
        return Ok(Commit {
            id,
            reference: Some(symbolic.unwrap_or(reference).to_owned()),
        });
    }
    Err(GitError::RevisionNotFound {
        remote: session.remote.to_string(),
        revision: name.to_owned(),
    })
}

/// The branch that `HEAD` stands for, if it is a name that git may be given.
fn found_default(answer: &str) -> Option<&str> {
    let line = answer.lines().find_map(|line| line.strip_prefix("ref: "))?;
    let (name, _) = line.split_once('\t')?;
    let is_good = name.starts_with("refs/heads/") && name.parse::<Revision>().is_ok();
    is_good.then_some(name)
}

/// Makes the cache ready, and says how many bytes it may have. One that has grown to half of the bound by what
/// earlier commits have left is begun anew; what a killed git has left is removed.
pub(super) async fn prepare(cache: &Path, bytes_max: u64) -> Result<u64, GitError> {
    let path = cache.to_owned();
    let blocking = spawn_blocking(move || {
        std::fs::create_dir_all(&path)?;
        if size(&path) > bytes_max / 2 {
            std::fs::remove_dir_all(&path)?;
            std::fs::create_dir_all(&path)?;
        }
        remove_leftovers(&path)?;
        Ok(size(&path))
    });
    let size = blocking.await.unwrap_or_else(|error| Err(error.into()));
    Ok(size
        .map_err(host("prepare the cache of a repository"))?
        .saturating_add(bytes_max))
}

/// Removes the cache.
pub(super) async fn clear(cache: &Path) -> Result<(), GitError> {
    match tokio::fs::remove_dir_all(cache).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(host("remove the cache of a repository")(error))
        }
        _ => Ok(()),
    }
}

/// Locks and half packs. Nobody else is here: there is one fetch at a time.
fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if name.ends_with(".lock") || name.starts_with("tmp_") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl<'a> Repository<'a> {
    /// One that is there already.
    pub(super) fn at(session: &'a Session<'a>, path: &Path) -> Self {
        Self {
            session,
            path: path.to_owned(),
            growth: None,
        }
    }

    /// Makes it if it is not there; all of the cache together may have `bytes_max` bytes.
    pub(super) async fn open(
        session: &'a Session<'a>,
        path: &Path,
        cache: &Path,
        bytes_max: u64,
    ) -> Result<Self, GitError> {
        let repository = Self {
            growth: Some((cache.to_owned(), bytes_max)),
            ..Self::at(session, path)
        };
        let check = repository.command(["rev-parse", "--is-bare-repository"]);
        let check = session.try_run(check, None, &|_| {}).await?;
        if !check.status.success() {
            clear(path).await?;
            let arguments: [&OsStr; 6] = [
                "init".as_ref(),
                "--quiet".as_ref(),
                "--bare".as_ref(),
                "--template=".as_ref(),
                "--".as_ref(),
                path.as_ref(),
            ];
            session.run(session.command(&arguments)).await?;
        }
        Ok(repository)
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut all: Vec<OsString> = vec!["--git-dir".into(), self.path.clone().into()];
        all.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self.session.command(&all)
    }

    /// Brings a commit with its tree and without its past, unless it is here.
    ///
    /// It is asked for by its id, which most servers allow; else by its branch, which may have moved on; else with
    /// all branches and their past, in which it must be.
    pub(super) async fn fetch(&self, commit: &Commit, on_line: OnLine<'_>) -> Result<(), GitError> {
        if self.has(&commit.id).await? {
            return Ok(());
        }
        let by_id = format!("+{}:{CURRENT}", commit.id);
        let by_name = commit
            .reference
            .as_ref()
            .map(|name| format!("+{name}:{CURRENT}"));
        let shallow = [Some(by_id), by_name];
        for refspec in shallow.iter().flatten() {
            if self.try_fetch(&["--depth=1"], &[refspec], on_line).await?
                && self.has(&commit.id).await?
            {
                return Ok(());
            }
        }
        let all = [
            "+refs/heads/*:refs/ekiden/heads/*",
            "+refs/tags/*:refs/ekiden/tags/*",
        ];
        let past: &[&str] = match self.path.join("shallow").exists() {
            true => &["--unshallow"],
            false => &[],
        };
        self.try_fetch(past, &all, on_line).await?;
        match self.has(&commit.id).await? {
            true => Ok(()),
            false => Err(GitError::RevisionNotFound {
                remote: self.session.remote.to_string(),
                revision: commit.id.to_string(),
            }),
        }
    }

    /// `false` when the server does not give what was asked for.
    async fn try_fetch(
        &self,
        options: &[&str],
        refspecs: &[&str],
        on_line: OnLine<'_>,
    ) -> Result<bool, GitError> {
        let mut arguments = vec![
            "fetch",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--progress",
        ];
        arguments.extend(options);
        arguments.extend(["--", self.session.remote.as_str()]);
        arguments.extend(refspecs);
        let growth = self.growth.as_ref().map(|(directory, bytes_max)| Growth {
            directory,
            bytes_max: *bytes_max,
            bound: self.session.git.repository_bytes_max,
        });
        let command = self.command(&arguments);
        let output = self.session.try_run(command, growth, on_line).await?;
        match output.status.success() {
            true => Ok(true),
            false if is_unadvertised(&output.stderr) => Ok(false),
            // The kernel ended the part of git that was about to write more.
            false if self.is_full().await => Err(GitError::TooLarge {
                bytes_max: self.session.git.repository_bytes_max,
            }),
            false => Err(self.session.failed(&output.stderr)),
        }
    }

    async fn is_full(&self) -> bool {
        let Some((directory, bytes_max)) = self.growth.clone() else {
            return false;
        };
        let size = spawn_blocking(move || size(&directory)).await;
        size.is_ok_and(|bytes| bytes >= bytes_max)
    }

    async fn has(&self, id: &CommitId) -> Result<bool, GitError> {
        let arguments = ["cat-file", "-e", &format!("{id}^{{tree}}")];
        let command = self.command(arguments);
        let output = self.session.try_run(command, None, &|_| {}).await?;
        Ok(output.status.success())
    }

    /// Subject, author and time of a commit.
    pub(super) async fn about(&self, id: &CommitId) -> Result<About, GitError> {
        let arguments = [
            "log",
            "--max-count=1",
            "--no-show-signature",
            "--no-mailmap",
            "--encoding=UTF-8",
            "--format=%ct%x00%an%x00%s",
            id.as_str(),
            "--",
        ];
        let answer = self.session.run(self.command(arguments)).await?;
        let answer = String::from_utf8_lossy(&answer);
        let mut parts = answer.trim_end_matches('\n').splitn(3, '\0');
        let mut next = || parts.next().ok_or(GitError::Odd("a commit has no subject"));
        let (time, author, subject) = (next()?, next()?, next()?);
        Ok(About {
            // A commit of before 1970 is one of 1970.
            time: time.parse().unwrap_or(0),
            author: crate::snapshot::shown(author),
            subject: crate::snapshot::shown(subject),
        })
    }

    /// The id of the tree of a directory; an empty one is the whole.
    pub(super) async fn tree_id(
        &self,
        commit: &CommitId,
        directory: &str,
    ) -> Result<String, GitError> {
        let parts = directory
            .split('/')
            .filter(|part| !matches!(*part, "" | "."));
        let path = parts.collect::<Vec<_>>().join("/");
        let not_found = || GitError::DirectoryNotFound {
            directory: crate::snapshot::shown(directory),
        };
        if !path.is_empty() && check_path(&path, usize::MAX).is_err() {
            return Err(not_found());
        }
        let object = match path.as_str() {
            "" => format!("{commit}^{{tree}}"),
            path => format!("{commit}:{path}"),
        };
        let arguments = ["rev-parse", "--verify", "--quiet", &object];
        let output = self.session.try_run(self.command(arguments), None, &|_| {});
        let output = output.await?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || id.parse::<CommitId>().is_err() {
            return Err(not_found());
        }
        let kind = self
            .session
            .run(self.command(["cat-file", "-t", &id]))
            .await;
        match kind.as_deref() {
            Ok(b"tree\n") => Ok(id),
            _ => Err(not_found()),
        }
    }

    /// Adds everything that is in a commit's tree, at `prefix`.
    pub(super) async fn list(
        &self,
        commit: &CommitId,
        prefix: &str,
        limits: Limits,
        found: &mut Found,
    ) -> Result<(), GitError> {
        let command = self.command(["ls-tree", "-r", "-z", "-l", "--full-tree", commit.as_str()]);
        let (prefix, mut listed) = (prefix.to_owned(), std::mem::take(found));
        let work = move |_, from| {
            tree::read_listing(BufReader::new(from), &prefix, &limits, &mut listed)?;
            Ok(listed)
        };
        *found = self.converse(command, work).await?;
        Ok(())
    }

    /// Writes objects as a snapshot; and which of them are pointers of Git LFS. `stores` are more directories of
    /// objects.
    pub(super) async fn write(
        &self,
        objects: Vec<Object>,
        stores: &[PathBuf],
        into: &Path,
        epoch: u64,
        limits: Limits,
    ) -> Result<(Snapshot, Vec<String>), GitError> {
        let mut command = self.command(["cat-file", "--batch"]);
        let stores: Vec<String> = stores.iter().map(|path| quoted_store(path)).collect();
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", stores.join(":"));
        let into = into.to_owned();
        let work =
            move |to, from| tree::write(objects, to, BufReader::new(from), &into, epoch, limits);
        self.converse(command, work).await
    }

    async fn converse<T: Send + 'static>(
        &self,
        command: Command,
        work: impl FnOnce(io::PipeWriter, io::PipeReader) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        match converse(command, self.session.deadline, work).await {
            Ok((value, output)) if output.status.success() => Ok(value),
            Ok((_, output)) => Err(self.session.failed(&output.stderr)),
            // That it ended is the lesser news; why is what it said.
            Err((GitError::Odd(_) | GitError::Snapshot(SnapshotError::Read { .. }), stderr))
                if !stderr.is_empty() =>
            {
                Err(self.session.failed(&stderr))
            }
            Err((error, _)) => Err(error),
        }
    }

    /// Path and address of each submodule that the `.gitmodules` of a commit tells of.
    pub(super) async fn declared_modules(
        &self,
        commit: &CommitId,
    ) -> Result<HashMap<String, String>, GitError> {
        let blob = format!("--blob={commit}:.gitmodules");
        let command = self.command(["config", &blob, "--no-includes", "--null", "--list"]);
        let output = self.session.try_run(command, None, &|_| {}).await?;
        match output.status.success() {
            true => Ok(module::read_declared(&output.stdout)),
            // There is no such file: then no submodule is declared.
            false => Ok(HashMap::new()),
        }
    }
}

/// A path in `GIT_ALTERNATE_OBJECT_DIRECTORIES`, whose parts are quoted as in C when they have to be (git(1)).
fn quoted_store(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
