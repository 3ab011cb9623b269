//! Opening a store: what is in its directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, RwLock,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Instant,
};

use crate::{
    disk::Disk,
    error::LogError,
    file::{self, Kind},
    group::{Group, Meta},
    group_info::GroupClass,
    name,
    segment::FooterCache,
    settings::Settings,
    shared::{Counters, Queue, Shared, lock},
};

use super::Inner;

/// The smallest budget.
const BUDGET_BYTES_MIN: u64 = 1 << 20;

/// The largest journal that may be asked for: it is read whole.
const SEGMENT_RAW_BYTES_MAX: u64 = 64 << 20;

/// What the directories of groups that are being deleted begin with; no group's does.
pub(super) const DELETED: &str = "~deleted-";

const LOCK: &str = "LOCK";

pub(super) fn open(root: &Path, settings: Settings) -> Result<Inner, LogError> {
    if settings.group_bytes_max.min(settings.total_bytes_max) < BUDGET_BYTES_MIN {
        return Err(LogError::Invalid {
            message: format!("a budget for logs is below {BUDGET_BYTES_MIN} bytes; give it more"),
        });
    }
    if !(1..=SEGMENT_RAW_BYTES_MAX).contains(&settings.segment_raw_bytes_max) {
        return Err(LogError::Invalid {
            message: format!(
                "journals cannot have more than {SEGMENT_RAW_BYTES_MAX} bytes, nor none"
            ),
        });
    }
    fs::create_dir_all(root).map_err(LogError::io("create the directory of the log store"))?;
    let lock_file = lock_directory(root)?;
    let disk = Disk::new(root, &settings);
    let groups = read_groups(root, &disk)?;
    let shared = Arc::new(Shared {
        settings,
        disk,
        footers: FooterCache::default(),
        counters: Counters::default(),
        now_ms: AtomicI64::new(0),
        groups: RwLock::new(groups),
        notes: Mutex::default(),
        dropped: Mutex::default(),
        queue: Mutex::new(Queue::default()),
        queued: Condvar::new(),
        changed: Mutex::new(0),
        changes: Condvar::new(),
    });
    let sealing = Arc::clone(&shared);
    let sealer = std::thread::Builder::new()
        .name("log-seal".to_owned())
        .spawn(move || sealing.seal_queued())
        .map_err(LogError::io("start the thread that seals journals"))?;
    Ok(Inner {
        root: root.to_owned(),
        shared,
        sealer: Mutex::new(Some(sealer)),
        synced: Mutex::new(Instant::now()),
        aged_ms: Mutex::new(None),
        deleted: AtomicU64::new(0),
        _lock: lock_file,
    })
}

fn lock_directory(root: &Path) -> Result<File, LogError> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join(LOCK))
        .map_err(LogError::io("open the lock of the log store"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LogError::Invalid {
            message: format!(
                "the log store in {} is in use by another process; stop that first",
                root.display(),
            ),
        }),
        Err(fs::TryLockError::Error(error)) => Err(LogError::io("lock the log store")(error)),
    }
}

fn read_groups(root: &Path, disk: &Disk) -> Result<BTreeMap<String, Arc<Group>>, LogError> {
    let failed = LogError::io("read the directory of the log store");
    let mut groups = BTreeMap::new();
    for entry in fs::read_dir(root).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if !entry.file_type().map_err(&failed)?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(DELETED)) {
            fs::remove_dir_all(entry.path())
                .map_err(LogError::io("remove what is left of a deleted group"))?;
            continue;
        }
        if let Some((group, bytes)) = read_group(&entry.path())? {
            disk.found(&group.bytes, bytes);
            if groups.insert(group.name.clone(), Arc::new(group)).is_some() {
                tracing::warn!(directory = %entry.path().display(), "two directories have the same log group");
            }
        }
    }
    Ok(groups)
}

/// A group and its bytes; `None` for a directory that is none.
fn read_group(directory: &Path) -> Result<Option<(Group, u64)>, LogError> {
    let failed = LogError::io("read a log group's directory");
    let mut files: BTreeMap<u64, (Kind, u64)> = BTreeMap::new();
    let (mut bytes, mut known) = (0, false);
    for entry in fs::read_dir(directory).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let length = entry.metadata().map_err(&failed)?.len();
        if name == file::GROUP {
            known = true;
            bytes += length;
        } else if name.ends_with(file::TEMPORARY) {
            fs::remove_file(entry.path()).map_err(LogError::io("remove a temporary file"))?;
        } else if let Some((kind, number)) = file::parse(name) {
            // Where there are both, the segment is whole and the journal stale.
            let stale = match files.get(&number) {
                None => None,
                Some(_) if kind == Kind::Journal => Some(kind),
                Some((other, _)) => Some(*other),
            };
            if let Some(stale) = stale {
                fs::remove_file(file::path(directory, stale, number))
                    .map_err(LogError::io("remove a journal that was sealed"))?;
            }
            if stale != Some(kind) {
                files.insert(number, (kind, length));
            }
        }
    }
    if !known && files.is_empty() {
        let _ = fs::remove_dir(directory); // a group whose creation did not come to an end
        return Ok(None);
    }
    let Some(meta) = read_meta(directory) else {
        tracing::warn!(directory = %directory.display(), "directory is no log group's and is left alone");
        return Ok(None);
    };
    bytes += files.values().map(|(_, bytes)| bytes).sum::<u64>();
    Ok(Some((Group::new(directory.to_owned(), meta, files), bytes)))
}

/// What `group.json` says, or what can be known without it.
fn read_meta(directory: &Path) -> Option<Meta> {
    let directory_name = directory.file_name()?.to_str()?;
    let bytes = fs::read(directory.join(file::GROUP)).ok();
    let meta: Option<Meta> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // A damaged name must not make it another group.
    let fits = |meta: &Meta| {
        let rest = directory_name.strip_prefix(&name::directory(&meta.name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('~'))
    };
    if let Some(meta) = meta.filter(fits) {
        return Some(meta);
    }
    let name = name::group_of(directory_name)?;
    tracing::warn!(group = %name, "group.json is damaged; retention and tags of the group are lost");
    Some(Meta {
        name,
        created_ms: 0,
        retention_days: None,
        tags: BTreeMap::new(),
        kms_key_id: None,
        class: GroupClass::Standard,
    })
}

impl Shared {
    /// Syncs all groups.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let mut result = Ok(());
        for group in self.all_groups() {
            result = result.and(group.sync());
        }
        result
    }

    /// A group by its name.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Group>, LogError> {
        let groups = self
            .groups
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        groups.get(name).cloned().ok_or_else(|| LogError::NoGroup {
            group: name.to_owned(),
        })
    }

    /// Takes the note about lines that were dropped from a stream.
    pub(crate) fn take_note(&self, group: &str, stream: &str) -> Option<crate::shared::Note> {
        let mut notes = lock(&self.notes);
        match notes.is_empty() {
            true => None,
            false => notes.remove(&(group.to_owned(), stream.to_owned())),
        }
    }
}
