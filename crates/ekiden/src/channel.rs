//! The line between the supervisor and a role: messages that carry file descriptors.
//!
//! A Unix socket of type `SOCK_SEQPACKET` keeps the bounds of messages (unix(7)); each message is
//! JSON, and descriptors travel with it as `SCM_RIGHTS`. A role gets its end as standard input, so
//! that no descriptor has to be inheritable by anyone else; a new supervisor gets its end by
//! connecting to the role's socket, [`Channel::connect`].

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, UCred,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{config::Config, listeners::Purpose, role::Role};

/// The longest message, in bytes. Below the least that a socket buffers by default
/// (`net.core.wmem_default`), so that sending to a peer that keeps up never waits.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// The most descriptors of one message: `SCM_MAX_FD`, unix(7).
const DESCRIPTORS_MAX: usize = 253;

/// Supervisor to role.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToRole {
    /// The first message to a role that was started. With it come the role's own socket for
    /// successors of the supervisor, then the listeners.
    Start(Box<Start>),
    /// The first message on a connection to a role that runs: serve under me from now on.
    Adopt,
    /// Finish what is at hand and end.
    Stop,
}

/// Role to supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromRole {
    /// It serves.
    Ready,
    /// The answer to [`ToRole::Adopt`]; the listeners come with it.
    Hello(Hello),
}

/// What a role is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// Which role to be.
    pub role: Role,
    /// The settings.
    pub config: Config,
    /// How often this role was started anew before, on this run directory.
    pub restarts: u32,
    /// How to start a supervisor when this one is gone; only the agent gets it.
    pub respawn: Option<Respawn>,
    /// What the descriptors after the first are for, in their order.
    pub listeners: Vec<Purpose>,
}

/// How the supervisor was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Respawn {
    /// The program file.
    pub program: std::path::PathBuf,
    /// Arguments, without the program's name.
    pub arguments: Vec<String>,
    /// The directory it was started in.
    pub directory: std::path::PathBuf,
}

/// What a role that runs says to a new supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Which role it is.
    pub role: Role,
    /// Its program and settings: equal means that it is what would be started now.
    pub fingerprint: String,
    /// Whether it serves.
    pub ready: bool,
    /// As in [`Start`].
    pub restarts: u32,
    /// When it was started: seconds since the Unix epoch.
    pub since: u64,
    /// What the descriptors are for, in their order.
    pub listeners: Vec<Purpose>,
}

/// One end of the line.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two ends, connected.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Connects to the socket of a role. Never waits: a backlog that is full is an error.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Sends one message. At most [`MESSAGE_BYTES_MAX`] bytes and 253 descriptors.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::other(
                "message is longer than 128 KiB or carries over 253 descriptors",
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Receives one message and its descriptors, close-on-exec; `None` when the peer is gone.
    /// Waits for one unless `wait` is [`Wait::No`]; then there is `WouldBlock`.
    pub fn receive<T: DeserializeOwned>(
        &self,
        wait: Wait,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let flags = match wait {
            Wait::Yes => RecvFlags::CMSG_CLOEXEC,
            Wait::No => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        };
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        )?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let message = serde_json::from_slice(&bytes[..received.bytes])?;
        Ok(Some((message, descriptors)))
    }

    /// Who is at the other end: whoever called listen(2) or socketpair(2) last, if it listened or
    /// made the pair; else whoever connected.
    pub fn peer(&self) -> io::Result<UCred> {
        Ok(rustix::net::sockopt::socket_peercred(&self.0)?)
    }
}

/// Whether to wait for a message.
#[derive(Debug, Clone, Copy)]
pub enum Wait {
    /// Until there is one or the peer is gone.
    Yes,
    /// Not at all.
    No,
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket bound at `path`, mode 0600 from its first moment by the directory it is in, on which
/// the role itself then listens: so the kernel names the role as the peer of who connects.
pub fn bind(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, os::unix::net::UnixStream};

    #[test]
    fn messages_carry_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let (mut kept, sent) = UnixStream::pair().unwrap();
        one.send(&FromRole::Ready, &[sent.as_fd()]).unwrap();
        drop(sent);
        let (message, descriptors) = other.receive::<FromRole>(Wait::Yes).unwrap().unwrap();
        assert!(matches!(message, FromRole::Ready));
        assert_eq!(descriptors.len(), 1);
        drop(descriptors);
        assert_eq!(
            kept.read(&mut [0]).unwrap(),
            0,
            "the descriptor was the only other end"
        );
    }

    #[test]
    fn a_closed_peer_is_told_from_silence() {
        let (one, other) = Channel::pair().unwrap();
        let silence = other.receive::<FromRole>(Wait::No).unwrap_err();
        assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert!(other.receive::<FromRole>(Wait::Yes).unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_by_the_sender() {
        let (one, _other) = Channel::pair().unwrap();
        assert!(one.send(&"x".repeat(MESSAGE_BYTES_MAX), &[]).is_err());
    }
}
