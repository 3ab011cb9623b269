//! Forwarding: the host must pass packets between the bridge and the world.
//!
//! Switched on if it is off, the old values kept in a file, and put back by teardown. Forwarding of
//! IPv6 makes the kernel stop listening to router advertisements where `accept_ra` is 1
//! (ip-sysctl.rst): a host that has its address from one would lose it, so such interfaces are set
//! to 2, "even if forwarding is enabled", first.
//!
//! The table of neighbours is one for all network namespaces of the host (`gc_thresh*`, ip-sysctl.rst), and
//! each instance needs a place in it on both ends of its link: with the kernel's 1024 no more than about
//! five hundred can be spoken to. It is given room for as many as there may be.

use std::{collections::BTreeMap, fs, io, path::Path};

use tracing::warn;

use crate::durable;

const SYSCTL: &str = "/proc/sys";

/// Names below `/proc/sys` and the values they had.
type Saved = BTreeMap<String, String>;

/// Entries of the table of neighbours for each instance: its own and the gateway's, as much again for what
/// is about to be forgotten.
const NEIGHBOURS: u32 = 4;

/// Switches forwarding on, makes room for so many instances, and remembers in `record` what was changed.
/// Blocks. Idempotent.
///
/// # Errors
/// When forwarding cannot be switched on; the record is written first.
pub(crate) fn enable(record: &Path, places: u32) -> io::Result<()> {
    let value = |name: String, value: &str| (name, value.to_owned());
    let mut wanted = vec![value("net/ipv4/ip_forward".to_owned(), "1")];
    if Path::new("/proc/sys/net/ipv6").exists() {
        // Before forwarding, not after: an advertisement may come between.
        wanted.extend(
            advertised_interfaces()
                .into_iter()
                .map(|name| value(name, "2")),
        );
        wanted.push(value("net/ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    wanted.retain(|(name, value)| get(name) != *value);
    let low = neighbours(places);
    if wanted.is_empty() && low.is_empty() {
        return Ok(());
    }
    let mut saved: Saved = durable::read_json(record)?.unwrap_or_default();
    for (name, _) in wanted.iter().chain(&low) {
        saved.entry(name.clone()).or_insert_with(|| get(name));
    }
    durable::write_json(record, &saved)?;
    wanted
        .iter()
        .try_for_each(|(name, value)| set(name, value))?;
    for (name, value) in &low {
        // Fewer instances are better than none.
        if let Err(error) = set(name, value) {
            warn!(name, value, %error, "cannot make room for the neighbours of all instances");
        }
    }
    Ok(())
}

/// Puts back what [`enable`] changed, in the reverse order. Blocks.
///
/// # Errors
/// When a value cannot be written.
pub(crate) fn restore(record: &Path) -> io::Result<()> {
    let saved: Saved = durable::read_json(record)?.unwrap_or_default();
    for (name, value) in saved.iter().rev() {
        match set(name, value) {
            // An interface that has gone has nothing to be put back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    match fs::remove_file(record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The bounds of the tables of neighbours that are too low. From the first on, entries that nobody uses
/// are forgotten; at the third there is no new one.
fn neighbours(places: u32) -> Vec<(String, String)> {
    let most = places.saturating_mul(NEIGHBOURS);
    let bounds = [
        ("gc_thresh3", most),
        ("gc_thresh2", most / 2),
        ("gc_thresh1", most / 4),
    ];
    let named = ["ipv4", "ipv6"].into_iter().flat_map(|family| {
        bounds.map(|(bound, value)| (format!("net/{family}/neigh/default/{bound}"), value))
    });
    // One that is not there cannot be read.
    let low = named.filter(|(name, value)| get(name).parse::<u32>().is_ok_and(|now| now < *value));
    low.map(|(name, value)| (name, value.to_string())).collect()
}

/// The `accept_ra` of each interface where it is 1.
fn advertised_interfaces() -> Vec<String> {
    let interfaces = fs::read_dir("/proc/sys/net/ipv6/conf")
        .into_iter()
        .flatten()
        .flatten();
    interfaces
        .filter_map(|entry| entry.file_name().into_string().ok())
        // Bridges of Ekiden hear no router.
        .filter(|interface| !interface.starts_with("ek"))
        .map(|interface| format!("net/ipv6/conf/{interface}/accept_ra"))
        .filter(|name| get(name) == "1")
        .collect()
}

fn get(name: &str) -> String {
    fs::read_to_string(Path::new(SYSCTL).join(name))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new(SYSCTL).join(name), value)
}
