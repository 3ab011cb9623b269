//! How much an instance's processes may do: as much as there is while they start, what the limits say, next
//! to nothing, nothing at all. It is in the group's files and nowhere else.

use std::{fs, path::PathBuf};

use ekiden_model::instance::{Activity, Limits};

use super::{CPU_PERIOD_US, CPU_QUOTA_US_MIN, CgroupError, Group, write};

/// The quota of an instance that is throttled, in microseconds: a twentieth of a CPU, enough to answer
/// its health check.
const CPU_QUOTA_US_THROTTLED: u64 = 5_000;

/// Freezes a group (Linux 5.2, "cgroup.freeze", cgroup-v2.rst): 1 or 0.
const FREEZE: &str = "cgroup.freeze";

/// How much of a frozen instance's memory is asked for at a time, and how often: in between it is seen
/// whether it was thawed.
const RECLAIM_BYTES: u64 = 16 << 20;
const RECLAIMS_MAX: u32 = 256;

impl Group {
    /// Says how much its processes may do. Blocks for a moment. A host without a unified hierarchy
    /// cannot freeze; then they are throttled.
    ///
    /// # Errors
    /// When the group is gone or a file of it cannot be written.
    pub(crate) fn set_activity(
        &self,
        limits: &Limits,
        activity: Activity,
    ) -> Result<(), CgroupError> {
        // The CPU first: whoever is thawed runs at once.
        match self.cfs_quota_file() {
            None => write(
                &self.directories[0].join("cpu.max"),
                &cpu_max(limits, activity),
            )?,
            Some(file) => write(&file, &cfs_quota(limits, activity))?,
        }
        let Some(freeze) = self.birthplace.as_ref().map(|place| place.join(FREEZE)) else {
            return Ok(());
        };
        if !freeze.exists() {
            return Ok(()); // it was started by a release that froze nobody
        }
        if activity != Activity::Frozen {
            self.set_swap(false);
        }
        let frozen = if activity == Activity::Frozen {
            "1"
        } else {
            "0"
        };
        write(&freeze, frozen)
    }

    /// How much its processes may do now, as its files say.
    pub(crate) fn activity(&self, limits: &Limits) -> Activity {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let freeze = self
            .birthplace
            .as_ref()
            .map(|place| read(place.join(FREEZE)));
        if freeze.is_some_and(|freeze| freeze.trim() == "1") {
            return Activity::Frozen;
        }
        let (now, as_written): (String, fn(&Limits, Activity) -> String) =
            match self.cfs_quota_file() {
                None => (read(self.directories[0].join("cpu.max")), cpu_max),
                Some(file) => (read(file), cfs_quota),
            };
        [Activity::Active, Activity::Throttled, Activity::Boosted]
            .into_iter()
            .find(|activity| as_written(limits, *activity) == now.trim())
            .unwrap_or_default()
    }

    /// Gives the memory of frozen processes back: what is in files at once, the rest to swap where
    /// there is some. Blocks for as long as that takes, or until they are thawed.
    pub(crate) fn reclaim(&self) {
        let Some(freeze) = self.birthplace.as_ref().map(|place| place.join(FREEZE)) else {
            return;
        };
        let is_frozen = || fs::read_to_string(&freeze).is_ok_and(|frozen| frozen.trim() == "1");
        if !has_swap() || !is_frozen() {
            return; // without swap it would only lose the program itself, and read it again
        }
        self.set_swap(true);
        let memory = &self.directories[0];
        for _ in 0..RECLAIMS_MAX {
            let before = self.usage().memory_bytes;
            // Linux 5.19 ("memory.reclaim", cgroup-v2.rst). It ends with an error when less could be had.
            let _ = match self.unified {
                true => write(&memory.join("memory.reclaim"), &RECLAIM_BYTES.to_string()),
                false => write(&memory.join("memory.force_empty"), "0"),
            };
            if self.usage().memory_bytes >= before || !is_frozen() {
                break;
            }
        }
        if !is_frozen() {
            self.set_swap(false);
        }
    }

    /// Whether its memory may be swapped out: only as long as it is frozen. What has been stays there
    /// until it is used. Best effort.
    fn set_swap(&self, allowed: bool) {
        let (file, value) = match (self.unified, allowed) {
            (true, true) => ("memory.swap.max", "max"),
            (true, false) => ("memory.swap.max", "0"),
            (false, true) => ("memory.swappiness", "100"),
            (false, false) => ("memory.swappiness", "0"),
        };
        let _ = write(&self.directories[0].join(file), value);
    }

    /// The file of the CPU quota on v1.
    fn cfs_quota_file(&self) -> Option<PathBuf> {
        if self.unified {
            return None;
        }
        let file = |directory: &PathBuf| directory.join("cpu.cfs_quota_us");
        let mut files = self.directories.iter().map(file);
        files
            .find(|file| file.exists())
            .or_else(|| self.directories.last().map(file))
    }
}

/// `cpu.max` as it is written and read, "MAX PERIOD".
pub(super) fn cpu_max(limits: &Limits, activity: Activity) -> String {
    match quota(limits, activity) {
        Some(quota) => format!("{quota} {CPU_PERIOD_US}"),
        None => format!("max {CPU_PERIOD_US}"),
    }
}

/// `cpu.cfs_quota_us`; -1 is no limit.
pub(super) fn cfs_quota(limits: &Limits, activity: Activity) -> String {
    quota(limits, activity).map_or("-1".to_owned(), |quota| quota.to_string())
}

/// CPU time of each period, in microseconds; `None` is as much as there is.
fn quota(limits: &Limits, activity: Activity) -> Option<u64> {
    let whole = (u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN);
    match activity {
        Activity::Boosted => None,
        Activity::Active => Some(whole),
        Activity::Throttled | Activity::Frozen => Some(whole.min(CPU_QUOTA_US_THROTTLED)),
    }
}

/// Whether this host has anywhere to swap to (proc_swaps(5): a header, then one line for each).
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}
