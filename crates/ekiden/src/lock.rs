//! One server per data directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Held as long as the process lives; the kernel lets go of it whatever ends the process.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server has it.
    #[error(
        "another server, pid {pid}, uses `{}`: stop it with `ekiden stop`, or set another `data_dir`",
        directory.display()
    )]
    Held {
        /// Which directory.
        directory: PathBuf,
        /// Who.
        pid: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataLock {
    /// Locks `directory`, which is made if it is missing, or says who has.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process holds it. Never waits.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let fail = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(directory).map_err(fail)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                file.take(20).read_to_string(&mut pid).map_err(fail)?;
                return Err(LockError::Held {
                    directory: directory.to_owned(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err(error) => return Err(fail(error.into())),
        }
        file.set_len(0).map_err(fail)?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataLock::take(directory.path()).unwrap();
        let error = DataLock::take(directory.path()).unwrap_err();
        assert!(
            matches!(error, LockError::Held { pid, .. } if pid == std::process::id().to_string())
        );
        drop(first);
        DataLock::take(directory.path()).unwrap();
    }
}
