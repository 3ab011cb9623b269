//! Cgroups: what an instance may use, what it has used, and who is in it.
//!
//! Detected, not configured: the unified hierarchy (v2) where it holds the memory controller, else
//! the controllers of v1 wherever they are mounted, as on hybrid hosts. Each instance has the group
//! `ekiden-<name>/<instance>`; shims are in `ekiden-<name>/shims`, so that neither the memory limit
//! of an instance nor a service manager that stops Ekiden's own group takes them along.
//!
//! Only files under the group's own directories are written. Sources: the kernel's
//! `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`.

mod activity;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ekiden_model::{
    id::InstanceId,
    instance::{Activity, Limits},
};
use serde::{Deserialize, Serialize};

use self::activity::{cfs_quota, cpu_max};

/// One period of the CPU quota, in microseconds: the kernel's default, which Docker keeps too.
const CPU_PERIOD_US: u64 = 100_000;

/// The kernel refuses a quota below this, in microseconds (`min_cfs_quota_period`).
const CPU_QUOTA_US_MIN: u64 = 1_000;

/// How often the removal of a group that still holds a dying process is tried again, and how long
/// between: two seconds in all.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// The group of the shims, beside those of the instances.
const SHIMS: &str = "shims";

/// The controllers that limit an instance; v1 may have each in a hierarchy of its own.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "pids", "cpuacct"];

/// Names of hierarchies in `/proc/self/cgroup` (cgroups(7)): the unified one, and systemd's own.
const UNIFIED: &str = "";
const SYSTEMD: &str = "name=systemd";

/// Why cgroups cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A controller is nowhere mounted.
    #[error(
        "the `{controller}` cgroup controller is not mounted: mount cgroup2 on /sys/fs/cgroup, or enable the controller on the kernel's command line"
    )]
    Missing {
        /// Which.
        controller: &'static str,
    },
    /// A file of the hierarchy could not be read or written.
    #[error("cannot access cgroup file `{}`", path.display())]
    Access {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The host's cgroups, and the part of them that is this Ekiden's.
#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    Unified {
        mount: PathBuf,
    },
    Legacy {
        controllers: Vec<(&'static str, PathBuf)>,
        /// Hierarchies that limit nothing but by which a service manager knows its processes, named as
        /// in `/proc/self/cgroup`.
        trackers: Vec<(&'static str, PathBuf)>,
    },
}

/// One instance's group: plain paths, so that its shim needs to detect nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    unified: bool,
    /// The directory that counts memory comes first; on v2 there is no other.
    directories: Vec<PathBuf>,
    cpuacct: PathBuf,
    /// Where its processes are born (`CLONE_INTO_CGROUP`) and can be frozen: in the unified
    /// hierarchy, which a host with v1 controllers may have beside them.
    birthplace: Option<PathBuf>,
}

/// The group of the shims, in each hierarchy by its name in `/proc/self/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimGroup {
    places: Vec<(String, PathBuf)>,
}

/// What a group has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time since the group was made, in microseconds.
    pub cpu_micros: u64,
    /// Memory charged now, page cache included.
    pub memory_bytes: u64,
    /// How much of it the kernel could drop at once: files that nobody has read lately.
    pub droppable_bytes: u64,
}

impl Cgroups {
    /// Looks for the hierarchies of this host. `name` tells several Ekidens apart.
    ///
    /// # Errors
    /// [`CgroupError::Missing`] when a controller that limits instances is nowhere mounted.
    pub fn detect(name: &str) -> Result<Self, CgroupError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let mounts =
            fs::read_to_string(&path).map_err(|source| CgroupError::Access { path, source })?;
        let hierarchy = Hierarchy::of(&mounts, |mount| {
            fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        })?;
        Ok(Self {
            hierarchy,
            name: format!("ekiden-{name}"),
        })
    }

    /// How the host has them, for people.
    pub fn describe(&self) -> &'static str {
        match self.hierarchy {
            Hierarchy::Unified { .. } => "cgroup v2",
            Hierarchy::Legacy { .. } => "cgroup v1 or hybrid",
        }
    }

    /// Makes the parent group and the shims' group. Blocks. Idempotent.
    ///
    /// # Errors
    /// When the hierarchy is not ours to write.
    pub fn prepare(&self) -> Result<(), CgroupError> {
        if let Hierarchy::Unified { mount } = &self.hierarchy {
            make(&mount.join(&self.name))?;
            // "Top-down Constraint": a group has the controllers its parent hands down. The shims'
            // and the instances' groups are leaves, so no group here holds both processes and
            // controllers, as "No Internal Process Constraint" wants.
            for parent in [mount.clone(), mount.join(&self.name)] {
                write(&parent.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
            }
        }
        for (_, place) in &self.shims().places {
            place.parent().map_or(Ok(()), make)?;
            make(place)?;
        }
        Ok(())
    }

    /// The group of an instance, whether it exists or not.
    pub fn group(&self, instance: InstanceId) -> Group {
        self.group_named(&instance.to_string())
    }

    /// The shims' group.
    pub(crate) fn shims(&self) -> ShimGroup {
        let place =
            |name: &str, mount: &Path| (name.to_owned(), mount.join(&self.name).join(SHIMS));
        let places = match &self.hierarchy {
            Hierarchy::Unified { mount } => vec![place(UNIFIED, mount)],
            Hierarchy::Legacy {
                controllers,
                trackers,
            } => controllers
                .iter()
                .chain(trackers)
                .map(|(name, mount)| place(name, mount))
                .collect(),
        };
        ShimGroup { places }
    }

    /// The instances that have a group in any hierarchy. Blocks.
    pub fn list(&self) -> Vec<InstanceId> {
        let unified = match &self.hierarchy {
            Hierarchy::Unified { .. } => None,
            Hierarchy::Legacy { trackers, .. } => {
                trackers.iter().find(|(tracker, _)| *tracker == UNIFIED)
            }
        };
        let mut roots = self.roots();
        roots.extend(unified.map(|(_, mount)| mount.clone()));
        let mut found: Vec<InstanceId> = roots
            .iter()
            .filter_map(|root| fs::read_dir(root.join(&self.name)).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes everything [`Self::prepare`] made, once the instances' groups are gone. Blocks.
    ///
    /// # Errors
    /// When a group still holds a process after two seconds.
    pub fn remove_all(&self) -> Result<(), CgroupError> {
        for (_, place) in self.shims().places {
            retry(|| remove_directory(&place))?;
            place.parent().map_or(Ok(()), remove_directory)?;
        }
        Ok(())
    }

    fn group_named(&self, group: &str) -> Group {
        let below = |mount: &Path| mount.join(&self.name).join(group);
        match &self.hierarchy {
            Hierarchy::Unified { mount } => Group {
                unified: true,
                directories: vec![below(mount)],
                cpuacct: below(mount),
                birthplace: Some(below(mount)),
            },
            Hierarchy::Legacy {
                controllers,
                trackers,
            } => Group {
                unified: false,
                directories: self.roots().iter().map(|root| below(root)).collect(),
                cpuacct: controllers
                    .iter()
                    .find(|(controller, _)| *controller == "cpuacct")
                    .map(|(_, mount)| below(mount))
                    .unwrap_or_default(),
                birthplace: trackers
                    .iter()
                    .find(|(tracker, _)| *tracker == UNIFIED)
                    .map(|(_, mount)| below(mount)),
            },
        }
    }

    /// The mount points, each once: v1 controllers may share one.
    fn roots(&self) -> Vec<PathBuf> {
        match &self.hierarchy {
            Hierarchy::Unified { mount } => vec![mount.clone()],
            Hierarchy::Legacy { controllers, .. } => {
                let mut roots: Vec<PathBuf> = Vec::new();
                for (_, mount) in controllers {
                    if !roots.contains(mount) {
                        roots.push(mount.clone());
                    }
                }
                roots
            }
        }
    }
}

impl Hierarchy {
    /// Reads proc_pid_mountinfo(5): `... mount-point options [optional] - type source super-options`.
    fn of(mounts: &str, controllers_of: impl Fn(&Path) -> String) -> Result<Self, CgroupError> {
        let mut legacy: Vec<(&'static str, PathBuf)> = Vec::new();
        let mut trackers = Vec::new();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup2") if has_all(&controllers_of(&mount)) => {
                    return Ok(Self::Unified { mount });
                }
                Some("cgroup2") => trackers.push((UNIFIED, mount)),
                Some("cgroup") if options.split(',').any(|option| option == SYSTEMD) => {
                    trackers.push((SYSTEMD, mount));
                }
                Some("cgroup") => {
                    for controller in CONTROLLERS {
                        let known = legacy.iter().any(|(name, _)| *name == controller);
                        if !known && options.split(',').any(|option| option == controller) {
                            legacy.push((controller, mount.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        // Memory first: `Group` relies on it.
        legacy.sort_by_key(|(name, _)| CONTROLLERS.iter().position(|known| known == name));
        match CONTROLLERS
            .iter()
            .find(|wanted| legacy.iter().all(|(name, _)| name != *wanted))
        {
            Some(controller) => Err(CgroupError::Missing { controller }),
            None => Ok(Self::Legacy {
                controllers: legacy,
                trackers,
            }),
        }
    }
}

fn has_all(controllers: &str) -> bool {
    ["memory", "cpu", "pids"]
        .iter()
        .all(|wanted| controllers.split_whitespace().any(|name| name == *wanted))
}

impl Group {
    /// Makes the group with its limits, for an instance that starts. Blocks. Idempotent.
    ///
    /// # Errors
    /// When a limit could not be set: an instance never runs without one.
    pub fn create(&self, limits: &Limits) -> Result<(), CgroupError> {
        for directory in self.all_directories() {
            make(directory)?;
        }
        for (directory, file, value, needed) in self.settings(limits) {
            match write(&directory.join(file), &value) {
                Err(error) if needed => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is written where, in order: directory, file, value, and whether it must succeed.
    fn settings(&self, limits: &Limits) -> Vec<(&Path, &'static str, String, bool)> {
        let memory = limits.memory_bytes.to_string();
        let pids = limits.pids_max.to_string();
        if self.unified {
            let all = self.directories[0].as_path();
            return vec![
                (all, "memory.max", memory, true),
                // Swap hides a leak and makes neighbours slow; absent where swap accounting is off.
                (all, "memory.swap.max", "0".to_owned(), false),
                // A half-dead application helps nobody: all of it goes, and the engine says why.
                (all, "memory.oom.group", "1".to_owned(), false),
                (all, "cpu.max", cpu_max(limits, Activity::Boosted), true),
                (all, "pids.max", pids, true),
            ];
        }
        let with = |file: &'static str, value: String, needed| {
            // Each file exists in the hierarchy of its controller only, wherever that is mounted.
            self.directories
                .iter()
                .find(|directory| directory.join(file).exists())
                .or(self.directories.first().filter(|_| needed))
                .map(|directory| (directory.as_path(), file, value, needed))
        };
        [
            with("memory.limit_in_bytes", memory.clone(), true),
            with("memory.memsw.limit_in_bytes", memory, false),
            with("memory.swappiness", "0".to_owned(), false),
            with("cpu.cfs_period_us", CPU_PERIOD_US.to_string(), true),
            with(
                "cpu.cfs_quota_us",
                cfs_quota(limits, Activity::Boosted),
                true,
            ),
            with("pids.max", pids, true),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Every directory it has.
    fn all_directories(&self) -> impl Iterator<Item = &PathBuf> {
        let birthplace = self.birthplace.iter().filter(|_| !self.unified);
        self.directories.iter().chain(birthplace)
    }

    /// The directory a process can be born in (`CLONE_INTO_CGROUP`).
    pub(crate) fn birthplace(&self) -> Option<&Path> {
        self.birthplace.as_deref()
    }

    /// The v1 hierarchies, named by their controllers, that a container sees of itself.
    pub(crate) fn legacy_hierarchies(&self) -> Vec<String> {
        if self.unified {
            return Vec::new();
        }
        // `<mount>/ekiden-<name>/<instance>`, where mounts are named for their controllers.
        let mounts = self
            .directories
            .iter()
            .filter_map(|directory| directory.ancestors().nth(2));
        mounts
            .filter_map(|mount| Some(mount.file_name()?.to_str()?.to_owned()))
            .collect()
    }

    /// Opens the way into the group for a process that is not born in it (v1): whoever has it can
    /// join later, when the directories can no longer be seen. Empty on v2.
    ///
    /// # Errors
    /// When the group is gone.
    pub(crate) fn open_entrances(&self) -> Result<Vec<Entrance>, CgroupError> {
        match self.unified {
            true => Ok(Vec::new()),
            false => self
                .directories
                .iter()
                .map(|directory| Entrance::open(directory))
                .collect(),
        }
    }

    /// How many of its processes the kernel has killed for want of memory.
    ///
    /// `oom_kill` of `memory.events` on v2 and of `memory.oom_control` (since Linux 4.13) on v1.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(self.directories[0].join(file)).unwrap_or_default();
        field(&text, "oom_kill").unwrap_or(0)
    }

    /// What the group has used; zeros once it is gone.
    pub fn usage(&self) -> Usage {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        if self.unified {
            let directory = &self.directories[0];
            return Usage {
                cpu_micros: field(&read(directory.join("cpu.stat")), "usage_usec").unwrap_or(0),
                memory_bytes: read(directory.join("memory.current"))
                    .trim()
                    .parse()
                    .unwrap_or(0),
                droppable_bytes: field(&read(directory.join("memory.stat")), "inactive_file")
                    .unwrap_or(0),
            };
        }
        let nanos: u64 = read(self.cpuacct.join("cpuacct.usage"))
            .trim()
            .parse()
            .unwrap_or(0);
        let memory = read(self.directories[0].join("memory.usage_in_bytes"));
        Usage {
            cpu_micros: nanos / 1000,
            memory_bytes: memory.trim().parse().unwrap_or(0),
            droppable_bytes: field(
                &read(self.directories[0].join("memory.stat")),
                "total_inactive_file",
            )
            .unwrap_or(0),
        }
    }

    /// Kills every process in the group, and what they fork meanwhile as far as one pass sees it.
    pub(crate) fn kill(&self) {
        if let Some(place) = &self.birthplace
            && write(&place.join("cgroup.kill"), "1").is_ok()
            && self.unified
        {
            return; // Linux 5.14; atomic against fork, and it reaches the frozen
        }
        self.signal(rustix::process::Signal::KILL);
    }

    /// Sends a signal to every process in it. One that forks meanwhile may be missed.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let directories = self.all_directories();
        let mut members: Vec<i32> = directories
            .flat_map(|directory| {
                let members = fs::read_to_string(directory.join("cgroup.procs"));
                let members = members.unwrap_or_default();
                let pids = members.lines().filter_map(|line| line.parse().ok());
                pids.collect::<Vec<_>>()
            })
            .collect();
        members.sort_unstable();
        members.dedup();
        for pid in members {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // Already gone is as good.
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// Kills what is left and removes the group. Blocks, at most about two seconds. Idempotent.
    ///
    /// # Errors
    /// When it still holds a process after that.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if self
            .all_directories()
            .all(|directory| fs::remove_dir(directory).is_ok())
        {
            return Ok(());
        }
        self.kill();
        for directory in self.all_directories() {
            retry(|| remove_directory(directory).inspect_err(|_| self.kill()))?;
        }
        Ok(())
    }
}

/// A way into one v1 group, for a thread to take by itself.
///
/// A thread that moves itself, by writing 0 to `tasks`, takes no lock that other processes' forks and
/// exits take (kernel, `cgroup_procs_write_start`). Moving a process by its id does, and then waits
/// for a grace period of RCU: 10 to 20 ms on an idle machine, in which nobody forks. So only
/// processes of one thread can be moved so, and those are all we move.
#[derive(Debug)]
pub(crate) struct Entrance {
    tasks: fs::File,
    path: PathBuf,
}

impl Entrance {
    fn open(directory: &Path) -> Result<Self, CgroupError> {
        let path = directory.join("tasks");
        match fs::OpenOptions::new().write(true).open(&path) {
            Ok(tasks) => Ok(Self { tasks, path }),
            Err(source) => Err(CgroupError::Access { path, source }),
        }
    }

    /// Moves the calling thread, which must be its process's only one, into the group.
    ///
    /// # Errors
    /// When the kernel refuses, `ENODEV` if the group is gone.
    pub(crate) fn enter(&self) -> Result<(), CgroupError> {
        (&self.tasks)
            .write_all(b"0")
            .map_err(|source| CgroupError::Access {
                path: self.path.clone(),
                source,
            })
    }
}

impl ShimGroup {
    /// Moves the calling process, which must have one thread, here from every group it was born in,
    /// so that stopping that group leaves it alone. Where it is in the root already it stays. Best
    /// effort.
    pub(crate) fn take_this_process(&self) {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for (name, place) in self.to_join(&groups) {
            let _ = move_here(name, place);
        }
    }

    /// Does the same for the container that calls it on v1, in the service manager's hierarchy: it has
    /// groups of its own in the others. Best effort.
    pub(crate) fn take_container(&self) {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for (name, place) in self.to_join(&groups) {
            if name == SYSTEMD {
                let _ = move_here(name, place);
            }
        }
    }

    fn to_join(&self, groups: &str) -> Vec<(&str, &Path)> {
        // `number:name,name:path`
        let elsewhere = groups.lines().filter_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            (path != "/").then_some(names)
        });
        let place = |names: &str| {
            let is_named = |(name, _): &&(String, PathBuf)| names.split(',').any(|one| one == name);
            self.places.iter().find(is_named)
        };
        elsewhere
            .filter_map(place)
            .map(|(name, place)| (name.as_str(), place.as_path()))
            .collect()
    }
}

/// v2 moves single threads only where that was allowed before ("Threads", cgroup-v2.rst).
fn move_here(hierarchy: &str, place: &Path) -> Result<(), CgroupError> {
    match hierarchy {
        UNIFIED => write(&place.join("cgroup.procs"), "0"),
        _ => Entrance::open(place)?.enter(),
    }
}

fn remove_directory(directory: &Path) -> Result<(), CgroupError> {
    match fs::remove_dir(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CgroupError::Access {
            path: directory.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// A killed process stays in its group until it is reaped, so removal is tried again.
fn retry(mut remove: impl FnMut() -> Result<(), CgroupError>) -> Result<(), CgroupError> {
    for _ in 0..REMOVE_TRIES {
        if remove().is_ok() {
            return Ok(());
        }
        thread::sleep(REMOVE_PAUSE);
    }
    remove()
}

fn make(directory: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::Access {
            path: directory.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// One `write(2)`, without `O_CREAT`: cgroup files take a value at a time and cannot be made.
fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let mut open = fs::OpenOptions::new();
    open.write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|source| CgroupError::Access {
            path: path.to_owned(),
            source,
        })
}

/// The number after `name ` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        cpu_millis: 250,
        memory_bytes: 64 << 20,
        pids_max: 32,
        disk_bytes: 0,
    };

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn unified_hierarchy_is_taken_only_with_its_controllers() {
        let unified = Hierarchy::of("24 23 0:5 / /cg rw shared:4 - cgroup2 none rw", |_| {
            "cpuset cpu io memory pids".to_owned()
        });
        assert_eq!(
            unified.unwrap(),
            Hierarchy::Unified {
                mount: "/cg".into()
            }
        );
        let hybrid = Hierarchy::of(HYBRID, |_| "hugetlb".to_owned()).unwrap();
        let Hierarchy::Legacy {
            controllers,
            trackers,
        } = hybrid
        else {
            panic!("hybrid is not unified")
        };
        assert_eq!(controllers[0], ("memory", "/sys/fs/cgroup/memory".into()));
        assert_eq!(trackers, [(UNIFIED, "/sys/fs/cgroup/unified".into())]);
        assert_eq!(
            controllers[3],
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct".into())
        );
    }

    #[test]
    fn missing_controller_is_named() {
        let without_memory = HYBRID.replace("memory", "blkio");
        let error = Hierarchy::of(&without_memory, |_| String::new()).unwrap_err();
        assert!(error.to_string().contains("`memory`"), "{error}");
    }

    /// A directory with the files a kernel would have put there.
    fn fake(root: &Path, directory: &str, files: &[&str]) {
        fs::create_dir_all(root.join(directory)).unwrap();
        for file in files {
            fs::write(root.join(directory).join(file), "").unwrap();
        }
    }

    fn read(root: &Path, file: &str) -> String {
        fs::read_to_string(root.join(file)).unwrap()
    }

    #[test]
    fn limits_are_written_as_v2_has_them() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = Cgroups {
            hierarchy: Hierarchy::Unified {
                mount: root.path().into(),
            },
            name: "ekiden-t".to_owned(),
        };
        fake(root.path(), ".", &["cgroup.subtree_control"]);
        fake(root.path(), "ekiden-t", &["cgroup.subtree_control"]);
        cgroups.prepare().unwrap();
        assert_eq!(
            read(root.path(), "cgroup.subtree_control"),
            "+cpu +memory +pids"
        );
        let id = InstanceId::from_bytes([1; 16]);
        let group = cgroups.group(id);
        let path = format!("ekiden-t/{id}");
        fake(
            root.path(),
            &path,
            &[
                "memory.max",
                "cpu.max",
                "pids.max",
                "memory.events",
                "cgroup.freeze",
            ],
        );
        group.create(&LIMITS).unwrap();
        assert_eq!(read(root.path(), &format!("{path}/memory.max")), "67108864");
        assert_eq!(read(root.path(), &format!("{path}/cpu.max")), "max 100000");
        assert_eq!(read(root.path(), &format!("{path}/pids.max")), "32");
        fs::write(
            root.path().join(&path).join("memory.events"),
            "oom 3\noom_kill 2\n",
        )
        .unwrap();
        assert_eq!(group.oom_kills(), 2);
        assert_eq!(group.activity(&LIMITS), Activity::Boosted);
        for (activity, quota, frozen) in ACTIVITIES {
            // The kernel takes a value whole; a file of a fake keeps what was longer.
            fs::write(root.path().join(format!("{path}/cpu.max")), "").unwrap();
            group.set_activity(&LIMITS, activity).unwrap();
            let quota = quota.replace("-1", "max");
            assert_eq!(
                read(root.path(), &format!("{path}/cpu.max")),
                format!("{quota} 100000")
            );
            assert_eq!(read(root.path(), &format!("{path}/cgroup.freeze")), frozen);
            assert_eq!(group.activity(&LIMITS), activity);
        }
        assert_eq!(cgroups.list(), [id]);
    }

    #[test]
    fn limits_are_written_as_v1_has_them() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let controllers = vec![
            ("memory", at("memory")),
            ("cpu", at("cpu")),
            ("pids", at("pids")),
            ("cpuacct", at("cpu")),
        ];
        let cgroups = Cgroups {
            hierarchy: Hierarchy::Legacy {
                controllers,
                trackers: vec![(UNIFIED, at("unified"))],
            },
            name: "ekiden-t".to_owned(),
        };
        let id = InstanceId::from_bytes([1; 16]);
        for (controller, files) in [
            (
                "memory",
                &["memory.limit_in_bytes", "memory.oom_control"][..],
            ),
            ("cpu", &["cpu.cfs_quota_us", "cpu.cfs_period_us"]),
            ("unified", &["cgroup.freeze"]),
            ("pids", &["pids.max"]),
        ] {
            fake(root.path(), &format!("{controller}/ekiden-t/{id}"), files);
        }
        let group = cgroups.group(id);
        group.create(&LIMITS).unwrap();
        let file = |path: &str| read(root.path(), &path.replace('*', &format!("ekiden-t/{id}")));
        assert_eq!(file("memory/*/memory.limit_in_bytes"), "67108864");
        assert_eq!(file("cpu/*/cpu.cfs_quota_us"), "-1");
        assert_eq!(group.activity(&LIMITS), Activity::Boosted);
        for (activity, quota, frozen) in ACTIVITIES {
            let quota_file = at("cpu").join(format!("ekiden-t/{id}/cpu.cfs_quota_us"));
            fs::write(quota_file, "").unwrap();
            group.set_activity(&LIMITS, activity).unwrap();
            assert_eq!(file("cpu/*/cpu.cfs_quota_us"), quota);
            assert_eq!(file("unified/*/cgroup.freeze"), frozen);
            assert_eq!(group.activity(&LIMITS), activity);
        }
        assert_eq!(file("pids/*/pids.max"), "32");
        fs::write(
            at("memory").join(format!("ekiden-t/{id}/memory.oom_control")),
            "oom_kill 1\n",
        )
        .unwrap();
        assert_eq!(group.oom_kills(), 1);
    }

    /// Each with the quota of a quarter of a CPU and with the freezer's word.
    const ACTIVITIES: [(Activity, &str, &str); 4] = [
        (Activity::Throttled, "5000", "0"),
        (Activity::Frozen, "5000", "1"),
        (Activity::Active, "25000", "0"),
        (Activity::Boosted, "-1", "0"),
    ];

    #[test]
    fn group_that_cannot_be_limited_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = Cgroups {
            hierarchy: Hierarchy::Unified {
                mount: root.path().into(),
            },
            name: "ekiden-t".to_owned(),
        };
        fs::create_dir(root.path().join("ekiden-t")).unwrap();
        assert!(
            cgroups
                .group(InstanceId::from_bytes([1; 16]))
                .create(&LIMITS)
                .is_err()
        );
    }

    #[test]
    fn shims_leave_only_groups_that_are_not_the_root() {
        let place = |name: &str| (name.to_owned(), PathBuf::from("/cg").join(name));
        let shims = ShimGroup {
            places: vec![place("memory"), place("cpu"), place(SYSTEMD), place("")],
        };
        let groups =
            "4:memory:/a\n3:cpu,cpuacct:/\n2:devices:/b\n1:name=systemd:/system.slice/x\n0::/y\n";
        let want = [
            ("memory", Path::new("/cg/memory")),
            (SYSTEMD, Path::new("/cg/name=systemd")),
            (UNIFIED, Path::new("/cg/")),
        ];
        assert_eq!(shims.to_join(groups), want);
    }
}
