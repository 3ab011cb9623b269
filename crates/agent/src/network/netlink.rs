//! Route netlink: the few messages that links, addresses and routes take.
//!
//! Written out rather than taken from a crate: seven message kinds, all synchronous, sent from
//! short-lived threads that have entered a network namespace, where an asynchronous client would
//! need a runtime of its own. Sources: rtnetlink(7), netlink(7), linux/if_link.h.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// The largest answer the kernel puts in one datagram (netlink(7): use at least 32 KiB).
const ANSWER_BYTES: usize = 32 * 1024;

const HEADER_BYTES: usize = 16; // struct nlmsghdr

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const VETH_INFO_PEER: u16 = 1; // linux/veth.h
const IFLA_BRPORT_ISOLATED: u16 = 33; // linux/if_link.h
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The bridge it is a port of.
    pub(crate) master: Option<u32>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE is number 0
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Every link of the namespace.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let message = Message::link(libc::RTM_GETLINK, NLM_F_DUMP, 0, 0);
        let mut links = Vec::new();
        self.send(message)?;
        loop {
            let mut answer = vec![0; ANSWER_BYTES];
            let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            for (kind, body) in messages(&answer[..length]) {
                match kind {
                    NLMSG_DONE => return Ok(links),
                    NLMSG_ERROR => return acknowledge(body).map(|()| links),
                    _ => links.extend(Link::read(body)),
                }
            }
        }
    }

    /// The link of this name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// Makes a bridge that is up. `EEXIST` when the name is taken.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: [u8; 6]) -> io::Result<()> {
        let mut message = Message::link(
            libc::RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            0,
            libc::IFF_UP,
        );
        message.text(libc::IFLA_IFNAME, name);
        message.bytes(libc::IFLA_ADDRESS, &mac);
        message.nested(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "bridge");
            info.nested(libc::IFLA_INFO_DATA, |data| {
                data.bytes(IFLA_BR_FORWARD_DELAY, &0u32.to_ne_bytes());
                // Nobody here listens to multicast but neighbour discovery, which snooping can lose.
                data.bytes(IFLA_BR_MCAST_SNOOPING, &[0]);
            });
        });
        self.ask(message)
    }

    /// Makes a veth pair: `name` here, up, a port of bridge `master`; `peer` in `namespace`.
    ///
    /// One message, so that a failure leaves nothing.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        master: u32,
        peer: &str,
        peer_mac: [u8; 6],
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut message = Message::link(
            libc::RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            0,
            libc::IFF_UP,
        );
        message.text(libc::IFLA_IFNAME, name);
        message.bytes(libc::IFLA_MASTER, &master.to_ne_bytes());
        message.nested(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth");
            info.nested(libc::IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |body| {
                    // Not up yet: it is opened before the pair knows each other (ENOTCONN).
                    body.link_header(0, 0);
                    body.text(libc::IFLA_IFNAME, peer);
                    body.bytes(libc::IFLA_ADDRESS, &peer_mac);
                    let namespace = namespace.as_raw_fd() as u32;
                    body.bytes(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes());
                });
            });
        });
        self.ask(message)
    }

    /// A port of a bridge that reaches no other port marked so (`IFLA_BRPORT_ISOLATED`).
    pub(crate) fn isolate_port(&mut self, index: u32) -> io::Result<()> {
        let mut message = Message::link(libc::RTM_SETLINK, 0, index, 0);
        message.buffer[HEADER_BYTES] = libc::AF_BRIDGE as u8;
        message.nested(libc::IFLA_PROTINFO, |port| {
            port.bytes(IFLA_BRPORT_ISOLATED, &[1])
        });
        self.ask(message)
    }

    /// Sets a link up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.ask(Message::link(libc::RTM_NEWLINK, 0, index, libc::IFF_UP))
    }

    /// Removes a link; a veth's other end goes with it.
    pub(crate) fn remove_link(&mut self, index: u32) -> io::Result<()> {
        self.ask(Message::link(libc::RTM_DELLINK, 0, index, 0))
    }

    /// Gives a link an address, usable at once (no duplicate address detection). `EEXIST` when it
    /// has it.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        let flags = if address.is_ipv6() {
            libc::IFA_F_NODAD as u8
        } else {
            0
        };
        // struct ifaddrmsg
        message.put(&[family(address), prefix, flags, libc::RT_SCOPE_UNIVERSE]);
        message.put(&index.to_ne_bytes());
        message.address(libc::IFA_LOCAL, address);
        message.address(libc::IFA_ADDRESS, address);
        self.ask(message)
    }

    /// Routes `destination`, or everything when there is none, through a link and a gateway.
    ///
    /// The gateway need not be on a network of the link (`RTNH_F_ONLINK`): instances have a network
    /// of one address, so that whatever they send goes to the gateway, which may refuse it.
    pub(crate) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        // struct rtmsg: family, lengths of destination and source, service, table, protocol, scope, kind
        message.put(&[
            family(gateway),
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ]);
        message.put(&(RTNH_F_ONLINK as u32).to_ne_bytes());
        message.address(libc::RTA_GATEWAY, gateway);
        message.bytes(libc::RTA_OIF, &index.to_ne_bytes());
        self.ask(message)
    }

    /// Sends a request and waits for the kernel's word on it.
    fn ask(&mut self, mut message: Message) -> io::Result<()> {
        message.set_flags(NLM_F_ACK);
        self.send(message)?;
        let mut answer = vec![0; ANSWER_BYTES];
        loop {
            let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            for (kind, body) in messages(&answer[..length]) {
                if kind == NLMSG_ERROR {
                    return acknowledge(body);
                }
            }
        }
    }

    fn send(&mut self, mut message: Message) -> io::Result<()> {
        self.sequence += 1;
        let bytes = message.finish(self.sequence);
        send(&self.socket, bytes, SendFlags::empty())?;
        Ok(())
    }
}

const RTNH_F_ONLINK: u8 = 4; // linux/rtnetlink.h

impl Link {
    fn read(body: &[u8]) -> Option<Self> {
        // struct ifinfomsg: family, padding, type (2), index (4), flags (4), change (4)
        let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
        let mut link = Self {
            index,
            name: String::new(),
            master: None,
        };
        for (kind, value) in attributes(body.get(16..)?) {
            match kind {
                libc::IFLA_IFNAME => {
                    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    link.name = String::from_utf8_lossy(name).into_owned();
                }
                libc::IFLA_MASTER => {
                    link.master = value.try_into().ok().map(u32::from_ne_bytes);
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// A request under construction.
struct Message {
    buffer: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut buffer = vec![0; HEADER_BYTES];
        buffer[4..6].copy_from_slice(&kind.to_ne_bytes());
        buffer[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        Self { buffer }
    }

    /// A message about a link; `up` is `IFF_UP` or nothing.
    fn link(kind: u16, flags: u16, index: u32, up: libc::c_int) -> Self {
        let mut message = Self::new(kind, flags);
        message.link_header(index, up);
        message
    }

    /// struct ifinfomsg
    fn link_header(&mut self, index: u32, up: libc::c_int) {
        self.put(&[0; 4]);
        self.put(&index.to_ne_bytes());
        self.put(&(up as u32).to_ne_bytes());
        self.put(&(up as u32).to_ne_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
    }

    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.nested_raw(kind, |message| message.buffer.extend_from_slice(value));
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.nested_raw(kind, |message| {
            message.buffer.extend_from_slice(value.as_bytes());
            message.buffer.push(0);
        });
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.nested_raw(kind | libc::NLA_F_NESTED as u16, fill);
    }

    /// An attribute: its length, which is known once it is filled, its kind, its value, padding.
    fn nested_raw(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.buffer.len() - start) as u16;
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.put(&[]);
    }

    fn set_flags(&mut self, flags: u16) {
        let flags = u16::from_ne_bytes([self.buffer[6], self.buffer[7]]) | flags;
        self.buffer[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = self.buffer.len() as u32;
        self.buffer[..4].copy_from_slice(&length.to_ne_bytes());
        self.buffer[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.buffer
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() {
        libc::AF_INET as u8
    } else {
        libc::AF_INET6 as u8
    }
}

/// The messages of one datagram: kind and body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes of a body: kind and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// struct nlmsgerr: zero is success, else a negative error number.
fn acknowledge(body: &[u8]) -> io::Result<()> {
    let code = body
        .get(..4)
        .and_then(|code| code.try_into().ok())
        .map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "netlink answer is too short",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_what_was_put() {
        let mut message = Message::link(libc::RTM_NEWLINK, 0, 7, libc::IFF_UP);
        message.text(libc::IFLA_IFNAME, "eth0");
        message.bytes(libc::IFLA_MASTER, &3u32.to_ne_bytes());
        let bytes = message.finish(1).to_vec();
        let (kind, body) = messages(&bytes).next().unwrap();
        assert_eq!(kind, libc::RTM_NEWLINK);
        let link = Link {
            index: 7,
            name: "eth0".to_owned(),
            master: Some(3),
        };
        assert_eq!(Link::read(body), Some(link));
    }

    #[test]
    fn truncated_answers_end_the_reading() {
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        assert_eq!(messages(&[255, 255, 0, 0, 1, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 9]).count(), 0);
    }
}
