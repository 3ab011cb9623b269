//! What each role is made of: its settings, its sockets, its runtime.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use anyhow::Context;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD as BASE64, BASE64_URL_SAFE_NO_PAD as BASE64_URL},
};
use ekiden_agent::{
    config::AgentConfig,
    image::{
        settings::{ImageSettings, Login, RegistrySettings},
        store::ImageStore,
    },
    server,
};
use ekiden_control::{
    AcmeConfig, BuildsConfig, CertificatesConfig, ChallengeKind, ControlConfig, DnsUpdates,
    DomainValidation, Handshake, LogsConfig, References, RegistryConfig, TelemetryConfig,
};
use ekiden_edge::{
    Edge,
    config::{AccessLogConfig, Bounds, EdgeConfig},
    listener::{Door, Entrance, ListenerGroup, Preamble, Transport},
};
use ekiden_engine::remote::AgentClient;
use ekiden_model::{plan::Timing, repository::ENGINE_USER, scaling::ScalingDefaults};
use zeroize::Zeroizing;

use crate::{
    channel::Start,
    config::{Acme, AcmeChallenge, Config, Registry},
    layout,
    link::Link,
    listeners::Purpose,
    role::Role,
};

/// Threads that wait for many things at once in the agent; what blocks has its own.
const AGENT_THREADS: usize = 2;

/// A password file is a password, not a disk.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Runs the role until it is told to stop.
///
/// # Errors
/// The role cannot begin, or cannot go on.
pub fn run(start: Start, sockets: Vec<OwnedFd>, link: &Link) -> anyhow::Result<()> {
    let sockets = start.listeners.into_iter().zip(sockets).collect();
    match start.role {
        Role::Edge => edge(&start.config, sockets, link),
        Role::Control => control(&start.config, sockets, link),
        Role::Agent => agent(&start.config, sockets, link),
    }
}

type Sockets = Vec<(Purpose, OwnedFd)>;

fn edge(config: &Config, sockets: Sockets, link: &Link) -> anyhow::Result<()> {
    let edge = Edge::start(
        edge_config(config),
        listener_groups(config, sockets),
        config.edge_socket(),
    );
    let mut edge = edge?;
    link.ready();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            () = link.stop.cancelled() => {}
            () = edge.ended() => {}
        }
    });
    edge.stop();
    Ok(edge.join()?)
}

/// Where distributions keep the certificates that a host trusts: Debian's, and Red Hat's.
const HOST_AUTHORITIES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

fn control(config: &Config, sockets: Sockets, link: &Link) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut api = None;
    let mut edges = None;
    for (purpose, socket) in sockets {
        match purpose {
            Purpose::Api { .. } => api = Some(TcpListener::from(socket)),
            Purpose::Routes => edges = Some(UnixListener::from(socket)),
            Purpose::Edge { .. } | Purpose::EdgeTls { .. } | Purpose::Agent => {}
        }
    }
    let api = api.context("control was given no socket for its API")?;
    let edges = edges.context("control was given no socket for the edge")?;
    runtime.block_on(async {
        let engine = AgentClient::connect(&config.agent_socket());
        let (config, stop) = (control_config(config)?, link.stop.clone());
        ekiden_control::run(config, engine, api, edges, || link.ready(), stop).await?;
        anyhow::Ok(())
    })?;
    Ok(())
}

fn agent(config: &Config, sockets: Sockets, link: &Link) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(AGENT_THREADS)
        .enable_all()
        .build()?;
    let listener = sockets
        .into_iter()
        .find(|(purpose, _)| *purpose == Purpose::Agent);
    let (_, listener) = listener.context("the agent was given no socket")?;
    runtime.block_on(async {
        let images = config.data_dir.join("agent").join("images");
        let store = ImageStore::open(images, image_settings(config)?).await?;
        let listener = tokio::net::UnixListener::from_std(UnixListener::from(listener))?;
        // The agent looks at this for the first time when it serves.
        let stop = async {
            link.ready();
            link.stop.cancelled().await;
        };
        server::run(agent_config(config), store, listener, stop).await?;
        anyhow::Ok(())
    })
}

/// What the agent is told, and what taking it away needs to know.
pub fn agent_config(config: &Config) -> AgentConfig {
    let (data_dir, run_dir) = (config.data_dir.clone(), config.run_dir.clone());
    AgentConfig {
        ipv4: config.network.ipv4,
        ipv6: config.network.ipv6,
        dns: config.network.dns.clone(),
        memory_reserve: config.host.memory_reserve,
        sources_dir: config
            .data_dir
            .join("control")
            .join("sources")
            .join("trees"),
        build_authorities: build_authorities(config),
        allowed_uids: vec![Role::Control.user(config)],
        ..AgentConfig::new(&config.name, data_dir, run_dir)
    }
}

fn edge_config(config: &Config) -> EdgeConfig {
    let edge = &config.edge;
    EdgeConfig {
        data_dir: config.data_dir.join("edge"),
        access_log: config.access_log().map(|path| AccessLogConfig {
            path,
            bytes: edge.access_log_bytes,
            files: edge.access_log_files as u32,
            sample: edge.access_log_sample as u32,
        }),
        trusted_proxies: edge.trusted_proxies.clone(),
        https_port: edge.listen_tls.first().map_or(443, SocketAddr::port),
        bounds: Bounds {
            head_time: edge.header_time,
            keep_alive_idle: edge.keep_alive,
            response_idle: edge.response_idle,
            connections_per_client: edge.connections_per_client as u32,
            queue_requests: edge.queue_requests as usize,
            queue_time: edge.queue_time,
            drain_time: config.service.drain_limit,
            ..Bounds::default()
        },
    }
}

/// The headers that the collector wants, from their file.
fn otlp_headers(config: &Config) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(path) = &config.telemetry.otlp_headers else {
        return Ok(BTreeMap::new());
    };
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read `{}` of `telemetry.otlp_headers`",
            path.display()
        )
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let headers = lines.enumerate().map(|(index, line)| {
        let (name, value) = line.split_once(':').with_context(|| {
            // Never the line itself: it may be a secret.
            format!(
                "line {} of `{}` is no `name: value`",
                index + 1,
                path.display()
            )
        })?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    });
    headers.collect()
}

fn control_config(config: &Config) -> anyhow::Result<ControlConfig> {
    Ok(ControlConfig {
        data_dir: config.data_dir.join("control"),
        edge_uids: vec![Role::Edge.user(config)],
        account_id: config.api.account_id.clone(),
        domain: config.service.domain.clone(),
        timing: Timing {
            startup_limit: config.service.start_limit,
            drain_limit: config.service.drain_limit,
            stop_grace: config.service.stop_grace,
        },
        scaling: ScalingDefaults {
            scale_in_delay: config.service.scale_in_delay,
            idle_to_zero: config.service.idle_to_zero,
            throttle_after: config.service.throttle_after,
            freeze_after: config.service.freeze_after,
            ..ScalingDefaults::default()
        },
        quotas: config.quota,
        handshake: match config.api.automatic_connections {
            true => Handshake::Automatic,
            false => Handshake::Manual,
        },
        references: match config.api.strict_references {
            true => References::Strict,
            false => References::Lenient,
        },
        domain_validation: match (config.service.assume_domains, config.service.validation_dns) {
            (true, _) => DomainValidation::Assumed,
            (false, Some(server)) => DomainValidation::DnsAt(server),
            (false, None) => DomainValidation::Dns,
        },
        prebuilt: config
            .sources
            .prebuilt
            .iter()
            .filter_map(|(url, image)| Some((url.clone(), image.parse().ok()?)))
            .collect(),
        registry: RegistryConfig {
            budget: config.registry.budget,
            endpoint: format!("http://{}", registry_address(config)),
            names: registry_names(config),
            others: config.images.registries.keys().cloned().collect(),
            poll_others: config.images.poll,
            pull_key: fs::read_to_string(layout::pull_key(config)).ok(),
        },
        builds: builds_config(config)?,
        telemetry: TelemetryConfig {
            otlp: config.telemetry.otlp.clone(),
            otlp_headers: otlp_headers(config)?,
            otlp_authorities: config.telemetry.otlp_authorities.clone(),
            sample_per_million: config.telemetry.sample_per_million as u32,
            client_decides: config.telemetry.trust_clients,
            instances: config.telemetry.instances.clone(),
        },
        logs: LogsConfig {
            group_bytes_max: config.logs.group_budget,
            total_bytes_max: config.logs.budget,
            disk_free_bytes_min: config.logs.disk_reserve,
            access_log: config.access_log().filter(|_| config.logs.requests),
        },
        certificates: CertificatesConfig {
            listening: !config.edge.listen_tls.is_empty(),
            local_domains: config.tls.local_domains,
            acme: acme_config(&config.acme)?,
        },
    })
}

fn builds_config(config: &Config) -> anyhow::Result<BuildsConfig> {
    let (builds, sources) = (&config.builds, &config.sources);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu_millis = match builds.cpu_millis {
        0 => cpus as u64 * 1000,
        given => given,
    };
    let runtimes = match &builds.runtimes {
        None => Vec::new(),
        Some(dir) => read_runtimes(dir).with_context(|| {
            format!(
                "cannot read the runtimes in `{}`; control's user (`users.control`) has to be able to",
                dir.display()
            )
        })?,
    };
    Ok(BuildsConfig {
        concurrency: builds.concurrency as usize,
        time_limit: builds.time_limit,
        cpu_millis: cpu_millis as u32,
        memory_bytes: builds.memory,
        disk_bytes: builds.disk,
        cache_bytes_max: builds.cache,
        runtimes,
        source_bytes_max: sources.size,
        local_sources: sources.local.clone(),
        poll: sources.poll,
        authorities: build_authorities(config),
    })
}

/// The authorities that builds trust: as it is set, or else those that the host does.
fn build_authorities(config: &Config) -> Option<PathBuf> {
    let host = || {
        let known = HOST_AUTHORITIES.map(PathBuf::from);
        known.into_iter().find(|path| path.exists())
    };
    config.builds.ca_certificates.clone().or_else(host)
}

/// The files of a directory that describe runtimes, by name.
fn read_runtimes(dir: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml");
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && is_yaml
        {
            files.push((name.to_owned(), fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

fn acme_config(acme: &Acme) -> anyhow::Result<Option<AcmeConfig>> {
    let Some(directory) = &acme.directory else {
        return Ok(None);
    };
    let external_account = match (&acme.eab_key_id, &acme.eab_key_file) {
        (Some(id), Some(file)) => Some((id.clone(), read_key(file, &BASE64_URL)?)),
        _ => None,
    };
    let key = acme.dns_key_file.as_ref();
    let key = key.map(|file| read_key(file, &BASE64)).transpose()?;
    let dns = match (acme.challenge, acme.dns_server) {
        (AcmeChallenge::Dns01, Some(server)) => Some(DnsUpdates {
            server,
            key_name: acme.dns_key_name.clone(),
            key: key.unwrap_or_default(),
        }),
        _ => None,
    };
    let fallback = acme.fallback_directory.clone();
    Ok(Some(AcmeConfig {
        directories: [directory.clone()].into_iter().chain(fallback).collect(),
        email: acme.email.clone(),
        challenge: match acme.challenge {
            AcmeChallenge::Http01 => ChallengeKind::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
            AcmeChallenge::Dns01 => ChallengeKind::Dns01,
        },
        root: acme.root.clone(),
        external_account,
        default_domain: acme.default_domain,
        dns,
        on_demand: acme.on_demand.clone(),
    }))
}

/// A key in a file, as base64 of one of its alphabets.
fn read_key(file: &Path, alphabet: &impl Engine) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let text = read_password(file).with_context(|| {
        format!(
            "cannot read the key in `{}`; control's user (`users.control`) has to be able to",
            file.display()
        )
    })?;
    let text = Zeroizing::new(text);
    let key = alphabet.decode(text.trim().trim_end_matches('='));
    let key = key.map_err(|_| anyhow::anyhow!("`{}` does not hold base64", file.display()))?;
    Ok(Zeroizing::new(key))
}

/// Where the built-in registry is found on this host: at the API.
fn registry_address(config: &Config) -> SocketAddr {
    let mut address = config.api.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// How image references name it: the API's address, ECR's names of the account, and what is set.
fn registry_names(config: &Config) -> Vec<String> {
    let address = registry_address(config);
    let mut names = vec![
        address.to_string(),
        format!("{}.dkr.ecr.*.amazonaws.com", config.api.account_id),
    ];
    if address.ip().is_loopback() {
        names.push(format!("localhost:{}", address.port()));
    }
    names.extend(config.registry.names.iter().cloned());
    names
}

fn image_settings(config: &Config) -> anyhow::Result<ImageSettings> {
    let mut settings = ImageSettings {
        budget_bytes: config.images.budget,
        scratch: Some(config.data_dir.join("bases")),
        ..ImageSettings::default()
    };
    for (host, registry) in &config.images.registries {
        settings
            .registries
            .insert(host.clone(), registry_settings(host, registry)?);
    }
    let own = registry_address(config).to_string();
    if let Ok(key) = fs::read_to_string(layout::pull_key(config)) {
        let login = Login::new(ENGINE_USER, key);
        let own_settings = RegistrySettings {
            plain_http: Some(true),
            login: Some(login),
            ..RegistrySettings::default()
        };
        settings
            .registries
            .entry(own.clone())
            .or_insert(own_settings);
    }
    let names = registry_names(config).into_iter();
    settings.aliases = names.map(|name| (name, own.clone())).collect();
    Ok(settings)
}

fn registry_settings(host: &str, registry: &Registry) -> anyhow::Result<RegistrySettings> {
    let login = match (&registry.username, &registry.password_file) {
        (None, None) => None,
        (Some(username), Some(file)) => {
            let password = read_password(file).with_context(|| {
                format!(
                    "cannot read the password of registry `{host}` in `{}`",
                    file.display()
                )
            })?;
            Some(Login::new(username, password))
        }
        _ => {
            anyhow::bail!("registry `{host}` needs both `username` and `password_file`, or neither")
        }
    };
    Ok(RegistrySettings {
        mirror: registry.mirror.clone(),
        plain_http: registry.plain_http,
        login,
    })
}

/// The file's text without the newline that editors add.
fn read_password(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > PASSWORD_BYTES_MAX {
        return Err(io::Error::other("longer than 64 KiB"));
    }
    let text = fs::read_to_string(file)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The edge's sockets by address, in the order of the configuration.
fn listener_groups(config: &Config, sockets: Sockets) -> Vec<ListenerGroup> {
    let edge = &config.edge;
    let group = |transport, address: &SocketAddr| {
        let entrance = Entrance {
            transport,
            door: match edge.listen_private.contains(address) {
                true => Door::Private,
                false => Door::Public,
            },
            preamble: match edge.proxy_protocol.contains(address) {
                true => Preamble::Proxy,
                false => Preamble::None,
            },
        };
        let sockets = Vec::new();
        (*address, ListenerGroup { entrance, sockets })
    };
    let plain = edge.listen.iter().map(|at| group(Transport::Plain, at));
    let tls = edge.listen_tls.iter().map(|at| group(Transport::Tls, at));
    let mut groups: Vec<_> = plain.chain(tls).collect();
    for (purpose, socket) in sockets {
        let of = match purpose {
            Purpose::Edge { address, .. } => (Transport::Plain, address),
            Purpose::EdgeTls { address, .. } => (Transport::Tls, address),
            Purpose::Api { .. } | Purpose::Agent | Purpose::Routes => continue,
        };
        let same = |(address, group): &&mut (SocketAddr, ListenerGroup)| {
            (group.entrance.transport, *address) == of
        };
        if let Some((_, group)) = groups.iter_mut().find(same) {
            group.sockets.push(TcpListener::from(socket));
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}
