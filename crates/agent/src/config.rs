//! What the agent is told. A plain value: nothing here reads the environment or a file.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ekiden_model::id::ServiceId;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::network::{FIRST_HOST, fingerprint};

/// The most instances at one time, ended ones included: each has 65536 user ids of its own from
/// [`UID_BASE`], and all must stay below 2^31.
pub const SLOTS_MAX: u32 = 16_384;

/// The first user id on the host of the first instance.
pub const UID_BASE: u32 = 0x1000_0000;

/// User ids of each instance.
pub const UIDS: u32 = 65_536;

/// The first user id on the host of what Dockerfiles build: behind those of all instances.
pub const BUILD_UID_BASE: u32 = UID_BASE + SLOTS_MAX * UIDS;

/// The most memory that is kept free unless another reserve is given, in bytes.
pub const MEMORY_RESERVE_MAX: u64 = 1 << 30;

/// The part of the host's memory that is.
const MEMORY_RESERVE_PART: u64 = 32;

/// The longest name: the bridge `ek-<name>` has at most 15 bytes (IFNAMSIZ).
pub const NAME_BYTES_MAX: usize = 12;

/// `sun_path` holds 108 bytes with the final zero (unix(7)); a shim's socket name takes 50.
const RUN_DIR_BYTES_MAX: usize = 57;

/// Everything the agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Tells several Ekidens of one host apart: 1 to 12 of `a-z 0-9 -`, first a letter.
    pub name: String,
    /// Where what must last is kept, in `agent/`.
    pub data_dir: PathBuf,
    /// Where sockets are, in `agent/`.
    pub run_dir: PathBuf,
    /// Addresses of instances; the first is the gateway.
    pub ipv4: Ipv4Net,
    /// The same for IPv6; one is made from the name when absent.
    pub ipv6: Option<Ipv6Net>,
    /// Name servers for instances when the host's own are on its loopback and unknown otherwise.
    pub dns: Vec<IpAddr>,
    /// Bytes of the host's memory that are kept free; a thirty-second of it, at most
    /// [`MEMORY_RESERVE_MAX`], when absent.
    pub memory_reserve: Option<u64>,
    /// Where control puts the archives of source trees.
    pub sources_dir: PathBuf,
    /// The certificates, in PEM, of the authorities that builds trust instead of their base image's.
    pub build_authorities: Option<PathBuf>,
    /// Users that may speak to the agent besides root.
    pub allowed_uids: Vec<u32>,
    /// The program to run as `<program> shim`; it must call [`crate::shim::main`].
    pub shim_program: PathBuf,
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The name.
    #[error("`{name}` cannot name an Ekiden: 1 to 12 of `a-z`, `0-9` and `-`, first a letter")]
    Name {
        /// As given.
        name: String,
    },
    /// A socket path would be too long.
    #[error("the run directory `{}` is longer than 57 bytes, the most that fits a socket's path", path.display())]
    RunDirectory {
        /// As given.
        path: PathBuf,
    },
    /// The network is too small.
    #[error("the network {network} has no room for instances: use /28 or larger")]
    Network {
        /// As given.
        network: Ipv4Net,
    },
}

impl AgentConfig {
    /// The defaults for an Ekiden of this name with these directories.
    pub fn new(name: &str, data_dir: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            sources_dir: data_dir.join("sources"),
            build_authorities: None,
            data_dir,
            run_dir,
            ipv4: Ipv4Net::new_assert(Ipv4Addr::new(10, 201, 0, 0), 16),
            ipv6: None,
            // Quad9 and Cloudflare: only when the host has no resolver an instance could reach.
            dns: vec![
                Ipv4Addr::new(9, 9, 9, 9).into(),
                Ipv4Addr::new(1, 1, 1, 1).into(),
            ],
            memory_reserve: None,
            allowed_uids: Vec::new(),
            shim_program: PathBuf::from("/proc/self/exe"),
        }
    }

    /// Refuses what cannot work before anything is touched.
    ///
    /// # Errors
    /// Says which setting, and what would be right.
    pub fn check(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        let well_formed = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !well_formed {
            return Err(ConfigError::Name { name: name.clone() });
        }
        if self.run_dir.as_os_str().len() > RUN_DIR_BYTES_MAX {
            return Err(ConfigError::RunDirectory {
                path: self.run_dir.clone(),
            });
        }
        if self.ipv4.prefix_len() > 28 {
            return Err(ConfigError::Network { network: self.ipv4 });
        }
        Ok(())
    }

    /// Where this Ekiden's packets pass.
    pub fn bridge(&self) -> String {
        format!("ek-{}", self.name)
    }

    /// How many instances there may be: the network's size less its own addresses, or
    /// [`SLOTS_MAX`].
    pub fn slots(&self) -> u32 {
        let hosts = 1u64 << (32 - self.ipv4.prefix_len());
        (hosts - u64::from(FIRST_HOST) - 1).min(u64::from(SLOTS_MAX)) as u32
    }

    /// The bytes that are kept free on a host with so many.
    pub(crate) fn memory_reserve_of(&self, total: u64) -> u64 {
        let part = (total / MEMORY_RESERVE_PART).min(MEMORY_RESERVE_MAX);
        self.memory_reserve.unwrap_or(part)
    }

    /// The IPv6 network: as given, or a unique local one (RFC 4193) made from the name.
    pub fn ipv6(&self) -> Ipv6Net {
        self.ipv6.unwrap_or_else(|| {
            let hash = u128::from(fingerprint(&self.name)) >> 8;
            let prefix = 0xfd << 120 | (hash & 0x00ff_ffff_ffff_ffff) << 64;
            Ipv6Net::new_assert(Ipv6Addr::from(prefix), 64)
        })
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    pub(crate) fn instances_dir(&self) -> PathBuf {
        self.agent_dir().join("instances")
    }

    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.agent_dir().join("logs")
    }

    pub(crate) fn caches_dir(&self) -> PathBuf {
        self.agent_dir().join("caches")
    }

    /// Where Dockerfiles are built, each build in a directory of its own.
    pub(crate) fn builds_dir(&self) -> PathBuf {
        self.agent_dir().join("builds")
    }

    /// What the Dockerfiles of a service have built before.
    pub(crate) fn storage_dir(&self, service: ServiceId) -> PathBuf {
        self.agent_dir().join("layers").join(service.to_string())
    }

    pub(crate) fn shims_dir(&self) -> PathBuf {
        self.run_dir.join("agent").join("shims")
    }

    pub(crate) fn seccomp(&self) -> PathBuf {
        self.agent_dir().join("seccomp.bpf")
    }

    pub(crate) fn forwarding_record(&self) -> PathBuf {
        self.agent_dir().join("forwarding.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> AgentConfig {
        AgentConfig::new(name, "/data".into(), "/run/ekiden".into())
    }

    #[test]
    fn names_that_would_not_fit_a_bridge_are_refused() {
        for name in ["", "1a", "a_b", "A", "abcdefghijklm"] {
            assert!(config(name).check().is_err(), "{name}");
        }
        assert!(config("ab-1").check().is_ok());
    }

    #[test]
    fn networks_differ_by_name_and_are_local() {
        let (one, two) = (config("one").ipv6(), config("two").ipv6());
        assert_ne!(one, two);
        assert_eq!(one.addr().octets()[0], 0xfd);
        assert_eq!(config("one").slots(), SLOTS_MAX);
    }
}
