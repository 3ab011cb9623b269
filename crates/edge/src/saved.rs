//! The last table on disk, so that an edge that starts anew serves before control has answered.
//!
//! `routes.json` is a whole table, and `routes.changes` has a line for each change since. A change
//! is written before control is told that it is served: control takes an instance down after that,
//! and no successor of this edge may send requests to where it was. The lines are not synced: what
//! a power cut takes, it takes together with every instance.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use ekiden_engine::frame::FRAME_BYTES_MAX;
use ekiden_model::{
    id::ServiceId,
    route::{Generation, Route},
};
use serde::{Deserialize, Serialize};

/// The version of the file's form.
const VERSION: u32 = 1;

/// The changes may take so many bytes before the whole table is written anew, or as many as the
/// table does if that is more.
const CHANGES_BYTES_MIN: u64 = 1 << 20;

/// The files that hold the table.
#[derive(Debug)]
pub(crate) struct SavedTable {
    path: PathBuf,
    changes: PathBuf,
    /// Bytes in `changes` that are lines of this process, and in `path`.
    changes_bytes: u64,
    table_bytes: u64,
    /// Whether the files say what is served, but for what is noted next.
    is_whole: bool,
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

#[derive(Serialize)]
struct WrittenChange<'a> {
    generation: Generation,
    set: &'a [Route],
    remove: &'a [ServiceId],
}

#[derive(Deserialize)]
struct StoredChange {
    generation: Generation,
    set: Vec<Route>,
    remove: Vec<ServiceId>,
}

impl SavedTable {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("routes.json"),
            changes: data_dir.join("routes.changes"),
            changes_bytes: 0,
            table_bytes: 0,
            is_whole: false,
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
        self.replay(table)
    }

    /// The table with the changes since. The last line may be cut: nobody was told of it.
    fn replay(&self, table: Stored) -> io::Result<(Generation, Vec<Route>)> {
        let changes = match File::open(&self.changes) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((table.generation, table.routes));
            }
            Err(error) => return Err(error),
        };
        let mut generation = table.generation;
        let mut routes: BTreeMap<_, _> = table
            .routes
            .into_iter()
            .map(|route| (route.service, route))
            .collect();
        for line in BufReader::new(changes.take(FRAME_BYTES_MAX as u64)).split(b'\n') {
            let Ok(change) = serde_json::from_slice::<StoredChange>(&line?) else {
                break;
            };
            if change.generation <= generation {
                // The table was written after it.
                continue;
            }
            generation = change.generation;
            for id in change.remove {
                routes.remove(&id);
            }
            routes.extend(change.set.into_iter().map(|route| (route.service, route)));
        }
        Ok((generation, routes.into_values().collect()))
    }

    /// Adds a change to what is on disk; without effect when the whole table is to be written next.
    ///
    /// # Errors
    /// The disk is full, or the directory is not ours to write; the whole table is to be written.
    pub(crate) fn note(
        &mut self,
        generation: Generation,
        set: &[Route],
        remove: &[ServiceId],
    ) -> io::Result<()> {
        if !self.is_whole {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&WrittenChange {
            generation,
            set,
            remove,
        })?;
        line.push(b'\n');
        // Set again when it is written.
        self.is_whole = false;
        let mut options = File::options();
        let mut file = options.append(true).create(true).open(&self.changes)?;
        file.write_all(&line)?;
        self.changes_bytes += line.len() as u64;
        self.is_whole = self.changes_bytes < self.table_bytes.max(CHANGES_BYTES_MIN);
        Ok(())
    }

    /// Whether the whole table is to be written.
    pub(crate) fn is_due(&self) -> bool {
        !self.is_whole
    }

    /// The whole table is to be written, as after one that is not the old one and a change.
    pub(crate) fn invalidate(&mut self) {
        self.is_whole = false;
    }

    /// Replaces the table on disk. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The disk is full, or the directory is not ours to write; the files are as they were.
    pub(crate) fn store(&mut self, generation: Generation, routes: Vec<&Route>) -> io::Result<()> {
        let text = serde_json::to_vec(&Written {
            version: VERSION,
            generation,
            routes,
        })?;
        let temporary = self.path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        (self.table_bytes, self.changes_bytes) = (text.len() as u64, 0);
        match fs::remove_file(&self.changes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.is_whole = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(number: u8, host: &str) -> Route {
        Route {
            service: ServiceId::from_bytes([number; 16]),
            service_name: "shop".parse().unwrap(),
            hosts: vec![host.to_owned()],
            private_hosts: Vec::new(),
            state: ekiden_model::route::RouteState::Serving,
            concurrency_per_instance: 1,
            upstreams: Vec::new(),
            ingress: Box::default(),
        }
    }

    fn hosts(table: Option<(Generation, Vec<Route>)>) -> Option<(u64, Vec<String>)> {
        let (generation, routes) = table?;
        let hosts = routes.iter().flat_map(|route| route.hosts.clone());
        Some((generation.0, hosts.collect()))
    }

    #[test]
    fn what_was_noted_is_there_at_once_and_a_cut_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = SavedTable::new(dir.path());
        let load = || hosts(SavedTable::new(dir.path()).load());
        // Before there is a table, a change says nothing.
        saved.note(Generation(1), &[route(1, "a")], &[]).unwrap();
        assert_eq!(load(), None);
        let (a, b) = (route(1, "a"), route(2, "b"));
        saved.store(Generation(2), vec![&a, &b]).unwrap();
        assert!(!saved.is_due());
        saved
            .note(Generation(3), &[route(3, "c")], &[a.service])
            .unwrap();
        saved.note(Generation(4), &[route(2, "d")], &[]).unwrap();
        assert_eq!(load(), Some((4, vec!["d".to_owned(), "c".to_owned()])));

        let changes = dir.path().join("routes.changes");
        let whole = fs::read(&changes).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(&changes, &whole[..length]).unwrap();
            let (generation, _) = load().unwrap();
            let lines = whole[..length]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            assert!(generation - 2 - lines as u64 <= 1, "{length}: {generation}");
        }
    }

    #[test]
    fn a_table_leaves_no_change_behind_and_an_older_change_has_no_effect() {
        let dir = tempfile::tempdir().unwrap();
        let (mut old, mut new) = (SavedTable::new(dir.path()), SavedTable::new(dir.path()));
        let (a, b) = (route(1, "a"), route(1, "b"));
        old.store(Generation(1), vec![&a]).unwrap();
        new.store(Generation(5), vec![&b]).unwrap();
        // The edge before is not gone yet.
        old.note(Generation(5), &[a], &[]).unwrap();
        assert_eq!(hosts(new.load()), Some((5, vec!["b".to_owned()])));
    }

    #[test]
    fn changes_without_end_become_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = SavedTable::new(dir.path());
        let mut bytes = 0;
        saved.store(Generation(0), vec![]).unwrap();
        for generation in 1..10_000 {
            let route = route(1, &format!("host-{generation}"));
            saved
                .note(Generation(generation), std::slice::from_ref(&route), &[])
                .unwrap();
            if saved.is_due() {
                saved.store(Generation(generation), vec![&route]).unwrap();
            }
            bytes = fs::metadata(dir.path().join("routes.changes"))
                .map_or(0, |file| file.len())
                .max(bytes);
        }
        assert!(
            bytes > CHANGES_BYTES_MIN / 2 && bytes < CHANGES_BYTES_MIN + 4096,
            "{bytes}"
        );
        assert_eq!(
            hosts(saved.load()),
            Some((9_999, vec!["host-9999".to_owned()]))
        );
    }
}
