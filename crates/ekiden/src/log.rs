//! The log: one line per event, to standard error or to a bounded file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Log, LogFormat, LogLevel};

/// The log file is copied to `<file>.1` and emptied when it is longer, in bytes.
pub const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Starts logging in this process: to `file`, or else to standard error, which for a role is
/// wherever its supervisor logs.
pub fn start(settings: &Log, file: Option<File>) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let writer = match file {
        Some(file) => BoxMakeWriter::new(Mutex::new(file)),
        None => BoxMakeWriter::new(io::stderr),
    };
    // A log that cannot be written must not end its writer.
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false);
    match settings.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// The log's file, shared by the supervisor and the roles: every line is appended by one write.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens or makes it, readable by root only.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Another handle to it.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Keeps it within its bound. Copied and emptied, not renamed: every process goes on writing
    /// at its end without being told. Lines written between the two steps are lost.
    ///
    /// # Errors
    /// The copy cannot be written; then nothing was emptied.
    pub fn bound(&self) -> io::Result<()> {
        if self.file.metadata()?.len() > FILE_BYTES_MAX {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::copy(&self.path, &old)?;
            self.file.set_len(0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_file_is_moved_aside_and_its_writers_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = LogFile::open(&path).unwrap();
        let mut writer = log.handle().unwrap();
        writer.set_len(FILE_BYTES_MAX + 1).unwrap();
        log.bound().unwrap();
        writer.write_all(b"line\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"line\n");
        let old = fs::metadata(directory.path().join("log.1")).unwrap();
        assert_eq!(old.len(), FILE_BYTES_MAX + 1);
    }
}
