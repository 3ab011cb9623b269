//! Groups and streams: creating, deleting, listing.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    ops::Bound,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use crate::{
    error::LogError,
    file,
    group::{Group, Hindrance, Meta},
    group_info::{
        GroupInfo, GroupsQuery, Listing, Names, NewGroup, StreamInfo, StreamOrder, StreamsQuery,
    },
    name,
    query::Direction,
    shared::lock,
    streams::Stream,
};

use super::{GROUPS_MAX, LogStore, TAGS_MAX, open::DELETED};

/// The longest retention: a hundred years.
const RETENTION_DAYS_MAX: u32 = 36_500;

/// The longest key and value of a tag, in characters.
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

/// The longest name of a key.
const KMS_KEY_BYTES_MAX: usize = 256;

impl LogStore {
    /// Creates a group.
    ///
    /// # Errors
    /// [`LogError::GroupExists`], [`LogError::TooManyGroups`], [`LogError::Invalid`] for what cannot be so,
    /// [`LogError::DiskFull`], [`LogError::Io`].
    pub fn create_group(&self, new: &NewGroup) -> Result<(), LogError> {
        name::check_group(&new.name)?;
        check_retention(new.retention_days)?;
        check_tags(&new.tags)?;
        check_key(new.kms_key_id.as_deref())?;
        let shared = &self.inner.shared;
        shared.disk.check_free()?;
        let meta = Meta {
            name: new.name.clone(),
            created_ms: new.created_ms,
            retention_days: new.retention_days,
            tags: new.tags.clone(),
            kms_key_id: new.kms_key_id.clone(),
            class: new.class,
        };
        // Room is made without the lock over all groups, which that takes.
        let none = Arc::new(Group::new(
            self.inner.root.clone(),
            meta.clone(),
            BTreeMap::new(),
        ));
        self.retry(&none, || {
            let mut groups = shared
                .groups
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if groups.contains_key(&new.name) {
                return Err(Hindrance::Error(LogError::GroupExists {
                    group: new.name.clone(),
                }));
            }
            if groups.len() >= GROUPS_MAX {
                return Err(Hindrance::Error(LogError::TooManyGroups {
                    max: GROUPS_MAX,
                }));
            }
            let directory = self.make_directory(&new.name)?;
            let group = Group::new(directory.clone(), meta.clone(), BTreeMap::new());
            if let Err(hindrance) = group.write_meta(shared, &meta, true) {
                let _ = fs::remove_dir_all(&directory);
                return Err(hindrance);
            }
            file::sync_directory(&self.inner.root).map_err(LogError::io("sync the log store"))?;
            groups.insert(new.name.clone(), Arc::new(group));
            Ok(())
        })
    }

    fn make_directory(&self, group: &str) -> Result<std::path::PathBuf, LogError> {
        let name = name::directory(group);
        // Different long names may have the same; no more of them than there are groups.
        for number in 0..=GROUPS_MAX {
            let path = match number {
                0 => self.inner.root.join(&name),
                _ => self.inner.root.join(format!("{name}~{number}")),
            };
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                result => {
                    return result
                        .map(|()| path)
                        .map_err(LogError::io("create a log group's directory"));
                }
            }
        }
        Err(LogError::TooManyGroups { max: GROUPS_MAX })
    }

    /// Deletes a group with all its lines.
    ///
    /// # Errors
    /// [`LogError::NoGroup`]; [`LogError::Io`], when what is left goes when the store is opened next.
    pub fn delete_group(&self, group: &str) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let (group, moved, bytes) = {
            let mut groups = shared
                .groups
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(found) = groups.get(group).cloned() else {
                return Err(LogError::NoGroup {
                    group: group.to_owned(),
                });
            };
            let moved = loop {
                let number = self.inner.deleted.fetch_add(1, Relaxed);
                let moved = self.inner.root.join(format!("{DELETED}{number}"));
                if !moved.exists() {
                    break moved;
                }
            };
            let about =
                fs::metadata(found.directory.join(file::GROUP)).map_or(0, |meta| meta.len());
            fs::rename(&found.directory, &moved).map_err(LogError::io("remove a log group"))?;
            let bytes = about + found.mark_deleted();
            groups.remove(group);
            (found, moved, bytes)
        };
        lock(&shared.notes).retain(|(name, _), _| *name != group.name);
        let removed = fs::remove_dir_all(&moved);
        // Counted until it is gone.
        shared.disk.release(&group.bytes, bytes);
        removed
            .and_then(|()| file::sync_directory(&self.inner.root))
            .map_err(LogError::io("remove a log group"))
    }

    /// What there is to say about a group.
    ///
    /// # Errors
    /// [`LogError::NoGroup`].
    pub fn group(&self, group: &str) -> Result<GroupInfo, LogError> {
        self.find(group).map(|group| info(&group))
    }

    /// Lists groups in the order of their names.
    #[must_use]
    pub fn groups(&self, query: &GroupsQuery) -> Listing<GroupInfo> {
        let groups = self
            .inner
            .shared
            .groups
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted: Box<dyn Fn(&str) -> bool> = match &query.names {
            Names::All => Box::new(|_| true),
            Names::Prefix(prefix) => Box::new(move |name| name.starts_with(prefix.as_str())),
            Names::Contains(part) => {
                let part = part.to_lowercase();
                Box::new(move |name| name.to_lowercase().contains(&part))
            }
        };
        let from = query
            .after
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = groups
            .range::<str, _>((from, Bound::Unbounded))
            .filter(|(name, _)| wanted(name))
            .map(|(_, group)| info(group));
        let items = found.by_ref().take(query.limit.max(1)).collect();
        Listing {
            items,
            more: found.next().is_some(),
        }
    }

    /// Keeps a group's lines for so many days.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::Invalid`] for 0 or more than a hundred years,
    /// [`LogError::DiskFull`], [`LogError::Io`].
    pub fn put_retention(&self, group: &str, days: u32) -> Result<(), LogError> {
        check_retention(Some(days))?;
        self.change(group, |meta| {
            meta.retention_days = Some(days);
            Ok(())
        })
    }

    /// Keeps a group's lines for ever.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::DiskFull`], [`LogError::Io`].
    pub fn delete_retention(&self, group: &str) -> Result<(), LogError> {
        self.change(group, |meta| {
            meta.retention_days = None;
            Ok(())
        })
    }

    /// Sets or removes the key that a group says it has.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::Invalid`], [`LogError::DiskFull`], [`LogError::Io`].
    pub fn set_kms_key(&self, group: &str, key: Option<&str>) -> Result<(), LogError> {
        check_key(key)?;
        self.change(group, |meta| {
            meta.kms_key_id = key.map(str::to_owned);
            Ok(())
        })
    }

    /// The tags of a group.
    ///
    /// # Errors
    /// [`LogError::NoGroup`].
    pub fn tags(&self, group: &str) -> Result<BTreeMap<String, String>, LogError> {
        self.group(group).map(|group| group.tags)
    }

    /// Adds tags, or changes those of the same keys.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::Invalid`] for too many or too long ones, [`LogError::DiskFull`],
    /// [`LogError::Io`].
    pub fn set_tags(&self, group: &str, tags: &BTreeMap<String, String>) -> Result<(), LogError> {
        self.change(group, |meta| {
            let more = tags.iter().map(|(key, value)| (key.clone(), value.clone()));
            meta.tags.extend(more);
            check_tags(&meta.tags)
        })
    }

    /// Removes tags; those that are not there are no error.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::DiskFull`], [`LogError::Io`].
    pub fn remove_tags(&self, group: &str, keys: &[String]) -> Result<(), LogError> {
        self.change(group, |meta| {
            meta.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
    }

    fn change(
        &self,
        group: &str,
        change: impl Fn(&mut Meta) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let group = self.find(group)?;
        self.retry(&group, || {
            let mut meta = lock(&group.meta);
            let mut new = meta.clone();
            change(&mut new)?;
            group.write_meta(&self.inner.shared, &new, false)?;
            *meta = new;
            Ok(())
        })
    }

    /// What there is to say about a stream.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::NoStream`], and of the disk when the group is first read.
    pub fn stream(&self, group: &str, stream: &str) -> Result<StreamInfo, LogError> {
        let group = self.find(group)?;
        group.with(&self.inner.shared, |open| {
            match open.table.streams.get_key_value(stream) {
                Some((name, stream)) => Ok(stream_info(name, stream)),
                None => Err(LogError::NoStream {
                    group: group.name.clone(),
                    stream: stream.to_owned(),
                }),
            }
        })
    }

    /// Lists streams.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], and of the disk when the group is first read.
    pub fn streams(
        &self,
        group: &str,
        query: &StreamsQuery,
    ) -> Result<Listing<StreamInfo>, LogError> {
        let group = self.find(group)?;
        group.with(&self.inner.shared, |open| {
            let prefix = query.prefix.as_deref().unwrap_or_default();
            let streams = &open.table.streams;
            let place = |name: &str, stream: &Stream| match query.order {
                StreamOrder::Name => (None, name.to_owned()),
                StreamOrder::LastEvent => (stream.times.map(|(_, last)| last), name.to_owned()),
            };
            // One that was deleted meanwhile is where one without events is.
            let after = query.after.as_deref().map(|name| {
                streams
                    .get(name)
                    .map_or((None, name.to_owned()), |stream| place(name, stream))
            });
            let mut found: Vec<_> = streams
                .iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(name, stream)| (place(name, stream), name, stream))
                .filter(|(place, _, _)| match (&after, query.direction) {
                    (None, _) => true,
                    (Some(after), Direction::Forward) => place > after,
                    (Some(after), Direction::Backward) => place < after,
                })
                .collect();
            found.sort_unstable_by(|a, b| match query.direction {
                Direction::Forward => a.0.cmp(&b.0),
                Direction::Backward => b.0.cmp(&a.0),
            });
            let limit = query.limit.max(1);
            Ok(Listing {
                more: found.len() > limit,
                items: found
                    .into_iter()
                    .take(limit)
                    .map(|(_, name, stream)| stream_info(name, stream))
                    .collect(),
            })
        })
    }
}

fn info(group: &Group) -> GroupInfo {
    let meta = lock(&group.meta);
    GroupInfo {
        name: meta.name.clone(),
        created_ms: meta.created_ms,
        retention_days: meta.retention_days,
        tags: meta.tags.clone(),
        kms_key_id: meta.kms_key_id.clone(),
        class: meta.class,
        stored_bytes: group.bytes.load(Relaxed),
    }
}

fn stream_info(name: &str, stream: &Stream) -> StreamInfo {
    StreamInfo {
        name: name.to_owned(),
        created_ms: stream.created_ms,
        first_event_ms: stream.times.map(|(first, _)| first),
        last_event_ms: stream.times.map(|(_, last)| last),
        last_ingestion_ms: stream.last.map(|(at, _)| at),
        last_sequence: stream.last.map(|(_, sequence)| sequence),
        stored_bytes: stream.bytes,
    }
}

fn check_retention(days: Option<u32>) -> Result<(), LogError> {
    match days {
        Some(days) if !(1..=RETENTION_DAYS_MAX).contains(&days) => Err(LogError::Invalid {
            message: format!("logs cannot be kept for {days} days; give 1 to {RETENTION_DAYS_MAX}"),
        }),
        _ => Ok(()),
    }
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), LogError> {
    let long = |(key, value): (&String, &String)| {
        key.is_empty() || key.chars().count() > TAG_KEY_MAX || value.chars().count() > TAG_VALUE_MAX
    };
    if tags.len() > TAGS_MAX || tags.iter().any(long) {
        return Err(LogError::Invalid {
            message: format!(
                "a log group has up to {TAGS_MAX} tags, with keys of 1 to {TAG_KEY_MAX} characters and \
                 values of up to {TAG_VALUE_MAX}; remove or shorten some"
            ),
        });
    }
    Ok(())
}

fn check_key(key: Option<&str>) -> Result<(), LogError> {
    match key {
        Some(key) if !(1..=KMS_KEY_BYTES_MAX).contains(&key.len()) => Err(LogError::Invalid {
            message: format!(
                "a key's name has 1 to {KMS_KEY_BYTES_MAX} bytes, this one {}",
                key.len()
            ),
        }),
        _ => Ok(()),
    }
}
