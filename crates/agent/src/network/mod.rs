//! The network of instances: a bridge for each Ekiden, a namespace and a veth pair for each instance.
//!
//! ```text
//!   instance: eth0, one address, everything through the gateway
//!       |  veth, an isolated port: it reaches the bridge and no other port
//!   bridge ek-<name>: the gateway's addresses, seen by control and edge on this host
//!       |  forwarded and masqueraded by the table `inet ekiden_<name>`
//!   the world
//! ```
//!
//! A namespace is made by a thread that enters it and leaves only a descriptor behind; the shim gets
//! it and nothing is mounted, so that namespace and veth vanish with the last process in them. What
//! cannot be left behind needs no cleaning.

mod firewall;
mod forwarding;
mod netlink;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
};

use ipnet::{Ipv4Net, Ipv6Net};
use netlink::Netlink;

pub use firewall::FirewallError;

use crate::{config::AgentConfig, sys};

/// What the interface inside an instance is called.
const INSIDE: &str = "eth0";

/// Why a network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The packet filter.
    #[error("cannot install the packet filter")]
    Firewall(#[from] FirewallError),
    /// A link, an address, a route or a setting.
    #[error("cannot {doing}")]
    Kernel {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The host's side of the instances' network.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    bridge: String,
    bridge_index: u32,
    ipv4: Ipv4Net,
    ipv6: Ipv6Net,
    /// False on a host whose kernel has IPv6 switched off.
    has_ipv6: bool,
}

/// Where one instance is on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Network {
    /// Makes the bridge, the packet filter and forwarding as they should be. Blocks. Idempotent.
    ///
    /// # Errors
    /// When the kernel or `nft` refuses.
    pub(crate) fn prepare(config: &AgentConfig) -> Result<Self, NetworkError> {
        let bridge = config.bridge();
        let (ipv4, ipv6) = (config.ipv4, config.ipv6());
        // Filter first: no packet passes the bridge without it.
        firewall::install(&config.name, &bridge, ipv4, ipv6)?;
        let has_ipv6 = PathBuf::from("/proc/sys/net/ipv6").exists();
        let mut network = Self {
            name: config.name.clone(),
            bridge,
            bridge_index: 0,
            ipv4,
            ipv6,
            has_ipv6,
        };
        network.bridge_index = network
            .prepare_bridge()
            .map_err(|source| kernel(format!("make the bridge `{}`", network.bridge), source))?;
        forwarding::enable(&config.forwarding_record(), config.slots())
            .map_err(|source| kernel("switch on forwarding", source))?;
        Ok(network)
    }

    /// Makes the network namespace of the instance in `slot`. Blocks; about a millisecond.
    ///
    /// # Errors
    /// When the kernel refuses. Nothing is left then.
    pub(crate) fn create_namespace(&self, slot: u32) -> Result<OwnedFd, NetworkError> {
        // A namespace belongs to a thread, and this one ends with what it has changed.
        let made = thread::scope(|scope| {
            let work = thread::Builder::new().name("netns".to_owned());
            match work.spawn_scoped(scope, || self.create_in_this_thread(slot)) {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("panicked"))),
                Err(error) => Err(error),
            }
        });
        made.map_err(|source| kernel("make a network namespace", source))
    }

    /// The addresses of the instance in `slot`.
    pub(crate) fn addresses(&self, slot: u32) -> Addresses {
        let ipv4 = Ipv4Addr::from(u32::from(self.ipv4.network()) + FIRST_HOST + slot);
        let ipv6 = u128::from(self.ipv6.network()) + u128::from(FIRST_HOST + slot);
        Addresses {
            ipv4,
            ipv6: self.has_ipv6.then_some(Ipv6Addr::from(ipv6)),
        }
    }

    /// Removes veths of slots that are not `used`: their instance is gone. Blocks.
    ///
    /// # Errors
    /// When the kernel cannot list links.
    pub(crate) fn remove_strays(&self, used: &[u32]) -> Result<(), NetworkError> {
        let keep: Vec<String> = used.iter().map(|slot| self.veth(*slot)).collect();
        let removed = || -> io::Result<()> {
            let mut netlink = Netlink::open()?;
            for link in netlink.links()? {
                let ours = link.master == Some(self.bridge_index) && link.name.starts_with(VETH);
                if ours && !keep.contains(&link.name) {
                    // It may be going by itself.
                    let _ = netlink.remove_link(link.index);
                }
            }
            Ok(())
        };
        removed().map_err(|source| kernel("list links", source))
    }

    fn create_in_this_thread(&self, slot: u32) -> io::Result<OwnedFd> {
        let mut host = Netlink::open()?;
        sys::unshare(libc::CLONE_NEWNET)?;
        let namespace = OwnedFd::from(fs::File::open("/proc/thread-self/ns/net")?);
        let mut inside = Netlink::open()?;
        let (name, mac) = (self.veth(slot), mac_of_slot(slot));
        match host.add_veth(&name, self.bridge_index, INSIDE, mac, namespace.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                // The last user of the slot is gone but its namespace is still being taken down.
                let old = host.link(&name)?.ok_or(io::ErrorKind::ResourceBusy)?;
                let _ = host.remove_link(old.index);
                host.add_veth(&name, self.bridge_index, INSIDE, mac, namespace.as_fd())?;
            }
            other => other?,
        }
        let port = index_of(&mut host, &name)?;
        host.isolate_port(port)?;
        self.configure_inside(&mut inside, slot)?;
        Ok(namespace)
    }

    fn configure_inside(&self, inside: &mut Netlink, slot: u32) -> io::Result<()> {
        let links = inside.links()?;
        let index = |name: &str| {
            let link = links.iter().find(|link| link.name == name);
            link.map(|link| link.index)
                .ok_or(io::Error::from(io::ErrorKind::NotFound))
        };
        inside.set_up(index("lo")?)?;
        let eth = index(INSIDE)?;
        inside.set_up(eth)?;
        let addresses = self.addresses(slot);
        inside.add_address(eth, addresses.ipv4.into(), 32)?;
        inside.add_default_route(eth, self.gateway_ipv4().into())?;
        if let Some(ipv6) = addresses.ipv6 {
            inside.add_address(eth, ipv6.into(), 128)?;
            inside.add_default_route(eth, self.gateway_ipv6().into())?;
        }
        // The user namespace does not own this one, so CAP_NET_BIND_SERVICE and CAP_NET_RAW inside
        // mean nothing here: ports below 1024 and ping are allowed to everyone instead.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
    }

    fn prepare_bridge(&self) -> io::Result<u32> {
        let mut netlink = Netlink::open()?;
        let index = match netlink.link(&self.bridge)? {
            Some(link) => link.index,
            None => {
                netlink.add_bridge(&self.bridge, mac_of(&self.name))?;
                index_of(&mut netlink, &self.bridge)?
            }
        };
        netlink.set_up(index)?;
        let v4 = (IpAddr::from(self.gateway_ipv4()), self.ipv4.prefix_len());
        let v6 = (IpAddr::from(self.gateway_ipv6()), self.ipv6.prefix_len());
        for (address, prefix) in [Some(v4), self.has_ipv6.then_some(v6)]
            .into_iter()
            .flatten()
        {
            match netlink.add_address(index, address, prefix) {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                other => other?,
            }
        }
        Ok(index)
    }

    fn gateway_ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.ipv4.network()) + 1)
    }

    fn gateway_ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.ipv6.network()) + 1)
    }

    fn veth(&self, slot: u32) -> String {
        format!(
            "{VETH}{:06x}{slot:04x}",
            fingerprint(&self.name) & 0xff_ffff
        )
    }
}

/// Host numbers 0 and 1 are the network and the gateway.
pub(crate) const FIRST_HOST: u32 = 2;

/// What the host's ends of veth pairs begin with.
const VETH: &str = "ekv";

/// Removes the table and the bridge, and puts forwarding back unless another Ekiden needs it. Blocks.
///
/// # Errors
/// When the kernel or `nft` refuses.
pub(crate) fn teardown(config: &AgentConfig) -> Result<(), NetworkError> {
    let removed = || -> io::Result<bool> {
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?;
        let bridge = config.bridge();
        if let Some(link) = links.iter().find(|link| link.name == bridge) {
            netlink.remove_link(link.index)?;
        }
        Ok(links
            .iter()
            .any(|link| link.name.starts_with("ek-") && link.name != bridge))
    };
    let others = removed().map_err(|source| kernel("remove the bridge", source))?;
    if !others {
        forwarding::restore(&config.forwarding_record())
            .map_err(|source| kernel("put forwarding back", source))?;
    }
    Ok(firewall::remove(&config.name)?)
}

/// A stable number for a name (FNV-1a), for what must differ between Ekidens of one host.
pub(crate) fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Fixed, because a bridge without an address of its own takes one of its ports', which come and go.
fn mac_of(name: &str) -> [u8; 6] {
    let hash = fingerprint(name).to_be_bytes();
    // Bit 1 of the first byte says locally administered, bit 0 clear says one station (IEEE 802).
    [0x02, hash[3], hash[4], hash[5], hash[6], hash[7]]
}

/// The same for every user of a slot, as its address is: the host remembers for tens of seconds
/// which station has an address, and would send to one that is gone.
fn mac_of_slot(slot: u32) -> [u8; 6] {
    let slot = slot.to_be_bytes();
    [0x06, 0, slot[0], slot[1], slot[2], slot[3]]
}

fn index_of(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    let link = netlink.link(name)?;
    link.map(|link| link.index)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn kernel(doing: impl Into<String>, source: io::Error) -> NetworkError {
    NetworkError::Kernel {
        doing: doing.into(),
        source,
    }
}
