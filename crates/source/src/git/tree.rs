//! Trees and blobs, as git lists and gives them.

use std::{
    io::{BufRead, Read, Write},
    path::Path,
};

use super::error::{GitError, host};
use crate::snapshot::{Limits, Snapshot, SnapshotError, Writer, check_path, compare};

/// Files that are smaller can be pointers of Git LFS (its specification says so: "less than 1024 bytes").
const POINTER_BYTES_MAX: u64 = 1024;

/// How a pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// Bytes of a line of a listing before its path: mode, type, id, size and what separates them.
const PREFIX_BYTES_MAX: usize = 128;

/// What there is in a tree.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files and links.
    pub(super) objects: Vec<Object>,
    /// Gitlinks.
    pub(super) modules: Vec<Object>,
    /// Bytes of all objects.
    bytes: u64,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// In the snapshot.
    pub(super) path: String,
    /// git's id.
    pub(super) id: String,
    pub(super) kind: ObjectKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    File { executable: bool, bytes: u64 },
    Link { bytes: u64 },
    Module,
}

/// Reads what `git ls-tree -r -z -l` says: `mode SP type SP id SP+ size TAB path NUL`. Blocks.
pub(super) fn read_listing(
    mut source: impl BufRead,
    prefix: &str,
    limits: &Limits,
    found: &mut Found,
) -> Result<(), GitError> {
    let line_bytes_max = PREFIX_BYTES_MAX + limits.path_bytes_max;
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut source).take(line_bytes_max as u64);
        let read = bounded.read_until(0, &mut line);
        read.map_err(host("read what git answers"))?;
        if line.is_empty() {
            return Ok(());
        }
        if line.pop() != Some(0) {
            return Err(match line.len() + 1 == line_bytes_max {
                true => long_path(&line).into(),
                false => GitError::Odd("a listing was cut off"),
            });
        }
        let object = read_object(&line, prefix)?;
        check_path(&object.path, limits.path_bytes_max)
            .map_err(|problem| SnapshotError::refused(&object.path, problem))?;
        match object.kind {
            ObjectKind::Module => found.modules.push(object),
            ObjectKind::File { bytes, .. } | ObjectKind::Link { bytes } => {
                limits.add(&object.path, bytes, &mut found.bytes)?;
                found.objects.push(object);
            }
        }
        let entries_max = limits.entries_max;
        if found.objects.len() + found.modules.len() > entries_max {
            return Err(SnapshotError::TooMany { entries_max }.into());
        }
    }
}

fn long_path(line: &[u8]) -> SnapshotError {
    let path = line.splitn(2, |&byte| byte == b'\t').nth(1);
    let path = String::from_utf8_lossy(path.unwrap_or_default());
    SnapshotError::refused(&path, "its path is too long")
}

fn read_object(line: &[u8], prefix: &str) -> Result<Object, GitError> {
    let odd = || GitError::Odd("a listing has a line of another form");
    let at = line
        .iter()
        .position(|&byte| byte == b'\t')
        .ok_or_else(odd)?;
    let about = std::str::from_utf8(&line[..at]).map_err(|_| odd())?;
    let path = &line[at + 1..];
    let path = std::str::from_utf8(path).map_err(|_| {
        SnapshotError::refused(&String::from_utf8_lossy(path), "its name is not UTF-8")
    })?;
    let path = match prefix {
        "" => path.to_owned(),
        prefix => format!("{prefix}/{path}"),
    };
    let mut parts = about.split_ascii_whitespace();
    let mut next = || parts.next().ok_or_else(odd);
    let (mode, _, id, size) = (next()?, next()?, next()?, next()?);
    let bytes = || size.parse::<u64>().map_err(|_| odd());
    let kind = match mode {
        "120000" => ObjectKind::Link { bytes: bytes()? },
        "160000" => ObjectKind::Module,
        // Old repositories have other permissions as well; git looks at the owner's x only.
        _ if mode.starts_with("100") => {
            let mode = u32::from_str_radix(mode, 8).map_err(|_| odd())?;
            ObjectKind::File {
                executable: mode & 0o100 != 0,
                bytes: bytes()?,
            }
        }
        _ => {
            return Err(SnapshotError::refused(&path, "it is neither a file nor a link").into());
        }
    };
    Ok(Object {
        path,
        id: id.to_owned(),
        kind,
    })
}

/// Asks `git cat-file --batch` for one blob after the other, and writes the snapshot of them. Blocks.
pub(super) fn write(
    mut objects: Vec<Object>,
    mut to: impl Write,
    mut from: impl BufRead,
    into: &Path,
    epoch: u64,
    limits: Limits,
) -> Result<(Snapshot, Vec<String>), GitError> {
    objects.sort_by(|a, b| compare(&a.path, &b.path));
    let mut writer = Writer::create(into, epoch, limits)?;
    let mut pointers = Vec::new();
    for object in &objects {
        match object.kind {
            ObjectKind::Module => {}
            ObjectKind::Link { bytes } => {
                if bytes > limits.path_bytes_max as u64 {
                    let problem = "the target of the link is too long";
                    return Err(SnapshotError::refused(&object.path, problem).into());
                }
                let target = whole(&mut to, &mut from, object, bytes)?;
                let target = String::from_utf8(target).map_err(|_| {
                    SnapshotError::refused(&object.path, "it is a link whose target is not UTF-8")
                })?;
                writer.link(&object.path, &target)?;
            }
            ObjectKind::File { executable, bytes } if bytes < POINTER_BYTES_MAX => {
                let content = whole(&mut to, &mut from, object, bytes)?;
                if content.starts_with(POINTER) {
                    pointers.push(object.path.clone());
                }
                writer.file(&object.path, executable, bytes, &mut &content[..])?;
            }
            ObjectKind::File { executable, bytes } => {
                ask(&mut to, &mut from, object, bytes)?;
                let mut content = (&mut from).take(bytes);
                writer.file(&object.path, executable, bytes, &mut content)?;
                end(&mut from)?;
            }
        }
    }
    // It ends when nobody can ask any more.
    drop(to);
    Ok((writer.finish()?, pointers))
}

fn whole(
    to: &mut impl Write,
    from: &mut impl BufRead,
    object: &Object,
    bytes: u64,
) -> Result<Vec<u8>, GitError> {
    ask(to, from, object, bytes)?;
    let mut content = Vec::new();
    let read = from.take(bytes).read_to_end(&mut content);
    read.map_err(host("read what git answers"))?;
    end(from)?;
    Ok(content)
}

/// The answer begins with `id SP type SP size LF`.
fn ask(
    to: &mut impl Write,
    from: &mut impl BufRead,
    object: &Object,
    bytes: u64,
) -> Result<(), GitError> {
    let asked = to.write_all(format!("{}\n", object.id).as_bytes());
    asked.map_err(|_| GitError::Odd("it ended before all was asked"))?;
    let mut line = Vec::new();
    let mut bounded = from.take(PREFIX_BYTES_MAX as u64);
    let read = bounded.read_until(b'\n', &mut line);
    read.map_err(host("read what git answers"))?;
    match line == format!("{} blob {bytes}\n", object.id).as_bytes() {
        true => Ok(()),
        false => Err(GitError::Odd("it gave another object than was asked for")),
    }
}

/// After the content comes an LF.
fn end(from: &mut impl BufRead) -> Result<(), GitError> {
    let mut byte = [0];
    match from.read_exact(&mut byte) {
        Ok(()) if byte == *b"\n" => Ok(()),
        _ => Err(GitError::Odd("an object has another size than was said")),
    }
}
