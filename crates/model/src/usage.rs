//! What instances use of their host.

use serde::{Deserialize, Serialize};

use crate::{id::InstanceId, instance::Limits, scale::Load};

/// What one instance uses. Told by the engine every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceUsage {
    /// Which.
    pub id: InstanceId,
    /// CPU time per second since it was last told, in thousandths of a CPU.
    pub cpu_millis: u32,
    /// Bytes of memory, without what the kernel could drop at once.
    pub memory_bytes: u64,
}

/// What these instances use together; one that is not known yet uses nothing. The usages are in the
/// order of ids.
pub fn load(
    usages: &[InstanceUsage],
    instances: impl Iterator<Item = InstanceId>,
    limits: &Limits,
) -> Load {
    let known = instances.filter_map(|id| {
        let index = usages.binary_search_by_key(&id, |known| known.id);
        Some(usages[index.ok()?])
    });
    known.fold(Load::default(), |load, usage| Load {
        cpu: load.cpu + percent(usage.cpu_millis.into(), limits.cpu_millis.into()),
        memory: load.memory + percent(usage.memory_bytes, limits.memory_bytes),
    })
}

/// At most 1000: whoever is above its limit is not so for long.
fn percent(used: u64, limit: u64) -> u32 {
    let percent = u128::from(used) * 100 / u128::from(limit.max(1));
    percent.min(1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_used_is_told_in_parts_of_the_limits() {
        let id = |byte| InstanceId::from_bytes([byte; 16]);
        let used = |byte, cpu_millis, mib| InstanceUsage {
            id: id(byte),
            cpu_millis,
            memory_bytes: mib * MIB,
        };
        let usages = [used(1, 250, 64), used(3, 500, 512)];
        let limits = Limits {
            cpu_millis: 500,
            memory_bytes: 512 * MIB,
            pids_max: 1,
            disk_bytes: 1,
        };
        let load = |ids: &[u8]| load(&usages, ids.iter().map(|byte| id(*byte)), &limits);
        assert_eq!((load(&[1]).cpu, load(&[1]).memory), (50, 12));
        assert_eq!((load(&[1, 2, 3]).cpu, load(&[1, 2, 3]).memory), (150, 112));
        assert_eq!(load(&[2]), Load::default());
    }
}
