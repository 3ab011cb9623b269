//! Files that hold an image: a folder, or a tar archive that is read in place.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    archive::{Archive, ArchiveError, EntryKind},
    decode::{Compression, decompressed},
    draft::{Draft, Drafts},
    error::ImageError,
    manifest::DOCUMENT_BYTES_MAX,
};

/// Files in an archive that holds an image: each layer is one, and `docker save` adds two or three
/// for each.
const MEMBERS_MAX: usize = 10_000;

/// Named files, for reading at any place.
pub(super) struct Files {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Folder,
    Archive {
        file: Arc<File>,
        /// Offset and length of each regular file.
        members: BTreeMap<Vec<u8>, (u64, u64)>,
        /// The archive itself was compressed, and `file` is what it unpacks to.
        _decompressed: Option<Draft>,
    },
}

/// One file's content and its length.
type Member = (Box<dyn Read + Send>, u64);

impl Files {
    /// Opens a folder, or an archive that may be compressed; then at most `bytes_max` of it are
    /// kept in a temporary file. Blocks.
    pub(super) fn open(path: &Path, drafts: &Drafts, bytes_max: u64) -> Result<Self, ImageError> {
        let fail = |error| ImageError::host("read", path, &error);
        let kind = match fs::metadata(path).map_err(fail)?.is_dir() {
            true => Kind::Folder,
            false => open_archive(path, drafts, bytes_max)?,
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
        })
    }

    /// A small file whole; `None` when there is none of this name.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some((reader, size)) = self.reader(name)? else {
            return Ok(None);
        };
        if size > DOCUMENT_BYTES_MAX {
            let what = format!("`{name}` in `{}`", self.path.display());
            return Err(self.bad(format!("{what} is larger than 4 MiB, which no manifest is")));
        }
        let mut bytes = Vec::new();
        let read = reader.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| ImageError::host("read", &self.path, &error))?;
        Ok(Some(bytes))
    }

    /// A file and its length; `None` when there is none of this name.
    pub(super) fn reader(&self, name: &str) -> Result<Option<Member>, ImageError> {
        match &self.kind {
            Kind::Folder => open_in_folder(&self.path, name),
            Kind::Archive { file, members, .. } => {
                let Some(&(at, left)) = members.get(name.as_bytes()) else {
                    return Ok(None);
                };
                let section = Section {
                    file: Arc::clone(file),
                    at,
                    left,
                };
                Ok(Some((Box::new(section), left)))
            }
        }
    }

    /// An error about these files.
    pub(super) fn bad(&self, problem: impl Into<String>) -> ImageError {
        ImageError::Invalid {
            image: self.path.display().to_string(),
            problem: problem.into(),
        }
    }
}

fn open_in_folder(folder: &Path, name: &str) -> Result<Option<Member>, ImageError> {
    // Documents of the image name some of its files, and could name others of the host.
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return Ok(None);
    }
    let path = folder.join(name);
    let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Ok((metadata, file)) if metadata.is_file() => Ok(Some((Box::new(file), metadata.len()))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::host("read", &path, &error)),
    }
}

fn open_archive(path: &Path, drafts: &Drafts, bytes_max: u64) -> Result<Kind, ImageError> {
    let fail = |error| ImageError::host("read", path, &error);
    let mut file = File::open(path).map_err(fail)?;
    let mut start = [0; 4];
    let length = file.read_at(&mut start, 0).map_err(fail)?;
    let mut draft = None;
    if Compression::of(&start[..length]) != Compression::None {
        let (place, mut plain) = drafts.file().map_err(fail)?;
        let mut source = decompressed(file).map_err(fail)?.take(bytes_max + 1);
        if io::copy(&mut source, &mut plain).map_err(fail)? > bytes_max {
            let what = format!("archive `{}`", path.display());
            return Err(ImageError::TooLarge { what, bytes_max });
        }
        (file, draft) = (plain, Some(place));
    }
    let members = members(&file).map_err(|error| match error {
        ArchiveError::Read(error) => fail(error),
        ArchiveError::Malformed(problem) => ImageError::Invalid {
            image: path.display().to_string(),
            problem,
        },
    })?;
    Ok(Kind::Archive {
        file: Arc::new(file),
        members,
        _decompressed: draft,
    })
}

fn members(file: &File) -> Result<BTreeMap<Vec<u8>, (u64, u64)>, ArchiveError> {
    let whole = SectionOf { file, at: 0 };
    let mut archive = Archive::new(BufReader::with_capacity(256 * 1024, whole));
    let mut members = BTreeMap::new();
    while let Some(entry) = archive.next_entry()? {
        if entry.kind != EntryKind::File {
            continue;
        }
        if members.len() == MEMBERS_MAX {
            let problem = format!("it holds more than {MEMBERS_MAX} files, which no image does");
            return Err(ArchiveError::Malformed(problem));
        }
        let name = entry
            .path
            .strip_prefix(b"./")
            .unwrap_or(&entry.path)
            .to_vec();
        members.insert(name, (archive.position(), entry.data_bytes));
    }
    Ok(members)
}

/// A file from its beginning, without moving its own position.
struct SectionOf<'a> {
    file: &'a File,
    at: u64,
}

impl Read for SectionOf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// A part of a file.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}
