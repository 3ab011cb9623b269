//! Listening sockets. Whoever supervises the edge makes them and keeps them, so that the edge can
//! be restarted while the kernel goes on accepting connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for one socket until they are accepted; it lowers this to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What clients of a listening socket speak first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Plain,
    /// TLS, and HTTP within.
    Tls,
}

/// Which services are served at a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Public ones.
    Public,
    /// Private ones too.
    Private,
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preamble {
    /// What its client says.
    None,
    /// A header of the PROXY protocol.
    Proxy,
}

/// How connections come in at a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    /// What clients speak.
    pub transport: Transport,
    /// What is served to them.
    pub door: Door,
    /// What comes before.
    pub preamble: Preamble,
}

impl Entrance {
    /// For the public, without anything before.
    pub const fn public(transport: Transport) -> Self {
        Self {
            transport,
            door: Door::Public,
            preamble: Preamble::None,
        }
    }
}

/// One address and its listening sockets, one for each worker (`SO_REUSEPORT`).
#[derive(Debug)]
pub struct ListenerGroup {
    /// How its connections come in.
    pub entrance: Entrance,
    /// As many as there are workers; all bound to the same address.
    pub sockets: Vec<TcpListener>,
}

impl ListenerGroup {
    /// Binds one address of plain HTTP once for each worker. Port 0 draws a port, the same for all.
    ///
    /// # Errors
    /// What the kernel says: the address is in use, is not this host's, or needs a capability.
    pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Self> {
        let first = bind(address)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        while sockets.len() < workers {
            sockets.push(bind(address)?);
        }
        Ok(Self {
            entrance: Entrance::public(Transport::Plain),
            sockets,
        })
    }

    /// The same sockets, for TLS.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.entrance.transport = Transport::Tls;
        self
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The group has no sockets, or the kernel does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.sockets
            .first()
            .ok_or(io::ErrorKind::InvalidInput)?
            .local_addr()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two addresses, each configured or not.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
