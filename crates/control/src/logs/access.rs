//! From the edge's access log to the log store: the lines of `.../access`.
//!
//! The file is the edge's; here it is followed across its rotations, and each line goes to the group of the service
//! that it names. Requests that led to no service are in the file only. How far the file is read is remembered
//! twice: for the whole, now and then, in a file of its own, and with the lines of each group, so that what is read
//! again after a crash is not stored again.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use ekiden_logs::{
    append::{Append, Missing, Times},
    error::LogError,
    event::NewEvent,
    store::LogStore,
};
use ekiden_model::id::ServiceId;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{GroupKind, Names, blocking, now_ms, stored_position};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is read at one time, in bytes.
const READ_BYTES_MAX: u64 = 1 << 20;

/// What is read at one look, in bytes; the rest waits for the next one, and what is rotated away meanwhile is
/// not stored: requests are not slowed down by being logged twice.
const LOOK_BYTES_MAX: u64 = 8 << 20;

/// The stream of each group.
const STREAM: &str = "requests";

/// Rotated files that are looked for.
const FILES_MAX: u32 = 1000;

/// A place in the file that had this inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    inode: u64,
    offset: u64,
}

/// Follows the file until the control plane stops.
pub(crate) async fn follow(
    path: PathBuf,
    remembered: PathBuf,
    store: LogStore,
    names: Names,
    stop: CancellationToken,
) {
    let mut place = read_place(&remembered);
    let mut warned = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(LOOK_EVERY) => {} // a timer
        }
        let (path, remembered, names) = (path.clone(), remembered.clone(), names.clone());
        let looked = blocking(&store, move |store| {
            let next = look(&path, place, store, &names)?;
            if next != place
                && let Some(next) = next
            {
                write_place(&remembered, next)?;
            }
            Ok::<_, LookError>(next)
        });
        match looked.await {
            Ok(next) => {
                place = next;
                warned = false;
            }
            Err(LookError::File(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if !warned => {
                warn!(%error, "the access log is not in the log store for now");
                warned = true;
            }
            Err(error) => debug!(%error, "the access log is not in the log store for now"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("its lines cannot be stored: {0}")]
    Store(#[from] LogError),
}

/// Stores what is new; answers how far that is.
fn look(
    path: &Path,
    from: Option<Place>,
    store: &LogStore,
    names: &Names,
) -> Result<Option<Place>, LookError> {
    let files = files(path)?;
    let order: HashMap<u64, usize> = files
        .iter()
        .enumerate()
        .map(|(index, (inode, _))| (*inode, index))
        .collect();
    // What was read and is gone: everything there is comes after it.
    let first = from.and_then(|from| order.get(&from.inode)).copied();
    let mut place = from;
    let mut budget = LOOK_BYTES_MAX;
    for (inode, path) in &files[first.unwrap_or(0)..] {
        let mut offset = match from {
            Some(from) if from.inode == *inode => from.offset,
            _ => 0,
        };
        let mut file = File::open(path)?;
        if file.metadata()?.ino() != *inode {
            break; // rotated at this moment: the next look finds it
        }
        loop {
            let bytes = read_lines(&mut file, offset)?;
            if bytes.is_empty() {
                break;
            }
            let end = offset + bytes.len() as u64;
            let read = Place {
                inode: *inode,
                offset,
            };
            store_lines(store, names, &order, read, &bytes)?;
            offset = end;
            place = Some(Place {
                inode: *inode,
                offset,
            });
            budget = budget.saturating_sub(bytes.len() as u64);
            if budget == 0 {
                return Ok(place);
            }
        }
        place = Some(Place {
            inode: *inode,
            offset,
        });
    }
    Ok(place)
}

/// The files, oldest first, by their inodes.
fn files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = vec![(fs::metadata(path)?.ino(), path.to_owned())];
    for number in 1..FILES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let rotated = PathBuf::from(name);
        match fs::metadata(&rotated) {
            Ok(metadata) => files.push((metadata.ino(), rotated)),
            Err(_) => break,
        }
    }
    files.reverse();
    Ok(files)
}

/// Whole lines from a place on.
fn read_lines(file: &mut File, offset: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    bytes.truncate(whole);
    Ok(bytes)
}

/// Stores lines that begin at a place, those of each service in its group.
fn store_lines(
    store: &LogStore,
    names: &Names,
    order: &HashMap<u64, usize>,
    from: Place,
    bytes: &[u8],
) -> Result<(), LogError> {
    let mut by_service: HashMap<ServiceId, Vec<(u64, NewEvent<'_>)>> = HashMap::new();
    let mut end = from.offset;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        end += line.len() as u64;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let Some((service, time_ms)) = facts(text) else {
            continue;
        };
        let event = NewEvent { time_ms, text };
        by_service.entry(service).or_default().push((end, event));
    }
    for (service, lines) in by_service {
        let Some(name) = names(service) else {
            continue;
        };
        let group = GroupKind::Access.group(&name, service);
        let stored = stored_position(store, &group, STREAM)?;
        let stored = stored.as_deref().and_then(parse);
        let is_new = |end: u64| match stored {
            Some(stored) if stored.inode == from.inode => end > stored.offset,
            // The file that was read last is gone, or older than this one.
            Some(stored) => order.get(&stored.inode) < order.get(&from.inode),
            None => true,
        };
        let events: Vec<_> = lines
            .iter()
            .filter(|(end, _)| is_new(*end))
            .map(|(_, event)| *event)
            .collect();
        if events.is_empty() {
            continue;
        }
        let place = Place {
            inode: from.inode,
            offset: end,
        };
        store.append(&Append {
            group: &group,
            stream: STREAM,
            missing: Missing::CreateGroup,
            times: Times::Given,
            now_ms: now_ms(),
            position: Some(print(place).as_bytes()),
            events: &events,
        })?;
    }
    Ok(())
}

/// Whose request a line tells of, and when it was over.
fn facts(line: &[u8]) -> Option<(ServiceId, i64)> {
    const TIME: &[u8] = b"{\"time_ms\":";
    const SERVICE: &[u8] = b",\"service_id\":\"";
    let rest = line.strip_prefix(TIME)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let time = str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    // Not within a text: a quote in one is escaped.
    let at = memchr::memmem::find(rest, SERVICE)? + SERVICE.len();
    let id = str::from_utf8(rest.get(at..at + 32)?).ok()?;
    Some((id.parse().ok()?, time))
}

fn print(place: Place) -> String {
    format!("{}:{}", place.inode, place.offset)
}

fn parse(text: &[u8]) -> Option<Place> {
    let (inode, offset) = str::from_utf8(text).ok()?.trim().split_once(':')?;
    Some(Place {
        inode: inode.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

fn read_place(path: &Path) -> Option<Place> {
    parse(&fs::read(path).ok()?)
}

fn write_place(path: &Path, place: Place) -> io::Result<()> {
    let draft = path.with_extension("draft");
    File::create(&draft)?.write_all(print(place).as_bytes())?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ekiden_logs::{
        query::{Filter, Query},
        settings::Settings,
    };

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        store: LogStore,
        names: Names,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let settings = Settings {
                disk_free_bytes_min: 0,
                ..Settings::default()
            };
            let store = LogStore::open(&dir.path().join("logs"), settings).unwrap();
            let names: Names = Arc::new(|_| Some("web1".parse().unwrap()));
            Self { dir, store, names }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("access.log")
        }

        fn write(&self, lines: impl IntoIterator<Item = (u8, u64)>) {
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(self.path())
                .unwrap();
            for (service, number) in lines {
                let id = format!("{service:02x}").repeat(16);
                writeln!(
                    file,
                    "{{\"time_ms\":{number},\"host\":\"h\",\"service_id\":\"{id}\",\"status\":200}}"
                )
                .unwrap();
            }
        }

        fn rotate(&self) {
            for number in (0..3).rev() {
                let name = |n: u32| match n {
                    0 => self.path(),
                    n => self.dir.path().join(format!("access.log.{n}")),
                };
                let _ = fs::rename(name(number), name(number + 1));
            }
        }

        fn look(&self, from: Option<Place>) -> Option<Place> {
            look(&self.path(), from, &self.store, &self.names).unwrap()
        }

        fn times(&self, service: u8) -> Vec<i64> {
            let group = format!(
                "/aws/apprunner/web1/{}/access",
                format!("{service:02x}").repeat(16)
            );
            let found = self
                .store
                .query(&Query::new(&group), &Filter::all())
                .unwrap();
            found.events.iter().map(|event| event.time_ms).collect()
        }
    }

    #[test]
    fn lines_go_to_their_services_once_across_rotations_and_crashes() {
        let world = World::new();
        world.write([(1, 1), (2, 2), (1, 3)]);
        let first = world.look(None);
        world.write([(1, 4)]);
        world.rotate();
        world.write([(1, 5), (2, 6)]);
        // It died before it remembered, and reads all of it again.
        let again = world.look(None);
        assert_eq!(world.times(1), [1, 3, 4, 5]);
        assert_eq!(world.times(2), [2, 6]);
        assert_eq!(world.look(first), again);
        assert_eq!(world.times(1), [1, 3, 4, 5]);
        world.rotate();
        world.write([(2, 7)]);
        world.look(again);
        assert_eq!((world.times(1).len(), world.times(2)), (4, vec![2, 6, 7]));
    }

    #[test]
    fn what_is_no_line_of_a_service_is_left_out() {
        let world = World::new();
        fs::write(
            world.path(),
            "{\"time_ms\":1,\"host\":\",\\\"service_id\\\":\\\"x\"}\nnonsense\n\n{\"time_ms\":",
        )
        .unwrap();
        let end = world.look(None).unwrap();
        assert_eq!(
            end.offset,
            fs::read(world.path()).unwrap().len() as u64 - 11
        );
        assert!(
            world
                .store
                .groups(&ekiden_logs::group_info::GroupsQuery {
                    names: ekiden_logs::group_info::Names::All,
                    after: None,
                    limit: 10,
                })
                .items
                .is_empty()
        );
    }
}
