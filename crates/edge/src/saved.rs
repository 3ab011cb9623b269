//! The last table on disk, so that an edge that starts anew serves before control has answered.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use ekiden_engine::frame::FRAME_BYTES_MAX;
use ekiden_model::route::{Generation, Route};
use serde::{Deserialize, Serialize};

/// The version of the file's form.
const VERSION: u32 = 1;

/// The file that holds the table.
#[derive(Debug)]
pub(crate) struct SavedTable {
    path: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    generation: Generation,
    routes: Vec<&'a Route>,
}

#[derive(Deserialize)]
struct Stored {
    version: u32,
    generation: Generation,
    routes: Vec<Route>,
}

impl SavedTable {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("routes.json"),
        }
    }

    /// The table, if there is one that can be read. One that cannot is as good as none: control has
    /// the truth, and is asked for it anyway.
    pub(crate) fn load(&self) -> Option<(Generation, Vec<Route>)> {
        match self.read() {
            Ok(table) => Some(table),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the saved routes cannot be read");
                None
            }
        }
    }

    fn read(&self) -> io::Result<(Generation, Vec<Route>)> {
        let mut text = Vec::new();
        File::open(&self.path)?
            .take(FRAME_BYTES_MAX as u64)
            .read_to_end(&mut text)?;
        let table: Stored = serde_json::from_slice(&text)?;
        if table.version != VERSION {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "written by another release",
            ));
        }
        Ok((table.generation, table.routes))
    }

    /// Replaces the table on disk. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The disk is full, or the directory is not ours to write; the file is as it was.
    pub(crate) fn store(&self, generation: Generation, routes: Vec<&Route>) -> io::Result<()> {
        let text = serde_json::to_vec(&Written {
            version: VERSION,
            generation,
            routes,
        })?;
        let temporary = self.path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}
