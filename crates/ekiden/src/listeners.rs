//! The listening sockets: made once, held by the supervisor for ever, lent to the roles.
//!
//! While any process holds a listening socket its port is open and connections queue in the
//! kernel. So a role that dies closes nothing, and a supervisor that dies gets its sockets back
//! from the roles. Never is an address bound anew while a live process holds it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{config::Config, role::Role};

/// Connections that may wait to be accepted, per socket; the kernel's own bound
/// (`net.core.somaxconn`, 4096 by default) holds too.
const BACKLOG: i32 = 4096;

/// What a listening socket is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Clients of services; one socket per worker and address (`SO_REUSEPORT`, socket(7)).
    Edge {
        /// Where.
        address: SocketAddr,
        /// Which worker's.
        worker: usize,
    },
    /// Clients of services that speak TLS; otherwise the same.
    EdgeTls {
        /// Where.
        address: SocketAddr,
        /// Which worker's.
        worker: usize,
    },
    /// The API.
    Api {
        /// Where.
        address: SocketAddr,
    },
    /// The engine protocol, for control and the command line.
    Agent,
    /// The route protocol, for the edge.
    Routes,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A TCP address.
    #[error("cannot listen on {address} (setting `{setting}`)")]
    Address {
        /// Which.
        address: SocketAddr,
        /// The setting that asks for it.
        setting: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A Unix socket.
    #[error("cannot listen on `{}`", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Every listening socket there is, by purpose.
#[derive(Debug, Default)]
pub struct Listeners(BTreeMap<Purpose, OwnedFd>);

impl Purpose {
    /// Who serves it.
    pub fn role(&self) -> Role {
        match self {
            Self::Edge { .. } | Self::EdgeTls { .. } => Role::Edge,
            Self::Api { .. } | Self::Routes => Role::Control,
            Self::Agent => Role::Agent,
        }
    }
}

impl Listeners {
    /// Takes sockets that a role has kept.
    pub fn absorb(&mut self, purposes: Vec<Purpose>, sockets: Vec<OwnedFd>) {
        self.0.extend(purposes.into_iter().zip(sockets));
    }

    /// Makes the sockets that `config` asks for and nobody has kept, and closes those it does not
    /// ask for. Kept sockets beyond the number of workers stay, and every address gets as many: an
    /// edge has one worker for each, and connections may wait in one that would be closed.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn complete(&mut self, config: &Config) -> Result<(), ListenError> {
        self.0.retain(|purpose, _| match purpose {
            Purpose::Edge { address, .. } => config.edge.listen.contains(address),
            Purpose::EdgeTls { address, .. } => config.edge.listen_tls.contains(address),
            Purpose::Api { address } => *address == config.api.listen,
            Purpose::Agent | Purpose::Routes => true,
        });
        let workers = config.edge_workers().max(self.kept_workers());
        for address in config.edge.listen.iter().copied() {
            let purpose = |worker| Purpose::Edge { address, worker };
            self.complete_edge("edge.listen", address, purpose, workers)?;
        }
        for address in config.edge.listen_tls.iter().copied() {
            let purpose = |worker| Purpose::EdgeTls { address, worker };
            self.complete_edge("edge.listen_tls", address, purpose, workers)?;
        }
        let address = config.api.listen;
        self.ensure(Purpose::Api { address }, || {
            listen(address, Sharing::No).map_err(|source| refused("api.listen", address, source))
        })?;
        let control = config.users.control as u32;
        self.ensure(Purpose::Agent, || {
            listen_unix(&config.agent_socket(), control)
        })?;
        let edge = config.users.edge as u32;
        self.ensure(Purpose::Routes, || listen_unix(&config.edge_socket(), edge))
    }

    /// The sockets to give to a role: its own, and to the agent all of them. So the ports stay open
    /// even if the supervisor and the role that serves them die in the same moment.
    pub fn of(&self, role: Role) -> (Vec<Purpose>, Vec<BorrowedFd<'_>>) {
        self.0
            .iter()
            .filter(|(purpose, _)| role == Role::Agent || purpose.role() == role)
            .map(|(purpose, socket)| (purpose.clone(), socket.as_fd()))
            .unzip()
    }

    fn kept_workers(&self) -> usize {
        let worker = |purpose: &Purpose| match purpose {
            Purpose::Edge { worker, .. } | Purpose::EdgeTls { worker, .. } => worker + 1,
            Purpose::Api { .. } | Purpose::Agent | Purpose::Routes => 0,
        };
        self.0.keys().map(worker).max().unwrap_or(0)
    }

    fn complete_edge(
        &mut self,
        setting: &'static str,
        address: SocketAddr,
        purpose: impl Fn(usize) -> Purpose,
        workers: usize,
    ) -> Result<(), ListenError> {
        let refused = |source| refused(setting, address, source);
        if !self.0.contains_key(&purpose(0)) {
            // A socket that shares its port is refused by nobody who shares too: another Ekiden
            // would silently get half of the connections. One that does not share is refused.
            listen(address, Sharing::No).map_err(refused)?;
        }
        for worker in 0..workers {
            self.ensure(purpose(worker), || {
                listen(address, Sharing::Workers).map_err(refused)
            })?;
        }
        Ok(())
    }

    fn ensure(
        &mut self,
        purpose: Purpose,
        make: impl FnOnce() -> Result<OwnedFd, ListenError>,
    ) -> Result<(), ListenError> {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.0.entry(purpose) {
            vacant.insert(make()?);
        }
        Ok(())
    }
}

enum Sharing {
    No,
    Workers,
}

fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // So that `0.0.0.0:80` and `[::]:80` can both be configured.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if matches!(sharing, Sharing::Workers) {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listens at `path`, for root and the user `uid` only.
fn listen_unix(path: &Path, uid: u32) -> Result<OwnedFd, ListenError> {
    let make = || -> io::Result<OwnedFd> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        std::os::unix::fs::chown(path, Some(uid), Some(uid))?;
        listener.set_nonblocking(true)?;
        Ok(listener.into())
    };
    make().map_err(|source| ListenError::Path {
        path: path.to_owned(),
        source,
    })
}

fn refused(setting: &'static str, address: SocketAddr, source: io::Error) -> ListenError {
    ListenError::Address {
        address,
        setting,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_port_that_somebody_shares_is_refused_to_others() {
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Sharing::Workers).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let purpose = |worker| Purpose::Edge { address, worker };
        let error = Listeners::default()
            .complete_edge("edge.listen", address, purpose, 1)
            .unwrap_err();
        assert!(error.to_string().contains("edge.listen"), "{error}");
    }

    #[test]
    fn a_kept_socket_is_never_bound_anew() {
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Sharing::Workers).unwrap();
        let address = std::net::TcpListener::from(socket.try_clone().unwrap())
            .local_addr()
            .unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        let mut listeners = Listeners::default();
        listeners.absorb(vec![Purpose::Edge { address, worker: 0 }], vec![socket]);
        let purpose = |worker| Purpose::Edge { address, worker };
        listeners
            .complete_edge("edge.listen", address, purpose, 2)
            .unwrap();
        let (purposes, sockets) = listeners.of(Role::Edge);
        assert_eq!(purposes.len(), 2);
        let first = std::net::TcpListener::from(sockets[0].try_clone_to_owned().unwrap());
        let (_, peer) = first.accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
    }
}
