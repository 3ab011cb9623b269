//! The packet filter: one nftables table, installed whole in one transaction when the agent starts.
//!
//! By default an instance reaches the internet, and neither another instance, nor any socket of the
//! host on any of its addresses, nor the link-local range where clouds keep their metadata. No call
//! per instance: the rules speak of the bridge, not of who is on it.
//!
//! An `accept` here does not overrule a `drop` in another table at the same hook (nft(8)): a host
//! whose own tables drop forwarded packets must let the bridge through.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use ipnet::{Ipv4Net, Ipv6Net};

/// Why the table could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// There is no `nft`.
    #[error(
        "`nft` was not found: install the package `nftables`, without it instances are not isolated"
    )]
    Missing,
    /// It could not be run.
    #[error("cannot run `nft`")]
    Run(#[source] io::Error),
    /// It refused.
    #[error("`nft` refused Ekiden's rules, is nf_tables in this kernel? It said: {said}")]
    Refused {
        /// Its first lines.
        said: String,
    },
}

/// Installs the table for the bridge, in place of what was there under its name. Blocks.
///
/// # Errors
/// When `nft` is missing or refuses.
pub(crate) fn install(
    name: &str,
    bridge: &str,
    ipv4: Ipv4Net,
    ipv6: Ipv6Net,
) -> Result<(), FirewallError> {
    run(&rules(name, bridge, ipv4, ipv6))
}

/// Removes the table; a missing one is success. Blocks.
///
/// # Errors
/// When `nft` is missing or refuses.
pub(crate) fn remove(name: &str) -> Result<(), FirewallError> {
    let table = table(name);
    run(&format!(
        "add table inet {table}\ndelete table inet {table}\n"
    ))
}

/// Ekiden names have no underscore, so that two of them cannot share a table.
fn table(name: &str) -> String {
    format!("ekiden_{}", name.replace('-', "_"))
}

fn rules(name: &str, bridge: &str, ipv4: Ipv4Net, ipv6: Ipv6Net) -> String {
    let table = table(name);
    // `add` before `delete`, because deleting what is not there would fail the transaction.
    format!(
        r#"add table inet {table}
delete table inet {table}
table inet {table} {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname != "{bridge}" accept
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
    reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    oifname "{bridge}" ct state established,related accept
    iifname "{bridge}" jump from_instances
    oifname "{bridge}" drop
  }}
  chain from_instances {{
    oifname "ek-*" reject with icmpx type admin-prohibited
    ip daddr 169.254.0.0/16 reject with icmpx type admin-prohibited
    ip6 daddr {{ fe80::/10, fd00:ec2::254, fd20:ce::254 }} reject with icmpx type admin-prohibited
    accept
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname != "{bridge}" ip saddr {ipv4} masquerade
    oifname != "{bridge}" ip6 saddr {ipv6} masquerade
  }}
}}
"#
    )
}

fn run(rules: &str) -> Result<(), FirewallError> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        // Debian has it where an unprivileged PATH does not look.
        .env(
            "PATH",
            "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin",
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FirewallError::Missing,
            _ => FirewallError::Run(error),
        })?;
    if let Some(mut input) = nft.stdin.take() {
        input
            .write_all(rules.as_bytes())
            .map_err(FirewallError::Run)?;
    }
    let output = nft.wait_with_output().map_err(FirewallError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(FirewallError::Refused {
        said: said.lines().take(3).collect::<Vec<_>>().join("; "),
    })
}
