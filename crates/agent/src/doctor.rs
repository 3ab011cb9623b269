//! What this host has and lacks for running instances, and how to mend it.

use std::{fs, path::Path, process::Command};

use crate::{cgroup::Cgroups, disk::DiskLimit};

/// The oldest kernel that has all that is used: idmapped layers below overlayfs (Linux 5.19).
const KERNEL_MIN: (u32, u32) = (5, 19);

/// Where programs are looked for besides `PATH`.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub state: Health,
    /// What was seen, or why it matters.
    pub why: String,
    /// What to do; empty when all is well.
    pub mend: String,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Ok,
    /// Ekiden works, with less.
    Warn,
    /// Instances cannot run.
    Missing,
}

/// Looks at everything. Changes nothing but for a moment in `data_dir`. Blocks.
pub fn check(data_dir: &Path) -> Vec<Finding> {
    vec![
        root(),
        kernel(),
        namespaces(),
        file_system(),
        packet_filter(),
        cgroups(),
        forwarding(),
        foreign_filters(),
        disk_limit(data_dir),
        optional(
            "mmdebstrap",
            "makes base images from Debian packages (`ekiden image bootstrap`)",
        ),
        optional("buildah", "builds images from Dockerfiles"),
    ]
}

fn root() -> Finding {
    match rustix::process::geteuid().is_root() {
        true => ok("root", "runs as root"),
        false => missing(
            "root",
            "the agent makes namespaces, mounts and cgroups",
            "run it as root or with sudo",
        ),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version(release) {
        Some(version) if version >= KERNEL_MIN => ok("kernel", release),
        _ => missing(
            "kernel",
            &format!(
                "{release} is older than 5.19, the first with idmapped layers below overlayfs"
            ),
            "use a newer kernel: Debian 12 and Ubuntu 24.04 have one",
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn namespaces() -> Finding {
    let absent: Vec<&str> = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    let users = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if !absent.is_empty() {
        let why = format!(
            "this kernel has no namespaces of kind {}",
            absent.join(", ")
        );
        return missing("namespaces", &why, "use a distribution's kernel");
    }
    match users.trim() {
        "0" => missing(
            "namespaces",
            "user namespaces are switched off, and root in an instance would be root",
            "run `sysctl user.max_user_namespaces=65536`",
        ),
        _ => ok("namespaces", "all seven kinds"),
    }
}

fn file_system() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let built_in = known
        .lines()
        .any(|line| line.split_whitespace().last() == Some("overlay"));
    // A module is loaded by the first mount.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let module = Path::new("/lib/modules")
        .join(release.trim())
        .join("kernel/fs/overlayfs");
    match built_in || module.exists() {
        true => ok("overlayfs", "there"),
        false => missing(
            "overlayfs",
            "this kernel cannot stack image layers",
            "run `modprobe overlay`",
        ),
    }
}

fn packet_filter() -> Finding {
    match find("nft") {
        Some(path) => ok("nftables", &path),
        None => missing(
            "nftables",
            "`nft` was not found",
            "run `apt install nftables`",
        ),
    }
}

fn cgroups() -> Finding {
    match Cgroups::detect("doctor") {
        Ok(cgroups) => ok("cgroups", cgroups.describe()),
        Err(error) => missing(
            "cgroups",
            &error.to_string(),
            "mount cgroup2 on /sys/fs/cgroup",
        ),
    }
}

fn forwarding() -> Finding {
    match fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
        .unwrap_or_default()
        .trim()
    {
        "1" => ok("forwarding", "on"),
        _ => ok(
            "forwarding",
            "off; the agent switches it on and `teardown` off again",
        ),
    }
}

/// A `drop` in any table is final, and Docker's is the usual one.
fn foreign_filters() -> Finding {
    let output =
        find("nft").and_then(|nft| Command::new(nft).args(["list", "chains"]).output().ok());
    let chains = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let drops = chains.is_some_and(|chains| {
        chains
            .lines()
            .any(|line| line.contains("hook forward") && line.contains("policy drop"))
    });
    match drops {
        false => ok(
            "other packet filters",
            "none drops forwarded packets by default",
        ),
        true => warn(
            "other packet filters",
            "another table drops forwarded packets by default (Docker does): instances may not reach the internet",
            "allow the bridge there: `iptables -I DOCKER-USER -i ek-+ -j ACCEPT` and `-o ek-+ -j ACCEPT`",
        ),
    }
}

fn disk_limit(data_dir: &Path) -> Finding {
    match DiskLimit::detect(data_dir) {
        limit @ DiskLimit::Quota => ok("disk limit", limit.describe()),
        limit @ DiskLimit::Watched => warn(
            "disk limit",
            limit.describe(),
            "put the data directory on xfs or ext4 mounted with `prjquota`",
        ),
    }
}

fn optional(program: &'static str, purpose: &str) -> Finding {
    match find(program) {
        Some(path) => ok(program, &path),
        None => warn(
            program,
            &format!("not found; it {purpose}"),
            &format!("run `apt install {program}`"),
        ),
    }
}

fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(PROGRAM_DIRECTORIES)
        .filter(|directory| !directory.is_empty())
        .map(|directory| Path::new(directory).join(program))
        .find(|candidate| candidate.is_file())
        .map(|found| found.display().to_string())
}

fn ok(what: &'static str, why: &str) -> Finding {
    Finding {
        what,
        state: Health::Ok,
        why: why.to_owned(),
        mend: String::new(),
    }
}

fn warn(what: &'static str, why: &str, mend: &str) -> Finding {
    Finding {
        what,
        state: Health::Warn,
        why: why.to_owned(),
        mend: mend.to_owned(),
    }
}

fn missing(what: &'static str, why: &str, mend: &str) -> Finding {
    Finding {
        what,
        state: Health::Missing,
        why: why.to_owned(),
        mend: mend.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        assert!(version("6.1.0-44-amd64").unwrap() > KERNEL_MIN);
        assert!(version("5.4.0").unwrap() < KERNEL_MIN);
        assert_eq!(version("nonsense"), None);
    }
}
