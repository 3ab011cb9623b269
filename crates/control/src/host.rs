//! What the machine has to give: the bound on what one instance may be promised.

use std::{fs, thread};

/// A host's size, read once at the start of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host {
    /// CPUs that this process may use.
    pub(crate) cpus: u32,
    /// Memory in MiB; absent when the kernel does not say.
    pub(crate) memory_mib: Option<u64>,
}

impl Host {
    /// Asks the kernel (proc_meminfo(5), sched_getaffinity(2)).
    pub(crate) fn read() -> Self {
        let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        let meminfo = fs::read_to_string("/proc/meminfo").ok();
        Self {
            cpus,
            memory_mib: meminfo.as_deref().and_then(memory_mib),
        }
    }
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB.
fn memory_mib(meminfo: &str) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:       16307588 kB\nMemFree:         1234 kB\n";
        assert_eq!(memory_mib(meminfo), Some(15925));
        assert_eq!(memory_mib("MemFree: 1 kB\n"), None);
        let host = Host::read();
        assert!(host.cpus >= 1 && host.memory_mib.is_some_and(|mib| mib > 0));
    }
}
