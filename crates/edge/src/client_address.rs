//! Who the client is: the peer, or whom a trusted proxy in front of the edge says it is.
//!
//! Of a list of addresses that several proxies have added to, only what trusted ones added is worth
//! anything: the client is the rightmost address that is no trusted proxy's. Whatever stands to the
//! left of it was written by that client itself.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use httparse::Header;
use ipnet::IpNet;

use crate::{access_log::ConnectionText, forward, listener::Door};

/// Addresses of one `X-Forwarded-For` that are looked at, from the right; whoever is reached then is
/// the client.
const HOPS_MAX: usize = 32;

/// Parts of the table of connections, each with a lock of its own.
const SHARDS: usize = 16;

/// How a client reached the first of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// In the clear.
    Http,
    /// By TLS.
    Https,
}

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Who is at its other end: a client, or a proxy.
    pub(crate) client: Client,
    /// At which door it came in.
    pub(crate) door: Door,
    /// The port that the client connected to.
    port: u16,
    /// Whether what it says of other clients is believed.
    is_trusted: bool,
    /// `X-Forwarded-For` and its like, ready to append.
    pub(crate) fields: Box<[u8]>,
    /// What the access log says of it.
    pub(crate) log_text: ConnectionText,
    protocol: Protocol,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// As ALPN has it: `http/1.1` or `h2`.
    pub(crate) name: &'static str,
    /// The version of TLS without its name, such as `1.3`.
    pub(crate) tls: Option<&'static str>,
}

/// A client that a trusted proxy told of, and what is the same for its requests.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) client: Client,
    pub(crate) fields: Box<[u8]>,
    pub(crate) log_text: ConnectionText,
}

impl Origin {
    /// Of a connection from `peer` to `local`.
    pub(crate) fn new(
        peer: SocketAddr,
        local: SocketAddr,
        protocol: Protocol,
        door: Door,
        trusted: &TrustedProxies,
    ) -> Self {
        let client = Client {
            address: peer.ip().to_canonical(),
            scheme: match protocol.tls {
                Some(_) => Scheme::Https,
                None => Scheme::Http,
            },
        };
        Self {
            client,
            door,
            port: local.port(),
            is_trusted: trusted.trusts(client.address),
            fields: forward::connection_fields(&client, local.port()),
            log_text: ConnectionText::new(&client, protocol),
            protocol,
        }
    }

    /// The connection goes on in HTTP/2.
    pub(crate) fn goes_on_in_http2(&mut self) {
        self.protocol.name = "h2";
        self.log_text = ConnectionText::new(&self.client, self.protocol);
    }

    /// The client of a request, if a trusted proxy sent it and tells of one.
    pub(crate) fn told_of(&self, fields: &[Header<'_>], trusted: &TrustedProxies) -> Option<Told> {
        if !self.is_trusted {
            return None;
        }
        let values = |name| field_values(fields, name);
        let client = trusted.client(
            self.client,
            values("x-forwarded-for"),
            values("x-forwarded-proto"),
        );
        (client != self.client).then(|| Told {
            client,
            fields: forward::connection_fields(&client, self.port),
            log_text: ConnectionText::new(&client, self.protocol),
        })
    }
}

/// The values of a field, in their order.
pub(crate) fn field_values<'h>(
    fields: &'h [Header<'_>],
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// Proxies whose word is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

/// What is known of a request's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address, in its canonical form.
    pub(crate) address: IpAddr,
    /// How it reached the first of us.
    pub(crate) scheme: Scheme,
}

impl Scheme {
    /// As it is in a URL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl TrustedProxies {
    /// These networks' addresses.
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether a peer's forwarding fields are believed. To be asked once for a connection.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that a trusted peer sent: `peer` is what is known of the connection,
    /// `forwarded_for` and `forwarded_proto` are the values of `X-Forwarded-For` and
    /// `X-Forwarded-Proto`, in their order.
    pub(crate) fn client<'v>(
        &self,
        peer: Client,
        forwarded_for: impl DoubleEndedIterator<Item = &'v [u8]>,
        forwarded_proto: impl DoubleEndedIterator<Item = &'v [u8]>,
    ) -> Client {
        let mut address = peer.address;
        for hop in from_the_right(forwarded_for).take(HOPS_MAX) {
            // What is no address ends the chain: the last one that is has sent it.
            let Some(hop) = parse_address(hop) else { break };
            address = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        let scheme = match from_the_right(forwarded_proto).next() {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            Some(_) | None => peer.scheme,
        };
        Client { address, scheme }
    }
}

/// The members of a list that several fields of one name make, the last first.
fn from_the_right<'v>(
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
) -> impl Iterator<Item = &'v [u8]> {
    values
        .rev()
        .flat_map(|value| value.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// An address, perhaps with a port, as proxies write them.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

/// How many connections each client has, over all workers. A client is an IPv4 address or an IPv6
/// /64, which is what one customer is given at least.
///
/// Looked at when a connection comes and goes, never by a request.
#[derive(Debug)]
pub(crate) struct ClientConnections {
    max: u32,
    hasher: RandomState,
    shards: [Mutex<HashMap<ClientKey, u32>>; SHARDS],
}

type ClientKey = u128;

/// One connection of a client; given back by dropping it.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    connections: Arc<ClientConnections>,
    key: ClientKey,
}

impl ClientConnections {
    /// None yet; each client may have `max`, or any number when 0.
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Counts one more, unless it is too many. With no bound nothing is counted.
    pub(crate) fn enter(
        self: &Arc<Self>,
        client: IpAddr,
    ) -> Result<Option<ClientConnection>, TooMany> {
        if self.max == 0 {
            return Ok(None);
        }
        let key = key(client);
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_default();
        if *count >= self.max {
            return Err(TooMany);
        }
        *count += 1;
        drop(shard);
        Ok(Some(ClientConnection {
            connections: Arc::clone(self),
            key,
        }))
    }

    fn shard(&self, key: ClientKey) -> std::sync::MutexGuard<'_, HashMap<ClientKey, u32>> {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        // A count is whole at every instant, whoever panicked.
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

fn key(client: IpAddr) -> ClientKey {
    match client.to_canonical() {
        // Apart from every /64.
        IpAddr::V4(address) => u128::from(address.to_bits()) | 1 << 63,
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        let mut shard = self.connections.shard(self.key);
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(forwarded_for: &[&str], want: &str) {
        let trusted = TrustedProxies::new(vec![
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ]);
        let peer = Client {
            address: address("10.0.0.1"),
            scheme: Scheme::Http,
        };
        let values = forwarded_for.iter().map(|value| value.as_bytes());
        let found = trusted.client(peer, values, std::iter::empty());
        assert_eq!(found.address, address(want));
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_trusted_proxy() {
        check(&[], "10.0.0.1");
        check(&["192.0.2.1"], "192.0.2.1");
        check(&["1.1.1.1, 192.0.2.1, 10.9.9.9"], "192.0.2.1");
        check(
            &["1.1.1.1", "192.0.2.1,10.9.9.9", "2001:db8::5"],
            "192.0.2.1",
        );
        check(&["10.1.1.1, 10.2.2.2"], "10.1.1.1");
        check(&["192.0.2.1:5000"], "192.0.2.1");
        check(&["[2a00::1]:5000"], "2a00::1");
        check(&["[2a00::1]"], "2a00::1");
        check(&["::ffff:192.0.2.1"], "192.0.2.1");
        check(&[" , 192.0.2.1 , "], "192.0.2.1");
    }

    #[test]
    fn what_is_no_address_ends_the_chain_of_proxies() {
        check(&["192.0.2.1, unknown, 10.2.2.2"], "10.2.2.2");
        check(&["garbage"], "10.0.0.1");
        check(&["192.0.2.1, \u{e4}"], "10.0.0.1");
        let long = vec!["10.3.3.3"; 1000].join(",");
        check(&["192.0.2.1", &long], "10.3.3.3");
    }

    #[test]
    fn the_scheme_is_what_the_nearest_proxy_says() {
        let trusted = TrustedProxies::default();
        let peer = Client {
            address: address("10.0.0.1"),
            scheme: Scheme::Http,
        };
        for (values, want) in [
            (&["http, HTTPS"][..], Scheme::Https),
            (&["https", "http"], Scheme::Http),
            (&["gopher"], Scheme::Http),
            (&[], Scheme::Http),
        ] {
            let protos = values.iter().map(|value| value.as_bytes());
            let found = trusted.client(peer, std::iter::empty(), protos);
            assert_eq!(found.scheme, want, "{values:?}");
        }
    }

    #[test]
    fn a_client_has_no_more_connections_than_it_may() {
        let connections = Arc::new(ClientConnections::new(2));
        let enter = |text: &str| connections.enter(address(text));
        let (first, second) = (
            enter("192.0.2.1").unwrap(),
            enter("::ffff:192.0.2.1").unwrap(),
        );
        assert!(enter("192.0.2.1").is_err());
        let other = enter("192.0.2.2").unwrap();
        drop(first);
        let third = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_err());
        // One /64 is one client.
        let network = (
            enter("2001:db8::1").unwrap(),
            enter("2001:db8::ffff:1").unwrap(),
        );
        assert!(enter("2001:db8::2").is_err());
        assert!(enter("2001:db8:0:1::1").is_ok());
        drop((second, third, other, network));
        assert!(
            connections
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let connections = Arc::new(ClientConnections::new(0));
        assert!(connections.enter(address("192.0.2.1")).unwrap().is_none());
    }
}
