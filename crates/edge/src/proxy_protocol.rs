//! The PROXY protocol, versions 1 and 2: what a TCP proxy says of a connection before its first
//! byte ("The PROXY protocol", HAProxy, 2020, sections 2.1 and 2.2).
//!
//! On a listener that is configured for it the header has to be there: a connection without one is
//! not a client's. Nothing but addresses is taken from it; what version 2 adds behind them is
//! skipped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{io::AsyncReadExt, net::TcpStream};

/// The longest line of version 1, in bytes, its end included (section 2.1).
const LINE_BYTES_MAX: usize = 107;

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2's header, in bytes.
const FIXED_BYTES: usize = 16;

/// The longest header that is read, in bytes; whoever reads one needs no larger buffer. Addresses
/// take 52, and what follows them is a certificate's fields at most.
pub const HEADER_BYTES_MAX: usize = 4096;

/// How the beginning of a connection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// So far it may become a header.
    More,
    /// A header.
    Header {
        /// Its length in bytes; the client's first byte is behind it.
        len: usize,
        /// Whose connection it is and where it went; absent when the proxy connected for itself, as
        /// for a health check, or does not know.
        addresses: Option<Addresses>,
    },
    /// No header, or none that can be taken: the connection is to be closed.
    Not,
}

/// The two ends of the connection that the proxy took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected.
    pub destination: SocketAddr,
}

/// Reads the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    let signature = &SIGNATURE[..bytes.len().min(SIGNATURE.len())];
    if bytes.starts_with(signature) {
        return if bytes.len() < FIXED_BYTES {
            Parsed::More
        } else {
            parse_binary(bytes)
        };
    }
    let line = b"PROXY ";
    if !bytes.starts_with(&line[..bytes.len().min(line.len())]) {
        return Parsed::Not;
    }
    let held = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', held) {
        Some(end) => parse_line(&held[..=end]),
        None if held.len() < LINE_BYTES_MAX => Parsed::More,
        None => Parsed::Not,
    }
}

/// Takes the header from the beginning of a connection, and nothing of what follows. Waits for as
/// long as there is none: the caller has a deadline.
///
/// # Errors
/// The connection begins with something else, or ends.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<Addresses>> {
    let mut header = vec![0; HEADER_BYTES_MAX];
    let mut held = 0;
    loop {
        // Looked at first, so that what is the client's stays where it is.
        let seen = stream.peek(&mut header[held..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = parse(&header[..held + seen]);
        let until = match parsed {
            Parsed::Not => return Err(io::ErrorKind::InvalidData.into()),
            Parsed::More => held + seen,
            Parsed::Header { len, .. } => len,
        };
        stream.read_exact(&mut header[held..until]).await?;
        if let Parsed::Header { addresses, .. } = parsed {
            return Ok(addresses);
        }
        held = until;
    }
}

/// Version 1: one line of text, here with its end.
fn parse_line(line: &[u8]) -> Parsed {
    let len = line.len();
    let read = || {
        let text = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
        let mut words = text.split(' ').skip(1);
        let family = words.next()?;
        if family == "UNKNOWN" {
            // Whatever follows is to be ignored.
            return Some(None);
        }
        let (source, destination): (IpAddr, IpAddr) = match family {
            "TCP4" => (
                words.next()?.parse::<Ipv4Addr>().ok()?.into(),
                words.next()?.parse::<Ipv4Addr>().ok()?.into(),
            ),
            "TCP6" => (
                words.next()?.parse::<Ipv6Addr>().ok()?.into(),
                words.next()?.parse::<Ipv6Addr>().ok()?.into(),
            ),
            _ => return None,
        };
        let addresses = Addresses {
            source: (source, port(words.next()?)?).into(),
            destination: (destination, port(words.next()?)?).into(),
        };
        words.next().is_none().then_some(Some(addresses))
    };
    match read() {
        Some(addresses) => Parsed::Header { len, addresses },
        None => Parsed::Not,
    }
}

/// Digits without a sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    (plain && !leading_zero).then(|| text.parse().ok())?
}

/// Version 2; the fixed part is there.
fn parse_binary(bytes: &[u8]) -> Parsed {
    let (kind, family) = (bytes[12], bytes[13]);
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if kind >> 4 != 2 || len > HEADER_BYTES_MAX {
        return Parsed::Not;
    }
    let Some(body) = bytes.get(FIXED_BYTES..len) else {
        return Parsed::More;
    };
    match kind & 0xf {
        // LOCAL: the proxy's own connection; the addresses mean nothing.
        0 => Parsed::Header {
            len,
            addresses: None,
        },
        // PROXY.
        1 => match binary_addresses(family, body) {
            Some(addresses) => Parsed::Header { len, addresses },
            None => Parsed::Not,
        },
        _ => Parsed::Not,
    }
}

/// The addresses of a version 2 header: the outer `None` when they are cut off or of a family that
/// there is not, the inner one when it is none of TCP's.
fn binary_addresses(family: u8, body: &[u8]) -> Option<Option<Addresses>> {
    match family {
        0x11 => {
            let body: &[u8; 12] = body.first_chunk()?;
            let [a, b, c, d, e, f, g, h, s1, s2, d1, d2] = *body;
            Some(Some(Addresses {
                source: (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([s1, s2])).into(),
                destination: (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([d1, d2])).into(),
            }))
        }
        0x21 => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let [s1, s2, d1, d2] = *rest.first_chunk()?;
            Some(Some(Addresses {
                source: (Ipv6Addr::from(*source), u16::from_be_bytes([s1, s2])).into(),
                destination: (Ipv6Addr::from(*destination), u16::from_be_bytes([d1, d2])).into(),
            }))
        }
        // Unspecified, datagrams and Unix sockets: nothing that is a client's address here.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(len: usize, source: &str, destination: &str) -> Parsed {
        Parsed::Header {
            len,
            addresses: Some(Addresses {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
            }),
        }
    }

    fn unknown(len: usize) -> Parsed {
        Parsed::Header {
            len,
            addresses: None,
        }
    }

    fn binary(kind: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[kind, family]);
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Every beginning of it is not yet one.
    #[track_caller]
    fn check(bytes: &[u8], want: Parsed) {
        let mut followed = bytes.to_vec();
        followed.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(parse(&followed), want);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parsed::More, "{end}");
        }
    }

    #[test]
    fn version_1_is_a_line() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n";
        check(
            line,
            header(line.len(), "192.0.2.1:5000", "198.51.100.2:443"),
        );
        let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        check(
            line,
            header(line.len(), "[2001:db8::1]:1", "[2001:db8::2]:65535"),
        );
        check(b"PROXY UNKNOWN\r\n", unknown(15));
        check(b"PROXY UNKNOWN a b c\r\n", unknown(21));
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = binary(
            0x21,
            0x11,
            &[192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 1, 187],
        );
        check(&v4, header(28, "192.0.2.1:5000", "198.51.100.2:443"));
        let mut body = [0; 36 + 5];
        (body[15], body[31], body[33], body[35]) = (1, 2, 80, 81);
        check(
            &binary(0x21, 0x21, &body),
            header(57, "[::1]:80", "[::2]:81"),
        );
        check(&binary(0x20, 0x00, &[]), unknown(16));
        check(&binary(0x20, 0x11, &[1, 2, 3]), unknown(19));
        check(&binary(0x21, 0x31, &[0; 216]), unknown(232));
    }

    #[test]
    fn what_is_no_header_is_not_taken() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443 x\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 0443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +500 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 65536\r\n",
            b"PROXY TCP4 2001:db8::1 198.51.100.2 5000 443\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.2 5000 443\r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.2 5000 443\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.2 5000 443\r\n",
            b"proxy UNKNOWN\r\n",
            b"PROXY \r\n",
            b"\x16\x03\x01",
        ] {
            assert_eq!(
                parse(bytes),
                Parsed::Not,
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
        assert_eq!(
            parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat()),
            Parsed::Not
        );
        assert_eq!(parse(&binary(0x11, 0x11, &[0; 12])), Parsed::Not);
        assert_eq!(parse(&binary(0x22, 0x11, &[0; 12])), Parsed::Not);
        assert_eq!(parse(&binary(0x21, 0x11, &[0; 11])), Parsed::Not);
        assert_eq!(parse(&binary(0x21, 0x21, &[0; 35])), Parsed::Not);
        assert_eq!(parse(&binary(0x21, 0x41, &[0; 12])), Parsed::Not);
        assert_eq!(
            parse(&binary(0x21, 0x11, &[0; HEADER_BYTES_MAX])),
            Parsed::Not
        );
    }

    proptest! {
        #[test]
        fn a_header_is_within_what_was_read(start in 0..3, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = [&b""[..], b"PROXY TCP4 ", SIGNATURE][start as usize].to_vec();
            bytes.extend(rest);
            if let Parsed::Header { len, .. } = parse(&bytes) {
                prop_assert!(len <= bytes.len());
                prop_assert_eq!(parse(&bytes[..len]), parse(&bytes));
            }
        }
    }
}
