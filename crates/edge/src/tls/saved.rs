//! The certificates on disk, so that an edge that starts anew serves HTTPS before control has
//! answered.
//!
//! The file holds private keys: it is readable by the edge's user alone, in a directory that is too.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ekiden_engine::frame::FRAME_BYTES_MAX;
use ekiden_model::{
    id::CertificateId,
    route::{CertificateGeneration, EdgeCertificate, Removed},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Certificates, Change};

/// The version of the file's form.
const VERSION: u32 = 1;

/// The file that holds the certificates.
#[derive(Debug)]
pub(crate) struct SavedCertificates {
    path: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    default: Option<CertificateId>,
    on_demand: &'a [String],
    certificates: Vec<&'a EdgeCertificate>,
}

#[derive(Deserialize)]
struct Stored {
    version: u32,
    default: Option<CertificateId>,
    on_demand: Vec<String>,
    certificates: Vec<EdgeCertificate>,
}

impl SavedCertificates {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("certificates.json"),
        }
    }

    /// What was saved, as a change of nothing. A file that cannot be read is as good as none:
    /// control has the truth, and sends it anyway.
    pub(crate) fn load(&self) -> Option<Change> {
        match self.read() {
            Ok(stored) => Some(Change {
                generation: CertificateGeneration::default(),
                set: stored.certificates,
                remove: Removed::AllBut(Vec::new()),
                default: stored.default,
                challenges: Vec::new(),
                on_demand: stored.on_demand,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the saved certificates cannot be read");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Stored> {
        let mut text = Zeroizing::new(Vec::new());
        fs::File::open(&self.path)?
            .take(FRAME_BYTES_MAX as u64)
            .read_to_end(&mut text)?;
        let stored: Stored = serde_json::from_slice(&text)?;
        if stored.version != VERSION {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "written by another release",
            ));
        }
        Ok(stored)
    }

    /// Replaces the file. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The disk is full, or the directory is not ours to write; the file is as it was.
    pub(crate) fn store(&self, certificates: &Certificates) -> io::Result<()> {
        let (certificates, default, on_demand) = certificates.lasting();
        let text = Zeroizing::new(serde_json::to_vec(&Written {
            version: VERSION,
            default,
            on_demand,
            certificates,
        })?);
        let temporary = self.path.with_extension("json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}
