//! The edge alone, for benchmarks: every host name given goes to every upstream given.
//!
//! ```text
//! standalone <listen address> <workers> <upstream address>[,...] <host name>[,...] [access log]
//! ```

use std::{error::Error, fs, net::SocketAddr, path::PathBuf};

use ekiden_edge::{config::EdgeConfig, listener::ListenerGroup};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    instance::RevisionNumber,
    route::{Route, RouteState, Upstream},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &str| arguments.next().ok_or(format!("missing argument: {name}"));
    let listen: SocketAddr = argument("listen address")?.parse()?;
    let workers: usize = argument("workers")?.parse()?;
    let upstreams = argument("upstream addresses")?
        .split(',')
        .enumerate()
        .map(|(index, address)| {
            Ok(Upstream {
                instance: InstanceId::from_bytes([index as u8 + 1; 16]),
                revision: RevisionNumber(1),
                address: address.parse()?,
            })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let route = Route {
        service: ServiceId::from_bytes([1; 16]),
        service_name: "bench".parse()?,
        hosts: argument("host names")?
            .split(',')
            .map(str::to_owned)
            .collect(),
        private_hosts: Vec::new(),
        state: RouteState::Serving,
        concurrency_per_instance: 100_000,
        upstreams,
        ingress: Box::default(),
    };

    // The table that an edge saves is also the way to give one to an edge without control.
    let data_dir = std::env::temp_dir().join(format!("ekiden-edge-{}", std::process::id()));
    fs::create_dir_all(&data_dir)?;
    let table = serde_json::json!({ "version": 1, "generation": 1, "routes": [route] });
    fs::write(data_dir.join("routes.json"), serde_json::to_vec(&table)?)?;

    let mut config = EdgeConfig::new(&data_dir);
    config.access_log = arguments.next().map(PathBuf::from);
    let listeners = vec![ListenerGroup::bind(listen, workers)?];
    let served = ekiden_edge::run(config, listeners, data_dir.join("no-control.sock"));
    fs::remove_dir_all(&data_dir)?;
    Ok(served?)
}
