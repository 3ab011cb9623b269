//! The edge alone, by a table from a file: for benchmarks, and for suites that attack it.
//!
//! ```text
//! standalone <data directory> <workers> <address> [<address for TLS>] [<bound>=<milliseconds or number> ...]
//! ```
//!
//! The data directory holds `routes.json` and `certificates.json`, in the form that an edge saves
//! its table and certificates in. The access log is `access.log` beside them. The bounds are those of
//! `Bounds`, by their names.

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use ekiden_edge::{
    config::{AccessLogConfig, Bounds, EdgeConfig},
    listener::ListenerGroup,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &str| arguments.next().ok_or(format!("missing argument: {name}"));
    let data_dir: PathBuf = argument("data directory")?.into();
    let workers: usize = argument("workers")?.parse()?;
    let listen: SocketAddr = argument("address")?.parse()?;
    let mut listeners = vec![ListenerGroup::bind(listen, workers)?];

    let mut config = EdgeConfig::new(&data_dir);
    // Nobody will speak.
    config.bounds.control_wait = Duration::ZERO;
    config.access_log = Some(AccessLogConfig::new(data_dir.join("access.log")));
    for word in arguments {
        match word.split_once('=') {
            Some((name, value)) => set(&mut config.bounds, name, value.parse()?)?,
            None => listeners.push(ListenerGroup::bind(word.parse()?, workers)?.tls()),
        }
    }
    let control = data_dir.join("no-control.sock");
    Ok(ekiden_edge::run(config, listeners, control)?)
}

/// Sets a bound: times are in milliseconds.
fn set(bounds: &mut Bounds, name: &str, value: u64) -> Result<(), Box<dyn Error>> {
    let time = Duration::from_millis(value);
    let count = usize::try_from(value)?;
    match name {
        "head_time" => bounds.head_time = time,
        "keep_alive_idle" => bounds.keep_alive_idle = time,
        "body_idle" => bounds.body_idle = time,
        "response_idle" => bounds.response_idle = time,
        "client_write_idle" => bounds.client_write_idle = time,
        "connect_time" => bounds.connect_time = time,
        "connections_per_worker" => bounds.connections_per_worker = count,
        "idle_upstreams_per_instance" => bounds.idle_upstreams_per_instance = count,
        "queue_requests" => bounds.queue_requests = count,
        "queue_time" => bounds.queue_time = time,
        "upstream_idle" => bounds.upstream_idle = time,
        _ => return Err(format!("no bound has the name `{name}`").into()),
    }
    Ok(())
}
