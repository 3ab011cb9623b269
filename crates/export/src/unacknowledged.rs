//! How much of what was written to a TCP connection the other side's kernel has not acknowledged.
//!
//! What `SIOCOUTQ` answers, asked by netlink (sock_diag(7)), which needs neither privileges nor `unsafe`; where
//! there is no such netlink, from `/proc/net/tcp`, which is slow when there are many connections. Both count
//! from what was written to what was acknowledged: `write_seq - snd_una` in Linux's tcp_diag.c and tcp_ipv4.c.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send},
};

/// `struct nlmsghdr`.
const HEAD_BYTES: usize = 16;

/// `struct inet_diag_sockid`.
const SOCKET_ID_BYTES: usize = 48;

/// `idiag_wqueue` of `struct inet_diag_msg`, after the head.
const QUEUE_OFFSET: usize = HEAD_BYTES + 4 + SOCKET_ID_BYTES + 8;

/// `SOCK_DIAG_BY_FAMILY`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// `NLMSG_ERROR`.
const NLMSG_ERROR: u16 = 2;

/// `NLM_F_REQUEST`.
const NLM_F_REQUEST: u16 = 1;

/// `AF_INET`, `AF_INET6` and `IPPROTO_TCP`, which netlink's messages have as bytes.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// Bytes of an answer that are read: the fixed part and more.
const ANSWER_BYTES: usize = 512;

/// Bytes on the way from `local` to `peer`. That the connection does not exist any more is an error.
pub(crate) fn bytes(local: SocketAddr, peer: SocketAddr) -> io::Result<u64> {
    match by_netlink(local, peer) {
        Ok(bytes) => Ok(bytes),
        // Forbidden, not in this kernel, or not such a connection; the last is what the file says as well.
        Err(_) => by_proc(local, peer),
    }
}

fn by_netlink(local: SocketAddr, peer: SocketAddr) -> io::Result<u64> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&socket, &question(local, peer), SendFlags::empty())?;
    let mut answer = [0; ANSWER_BYTES];
    let (read, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    parse(&answer[..read])
}

fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEAD_BYTES + 8 + SOCKET_ID_BYTES);
    let length = (HEAD_BYTES + 8 + SOCKET_ID_BYTES) as u32;
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]); // sequence and port
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    request.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes()); // in any state
    request.extend_from_slice(&local.port().to_be_bytes());
    request.extend_from_slice(&peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        let mut padded = [0; 16];
        match address {
            IpAddr::V4(address) => padded[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => padded.copy_from_slice(&address.octets()),
        }
        request.extend_from_slice(&padded);
    }
    let interface = match local {
        SocketAddr::V6(local) => local.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    request.extend_from_slice(&interface.to_ne_bytes());
    request.extend_from_slice(&[0xff; 8]); // any cookie
    request
}

fn parse(answer: &[u8]) -> io::Result<u64> {
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok());
    let word = |offset: usize| {
        let bytes = answer.get(offset..offset + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    };
    match kind.map(u16::from_ne_bytes) {
        Some(SOCK_DIAG_BY_FAMILY) => word(QUEUE_OFFSET).map(u64::from),
        Some(NLMSG_ERROR) => {
            let code = word(HEAD_BYTES).unwrap_or_default() as i32;
            return Err(Errno::from_raw_os_error(-code).into());
        }
        _ => None,
    }
    .ok_or_else(|| io::Error::other("sock_diag answers something else"))
}

fn by_proc(local: SocketAddr, peer: SocketAddr) -> io::Result<u64> {
    let path = if local.is_ipv4() {
        "/proc/self/net/tcp"
    } else {
        "/proc/self/net/tcp6"
    };
    let (local, peer) = (proc_address(local), proc_address(peer));
    for line in BufReader::new(fs::File::open(path)?).lines() {
        let line = line?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next() == Some(&local) && fields.next() == Some(&peer) {
            let queued = fields.nth(1).and_then(|queues| queues.split(':').next());
            return queued
                .and_then(|queued| u64::from_str_radix(queued, 16).ok())
                .ok_or_else(|| io::Error::other(format!("`{path}` has another form")));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotConnected,
        "the connection is gone",
    ))
}

/// An address as in `/proc/net/tcp`: words of four bytes in the machine's order.
fn proc_address(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word = u32::from_ne_bytes(word.try_into().expect("chunks of four"));
        format!("{word:08X}")
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn check(listen: &str, count: fn(SocketAddr, SocketAddr) -> io::Result<u64>) {
        let listener = TcpListener::bind(listen).unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let (local, peer) = (sender.local_addr().unwrap(), sender.peer_addr().unwrap());
        assert_eq!(count(local, peer).unwrap(), 0);
        sender.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(bytes) = sender.write(&[7; 65_536]) {
            written += bytes;
        }
        assert!(count(local, peer).unwrap() > 0);
        receiver.read_exact(&mut vec![0; written]).unwrap();
        while count(local, peer).unwrap() > 0 {
            std::thread::yield_now();
        }
        drop((sender, receiver));
        assert!(count(local, peer).is_err() || count(local, peer).unwrap() == 0);
    }

    #[test]
    fn netlink_knows_what_was_not_acknowledged() {
        check("127.0.0.1:0", by_netlink);
        check("[::1]:0", by_netlink);
    }

    #[test]
    fn proc_knows_what_was_not_acknowledged() {
        check("127.0.0.1:0", by_proc);
        check("[::1]:0", by_proc);
    }

    #[test]
    fn answers_of_other_forms_are_errors() {
        for length in 0..QUEUE_OFFSET + 4 {
            let mut answer = vec![0; length];
            if length >= 6 {
                answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            }
            assert!(parse(&answer).is_err());
        }
    }
}
