//! The name service files of instances: which name servers they can reach, and who they are.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
};

use crate::network::Addresses;

/// The host's own file, and where systemd-resolved lists the servers behind its stub.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// What a resolver reads of them (`MAXNS` in resolv.h).
const SERVERS_MAX: usize = 3;

/// An instance's `resolv.conf`: the host's servers that are not the host itself, which instances
/// cannot reach; else `fallback`. Search domains and options are the host's. Blocks.
pub(crate) fn resolv_conf(fallback: &[IpAddr]) -> String {
    let texts = HOST_FILES
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    compose(texts, fallback, is_this_host)
}

/// An instance's `hosts`.
pub(crate) fn hosts(name: &str, addresses: &Addresses) -> String {
    let mut text = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{}\t{name}\n",
        addresses.ipv4
    );
    if let Some(ipv6) = addresses.ipv6 {
        text.push_str(&format!("{ipv6}\t{name}\n"));
    }
    text
}

fn compose(
    texts: impl Iterator<Item = String>,
    fallback: &[IpAddr],
    is_this_host: impl Fn(IpAddr) -> bool,
) -> String {
    let mut kept = String::new();
    let mut servers: Vec<IpAddr> = Vec::new();
    for text in texts {
        if kept.is_empty() {
            let wanted = |line: &&str| line.starts_with("search ") || line.starts_with("options ");
            kept = text
                .lines()
                .filter(wanted)
                .map(|line| format!("{line}\n"))
                .collect();
        }
        let named = text
            .lines()
            .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
        servers = named.filter(|server| !is_this_host(*server)).collect();
        if !servers.is_empty() {
            break;
        }
    }
    let servers = if servers.is_empty() {
        fallback
    } else {
        &servers
    };
    let lines = servers
        .iter()
        .take(SERVERS_MAX)
        .map(|server| format!("nameserver {server}\n"));
    lines.chain([kept]).collect()
}

/// Only an address of this host can be bound to.
fn is_this_host(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str], want: &str) {
        let fallback = ["9.9.9.9".parse().unwrap()];
        let texts = texts.iter().map(|text| (*text).to_owned());
        assert_eq!(
            compose(texts, &fallback, |address| address.is_loopback()),
            want
        );
    }

    #[test]
    fn servers_on_the_host_itself_are_replaced() {
        check(
            &["search example.org\nnameserver 10.0.0.1\noptions ndots:2\n"],
            "nameserver 10.0.0.1\nsearch example.org\noptions ndots:2\n",
        );
        check(
            &[
                "# stub\nnameserver 127.0.0.53\nsearch a\n",
                "nameserver 10.0.0.2\n",
            ],
            "nameserver 10.0.0.2\nsearch a\n",
        );
        check(
            &["nameserver 127.0.0.1\nnameserver ::1\n"],
            "nameserver 9.9.9.9\n",
        );
        check(&[], "nameserver 9.9.9.9\n");
        check(
            &["nameserver fe80::1%eth0\nnameserver 10.0.0.3\n"],
            "nameserver 10.0.0.3\n",
        );
    }
}
