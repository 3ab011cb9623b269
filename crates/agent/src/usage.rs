//! What instances use, read every few seconds and told to whoever listens; and what memory the host has
//! left.

use std::{
    collections::HashMap,
    fs,
    sync::Weak,
    time::{Duration, Instant},
};

use ekiden_model::{id::InstanceId, instance::Activity, usage::InstanceUsage};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cgroup::{Group, Usage},
    host::{Host, blocking},
    images::Images,
};

/// How often what instances use is read.
pub(crate) const EVERY: Duration = Duration::from_secs(2);

/// Those that rest are read at every so many readings: little of it changes, and they cost nothing.
const RESTING_EVERY: u32 = 10;

/// What was read of the instances before. Bounded by their number.
#[derive(Debug, Default)]
struct Meter {
    readings: u32,
    before: HashMap<InstanceId, Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    used: Usage,
    told: InstanceUsage,
}

/// An instance whose usage is wanted.
#[derive(Debug)]
pub(crate) struct Metered {
    pub(crate) id: InstanceId,
    pub(crate) group: Group,
    pub(crate) activity: Activity,
}

/// Reads as long as there is a host.
pub(crate) async fn watch<I: Images>(host: Weak<Host<I>>) {
    let mut meter = Meter::default();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(host) = host.upgrade() else { return };
        let metered = host.metered();
        let read = blocking(move || {
            let instances = meter.read(metered);
            Ok((meter, instances))
        });
        // A reading that broke begins the next one anew.
        let Ok((next, instances)) = read.await else {
            meter = Meter::default();
            continue;
        };
        meter = next;
        host.tell_usage(instances);
    }
}

impl Meter {
    /// Reads all that are due. Blocks.
    fn read(&mut self, metered: Vec<Metered>) -> Vec<InstanceUsage> {
        let all_are_due = self.readings.is_multiple_of(RESTING_EVERY);
        self.readings = self.readings.wrapping_add(1);
        let mut before = std::mem::take(&mut self.before);
        for Metered {
            id,
            group,
            activity,
        } in metered
        {
            let rests = matches!(activity, Activity::Throttled | Activity::Frozen);
            let last = before.remove(&id);
            let reading = match last {
                Some(last) if rests && !all_are_due => last,
                last => Reading::after(last, id, Instant::now(), group.usage()),
            };
            self.before.insert(id, reading);
        }
        let mut told: Vec<_> = self.before.values().map(|reading| reading.told).collect();
        told.sort_unstable_by_key(|usage| usage.id);
        told
    }
}

impl Reading {
    /// The CPU time that went by since the last one, over the time that did.
    fn after(last: Option<Self>, id: InstanceId, at: Instant, used: Usage) -> Self {
        let cpu_millis = last.map_or(0, |last| {
            let passed = at.duration_since(last.at).as_micros().max(1);
            let worked = used.cpu_micros.saturating_sub(last.used.cpu_micros);
            (u128::from(worked) * 1000 / passed) as u32
        });
        let told = InstanceUsage {
            id,
            cpu_millis,
            memory_bytes: used.memory_bytes.saturating_sub(used.droppable_bytes),
        };
        Self { at, used, told }
    }
}

/// `MemAvailable` of proc_meminfo(5), in bytes: what can be had without swapping. Blocks for a moment.
pub(crate) fn memory_available() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// `MemTotal`, in bytes.
pub(crate) fn memory_total() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

/// `Name:   123 kB`, where kB are 1024 bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_told_over_the_time_that_passed() {
        let id = InstanceId::from_bytes([1; 16]);
        let start = Instant::now();
        let used = |cpu_micros| Usage {
            cpu_micros,
            memory_bytes: 100,
            droppable_bytes: 30,
        };
        let first = Reading::after(None, id, start, used(5_000_000));
        assert_eq!((first.told.cpu_millis, first.told.memory_bytes), (0, 70));
        let second = Reading::after(Some(first), id, start + EVERY, used(5_500_000));
        assert_eq!(second.told.cpu_millis, 250);
        // A group that was made anew has used less.
        let third = Reading::after(Some(second), id, start + EVERY * 2, used(0));
        assert_eq!(third.told.cpu_millis, 0);
    }

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       24689432 kB\nMemFree:  1 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(23_000_000 * 1024));
        assert_eq!(meminfo(text, "MemTotal"), Some(24_689_432 * 1024));
        assert_eq!(meminfo(text, "Mem"), None);
    }
}
