//! What was meant: the settings of one Ekiden, checked.
//!
//! Configuration is read in two steps. [`typed`] collects what was typed, from the file, the
//! environment and flags, with where each value came from. [`Config`] is what was meant, and
//! cannot hold nonsense: every value passed the form that [`setting::SETTINGS`] gives it, and the
//! values that must agree with each other were compared. The default of every setting is
//! [`Config::default`].

pub mod setting;
pub mod typed;

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Component, Path, PathBuf},
    thread,
    time::Duration,
};

use ekiden_control::Quotas;
use ekiden_model::{
    scale::{IDLE_TO_ZERO, SCALE_IN_DELAY},
    scaling::THROTTLE_AFTER,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use self::typed::{Origin, Typed};

/// The most sockets the edge listens on, workers times addresses: they travel between processes
/// in one message, which holds 253 descriptors (`SCM_MAX_FD`, unix(7)) and other listeners too.
pub const EDGE_SOCKETS_MAX: usize = 240;

/// The longest `run_dir`: a shim's socket below it must fit `sun_path`, 108 bytes (unix(7)).
const RUN_DIR_BYTES_MAX: usize = 57;

/// Everything that can be set. Holds no secret: passwords stay in the files it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Tells several Ekidens on one host apart.
    pub name: String,
    /// What must last.
    pub data_dir: PathBuf,
    /// Sockets and `status.json`.
    pub run_dir: PathBuf,
    /// The front door.
    pub edge: Edge,
    /// The API's endpoint.
    pub api: Api,
    /// Certificates without an authority elsewhere.
    pub tls: Tls,
    /// Certificates of authorities elsewhere.
    pub acme: Acme,
    /// What holds for every service.
    pub service: Service,
    /// How many of what there may be.
    pub quota: Quotas,
    /// Deployments from source.
    pub sources: Sources,
    /// Builds.
    pub builds: Builds,
    /// The instances' network.
    pub network: Network,
    /// What is kept of the host.
    pub host: Host,
    /// Images and where they come from.
    pub images: Images,
    /// The built-in registry.
    pub registry: OwnRegistry,
    /// The log store.
    pub logs: LogStore,
    /// Where spans and metrics go.
    pub telemetry: Telemetry,
    /// Whom the unprivileged roles run as.
    pub users: Users,
    /// What the roles say.
    pub log: Log,
}

/// Settings of the front door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Where browsers connect; not empty, no address twice.
    pub listen: Vec<SocketAddr>,
    /// Where they connect for HTTPS; may be empty, no address twice.
    pub listen_tls: Vec<SocketAddr>,
    /// Threads that serve; 0 means one per core. [`Config::edge_workers`] is the number meant.
    pub workers: u64,
    /// Requests that may wait for an instance, per service.
    pub queue_requests: u64,
    /// How long one waits at most.
    pub queue_time: Duration,
    /// How long a client may take to send a request's head.
    pub header_time: Duration,
    /// How long a connection without a request is kept.
    pub keep_alive: Duration,
    /// How long an instance may send nothing before its request is given up.
    pub response_idle: Duration,
    /// Where one JSON line per request goes. [`Config::access_log`] is the path meant.
    pub access_log: AccessLog,
    /// The size at which it begins anew.
    pub access_log_bytes: u64,
    /// How many files it has.
    pub access_log_files: u64,
    /// One of so many requests is logged.
    pub access_log_sample: u64,
    /// Addresses it listens on that serve private services too.
    pub listen_private: Vec<SocketAddr>,
    /// Addresses it listens on where connections begin with a header of the PROXY protocol.
    pub proxy_protocol: Vec<SocketAddr>,
    /// Whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections that one client may have; 0 is any number.
    pub connections_per_client: u64,
}

/// Where the access log is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// In the edge's own directory.
    #[default]
    Own,
    /// There is none.
    Off,
    /// There.
    At(PathBuf),
}

/// Settings of certificates of the local authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Custom domains have one while there is no ACME.
    pub local_domains: bool,
}

/// Settings of certificates of authorities that speak ACME.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// The directory of the authority; without one there is no ACME.
    pub directory: Option<String>,
    /// The one to try after that failed several times.
    pub fallback_directory: Option<String>,
    /// Whom they may write to.
    pub email: Option<String>,
    /// How names are proved.
    pub challenge: AcmeChallenge,
    /// The root their servers are trusted by.
    pub root: Option<PathBuf>,
    /// The id of an account elsewhere.
    pub eab_key_id: Option<String>,
    /// A file with its key in base64url.
    pub eab_key_file: Option<PathBuf>,
    /// The services' own names have certificates by ACME too.
    pub default_domain: bool,
    /// Patterns of names that get one when they are asked for.
    pub on_demand: Vec<String>,
    /// The name server that takes updates.
    pub dns_server: Option<SocketAddr>,
    /// The name of the key that signs updates.
    pub dns_key_name: Option<String>,
    /// A file with that key in base64.
    pub dns_key_file: Option<PathBuf>,
}

/// How names are proved to an ACME authority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcmeChallenge {
    /// On port 80.
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// On port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// In the DNS.
    #[serde(rename = "dns-01")]
    Dns01,
}

/// Settings of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Where the endpoint listens.
    pub listen: SocketAddr,
    /// The account in ARNs: 12 digits.
    pub account_id: String,
    /// Connections are available without a handshake.
    pub automatic_connections: bool,
    /// Names of roles, keys, subnets and security groups must be known.
    pub strict_references: bool,
}

/// Settings of deployments from source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The image that stands for a repository, by the repository's URL.
    pub prebuilt: BTreeMap<String, String>,
    /// Bytes that a source tree may have.
    pub size: u64,
    /// Directories whose repositories may be named by their paths.
    pub local: Vec<PathBuf>,
    /// How often remotes are asked whether a branch has moved; zero is never.
    pub poll: Duration,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            prebuilt: BTreeMap::new(),
            size: 1 << 30,
            local: Vec::new(),
            poll: Duration::from_secs(60),
        }
    }
}

/// Settings of builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builds {
    /// Builds at one time.
    pub concurrency: u64,
    /// How long one may take.
    pub time_limit: Duration,
    /// Thousandths of a CPU; all of the host's when zero.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes that one may write.
    pub disk: u64,
    /// Bytes that the caches of one service may have.
    pub cache: u64,
    /// A directory of files that describe runtimes.
    pub runtimes: Option<PathBuf>,
    /// A file of certificates that builds trust.
    pub ca_certificates: Option<PathBuf>,
}

impl Default for Builds {
    fn default() -> Self {
        Self {
            concurrency: 2,
            time_limit: Duration::from_secs(1800),
            cpu_millis: 0,
            memory: 2 << 30,
            disk: 10 << 30,
            cache: 2 << 30,
            runtimes: None,
            ca_certificates: None,
        }
    }
}

/// Settings of all services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// A service's host name is `<10 letters and digits>.<region>.<domain>`.
    pub domain: String,
    /// How long a replaced instance may finish its requests.
    pub drain_limit: Duration,
    /// From the stop signal to the kill.
    pub stop_grace: Duration,
    /// How long a new instance may take to become healthy.
    pub start_limit: Duration,
    /// How long the demand must have been lower before instances are taken away.
    pub scale_in_delay: Duration,
    /// With `MinSize` 0: how long nothing may have been asked for before the last one is stopped.
    pub idle_to_zero: Duration,
    /// How long nothing may have been asked for before instances are throttled; zero is never.
    pub throttle_after: Duration,
    /// How long nothing may have been asked for before instances are frozen; zero is never.
    pub freeze_after: Duration,
    /// Custom domains count as validated without a look into the DNS.
    pub assume_domains: bool,
    /// The name server that is asked for validation records; the host's own when absent.
    pub validation_dns: Option<SocketAddr>,
}

/// Settings of the instances' network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Instances' addresses.
    pub ipv4: Ipv4Net,
    /// The same for IPv6; made from the name when absent.
    pub ipv6: Option<Ipv6Net>,
    /// Name servers when the host's own cannot be reached from an instance.
    pub dns: Vec<IpAddr>,
}

/// What is kept of the host for others than instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Bytes of memory that are kept free; a part of the host's when absent.
    pub memory_reserve: Option<u64>,
}

/// Settings of the image store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Bytes that images may take before unused ones are removed.
    pub budget: u64,
    /// How often registries are asked whether a tag that a service follows was pushed; zero is never.
    pub poll: Duration,
    /// By host, with its port if it has one.
    pub registries: BTreeMap<String, Registry>,
}

/// Where spans and metrics go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// The base URL of a receiver of OTLP/HTTP.
    pub otlp: Option<String>,
    /// A file with headers for it, one on each line.
    pub otlp_headers: Option<PathBuf>,
    /// A file with the authorities that it is trusted by.
    pub otlp_authorities: Option<PathBuf>,
    /// So many of a million new traces are sampled.
    pub sample_per_million: u64,
    /// Whether clients decide whether their traces are sampled.
    pub trust_clients: bool,
    /// What instances are told of whose services are observed.
    pub instances: Option<String>,
}

/// Settings of the log store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStore {
    /// Bytes that one log group may take.
    pub group_budget: u64,
    /// Bytes that all log groups may take.
    pub budget: u64,
    /// Bytes of the disk that are left free.
    pub disk_reserve: u64,
    /// Whether requests are stored as well.
    pub requests: bool,
}

/// Settings of the built-in registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRegistry {
    /// Bytes that pushed images may take.
    pub budget: u64,
    /// Names of registries in image references that are this one.
    pub names: Vec<String>,
}

/// How to speak to one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Asked before the registry: `[http[s]://]host[:port][/prefix]`.
    pub mirror: Option<String>,
    /// HTTP instead of HTTPS; when absent, HTTP to loopback addresses only.
    pub plain_http: Option<bool>,
    /// User for basic or token authentication.
    pub username: Option<String>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
}

/// Numeric users; each one's group has the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// The edge runs as.
    pub edge: u64,
    /// Control runs as.
    pub control: u64,
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The least important line written.
    pub level: LogLevel,
    /// One line per event either way.
    pub format: LogFormat,
    /// Where; standard error when absent.
    pub file: Option<PathBuf>,
}

/// How much the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Ekiden failed.
    Error,
    /// The work shows that something is wrong.
    Warn,
    /// Work was done.
    Info,
    /// What was looked at, too.
    Debug,
}

/// How the log says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A setting that cannot be used: which, where it was typed, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the reader of TOML says.
        message: String,
    },
    /// No such setting.
    #[error("{origin}: no setting is called `{key}`{}", meant(nearest))]
    Unknown {
        /// Where.
        origin: Origin,
        /// What was typed.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// Not a value of that setting.
    #[error("{origin}: `{key}` cannot be `{value}`: expected {expected}")]
    Value {
        /// Where.
        origin: Origin,
        /// Which setting.
        key: String,
        /// What was typed.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// Values that are right alone but not together, or not on this machine.
    #[error("`{key}` cannot be `{value}`: {problem}")]
    Unfit {
        /// Which setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// Why not, and what would be right.
        problem: String,
    },
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(
        || ": see `ekiden settings`".to_owned(),
        |key| format!(", did you mean `{key}`?"),
    )
}

impl Edge {
    /// Every address it listens on.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.iter().chain(&self.listen_tls).copied()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "ekiden".to_owned(),
            data_dir: "/var/lib/ekiden".into(),
            run_dir: "/run/ekiden".into(),
            edge: Edge {
                listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
                listen_tls: vec![SocketAddr::from(([0, 0, 0, 0], 8443))],
                workers: 0,
                queue_requests: 20_000,
                queue_time: Duration::from_secs(30),
                header_time: Duration::from_secs(10),
                keep_alive: Duration::from_secs(75),
                response_idle: Duration::from_secs(300),
                access_log: AccessLog::Own,
                access_log_bytes: 100 << 20,
                access_log_files: 5,
                access_log_sample: 1,
                listen_private: Vec::new(),
                proxy_protocol: Vec::new(),
                trusted_proxies: Vec::new(),
                connections_per_client: 16_000,
            },
            api: Api {
                listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
                account_id: "100000000001".to_owned(),
                automatic_connections: false,
                strict_references: false,
            },
            tls: Tls {
                local_domains: true,
            },
            acme: Acme::default(),
            service: Service {
                domain: "ekiden.localhost".to_owned(),
                drain_limit: Duration::from_secs(120),
                stop_grace: Duration::from_secs(10),
                start_limit: Duration::from_secs(300),
                scale_in_delay: SCALE_IN_DELAY,
                idle_to_zero: IDLE_TO_ZERO,
                throttle_after: THROTTLE_AFTER,
                freeze_after: Duration::ZERO,
                assume_domains: false,
                validation_dns: None,
            },
            quota: Quotas::default(),
            sources: Sources::default(),
            builds: Builds::default(),
            network: Network {
                ipv4: Ipv4Net::new_assert(Ipv4Addr::new(10, 201, 0, 0), 16),
                ipv6: None,
                dns: vec![
                    Ipv4Addr::new(9, 9, 9, 9).into(),
                    Ipv4Addr::new(1, 1, 1, 1).into(),
                ],
            },
            host: Host::default(),
            images: Images {
                budget: 20 << 30,
                poll: Duration::from_secs(300),
                registries: BTreeMap::new(),
            },
            registry: OwnRegistry {
                budget: 50 << 30,
                names: Vec::new(),
            },
            logs: LogStore {
                group_budget: 1 << 30,
                budget: 10 << 30,
                disk_reserve: 512 << 20,
                requests: true,
            },
            telemetry: Telemetry {
                otlp: None,
                otlp_headers: None,
                otlp_authorities: None,
                sample_per_million: 50_000,
                trust_clients: true,
                instances: None,
            },
            users: Users {
                edge: 64801,
                control: 64802,
            },
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Text,
                file: None,
            },
        }
    }
}

impl Config {
    /// What `typed` means, over the defaults.
    ///
    /// # Errors
    /// The first value that is not one of its setting, or does not agree with the others.
    pub fn from_typed(typed: &Typed) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for entry in &typed.entries {
            setting::apply(&mut config, entry)?;
        }
        config.check_directories()?;
        config.check_edge()?;
        config.check_users()?;
        config.check_acme()?;
        Ok(config)
    }

    /// How many threads the edge serves with.
    pub fn edge_workers(&self) -> usize {
        match self.edge.workers {
            0 => {
                let cores = thread::available_parallelism().map_or(1, usize::from);
                cores.min(EDGE_SOCKETS_MAX / self.edge.addresses().count())
            }
            workers => workers as usize,
        }
    }

    /// The access log's file, if there is to be one.
    pub fn access_log(&self) -> Option<PathBuf> {
        match &self.edge.access_log {
            AccessLog::Own => Some(self.data_dir.join("edge").join("access.log")),
            AccessLog::Off => None,
            AccessLog::At(path) => Some(path.clone()),
        }
    }

    /// `status.json`, which the supervisor writes and `ekiden status` reads.
    pub fn status_file(&self) -> PathBuf {
        self.run_dir.join("status.json")
    }

    /// The agent's socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent").join("agent.sock")
    }

    /// Control's socket for the edge.
    pub fn edge_socket(&self) -> PathBuf {
        self.run_dir.join("control").join("edge.sock")
    }

    fn check_directories(&self) -> Result<(), ConfigError> {
        for (key, path) in [("data_dir", &self.data_dir), ("run_dir", &self.run_dir)] {
            if !is_own_directory(path) {
                return Err(unfit(
                    key,
                    path.display(),
                    "expected an absolute path without `.` and `..` of at least two parts, for a \
                     directory that is Ekiden's alone",
                ));
            }
        }
        if self.run_dir.as_os_str().len() > RUN_DIR_BYTES_MAX {
            return Err(unfit(
                "run_dir",
                self.run_dir.display(),
                "longer than 57 bytes, the most that leaves room for the names of sockets",
            ));
        }
        if self.data_dir.starts_with(&self.run_dir) || self.run_dir.starts_with(&self.data_dir) {
            return Err(unfit(
                "run_dir",
                self.run_dir.display(),
                "it and `data_dir` must not be inside each other",
            ));
        }
        Ok(())
    }

    fn check_edge(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for address in self.edge.addresses().chain([self.api.listen]) {
            if address.port() != 0 && !seen.insert(address) {
                return Err(unfit(
                    "edge.listen",
                    address,
                    "the address is configured twice",
                ));
            }
        }
        for (key, addresses) in [
            ("edge.listen_private", &self.edge.listen_private),
            ("edge.proxy_protocol", &self.edge.proxy_protocol),
        ] {
            let unknown = |of: &&SocketAddr| !self.edge.addresses().any(|address| address == **of);
            if let Some(address) = addresses.iter().find(unknown) {
                return Err(unfit(
                    key,
                    address,
                    "nothing listens there: it must be one of `edge.listen` or `edge.listen_tls`",
                ));
            }
        }
        if self.edge_workers() * self.edge.addresses().count() > EDGE_SOCKETS_MAX {
            return Err(unfit(
                "edge.workers",
                self.edge.workers,
                "workers times addresses of `edge.listen` and `edge.listen_tls` must be at most 240",
            ));
        }
        Ok(())
    }

    fn check_acme(&self) -> Result<(), ConfigError> {
        let acme = &self.acme;
        if acme.challenge == AcmeChallenge::Dns01 && acme.dns_server.is_none() {
            return Err(unfit(
                "acme.challenge",
                "dns-01",
                "it needs `acme.dns_server`, a name server that takes updates",
            ));
        }
        if acme.default_domain && acme.directory.is_none() {
            return Err(unfit(
                "acme.default_domain",
                true,
                "it needs `acme.directory`, the authority to get the certificates from",
            ));
        }
        if acme.default_domain && acme.challenge != AcmeChallenge::Dns01 {
            return Err(unfit(
                "acme.default_domain",
                true,
                "authorities give certificates for wildcards by `dns-01` only: set \
                 `acme.challenge = \"dns-01\"` and `acme.dns_server`, or leave it out",
            ));
        }
        if acme.dns_key_name.is_some() != acme.dns_key_file.is_some() {
            return Err(unfit(
                "acme.dns_key_name",
                acme.dns_key_name.as_deref().unwrap_or_default(),
                "it and `acme.dns_key_file` need each other",
            ));
        }
        if acme.eab_key_id.is_some() != acme.eab_key_file.is_some() {
            return Err(unfit(
                "acme.eab_key_id",
                acme.eab_key_id.as_deref().unwrap_or_default(),
                "it and `acme.eab_key_file` need each other",
            ));
        }
        if acme.fallback_directory.is_some() && acme.directory.is_none() {
            return Err(unfit(
                "acme.fallback_directory",
                acme.fallback_directory.as_deref().unwrap_or_default(),
                "it is tried after `acme.directory`, which is absent",
            ));
        }
        Ok(())
    }

    fn check_users(&self) -> Result<(), ConfigError> {
        if self.users.edge == self.users.control {
            return Err(unfit(
                "users.edge",
                self.users.edge,
                "it must differ from `users.control`, so that neither role can touch the other",
            ));
        }
        Ok(())
    }
}

/// Whether a path can be a directory that teardown may empty.
fn is_own_directory(path: &Path) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(plain) && path.components().count() >= 3
}

fn unfit(key: &'static str, value: impl ToString, problem: &str) -> ConfigError {
    ConfigError::Unfit {
        key,
        value: value.to_string(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::typed::Sources;

    #[track_caller]
    fn check(file: &str, want: Result<impl Fn(&Config) -> bool, &str>) {
        let typed = Sources {
            file: Some(("ekiden.toml".into(), file.to_owned())),
            ..Sources::default()
        };
        let got = typed.read().and_then(|typed| Config::from_typed(&typed));
        match (got, want) {
            (Ok(config), Ok(holds)) => assert!(holds(&config), "{config:?}"),
            (Err(error), Err(want)) => assert_eq!(error.to_string(), want),
            (got, want) => panic!("got {got:?}, wanted {:?}", want.err()),
        }
    }

    fn refused(file: &str, want: &str) {
        check(file, Err::<fn(&Config) -> bool, _>(want));
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        check("", Ok(|config: &Config| *config == Config::default()));
    }

    #[test]
    fn the_access_log_is_on_unless_it_is_off() {
        let own =
            |config: &Config| config.access_log() == Some("/var/lib/ekiden/edge/access.log".into());
        check("", Ok(own));
        let off = |config: &Config| config.access_log().is_none();
        check("[edge]\naccess_log = \"off\"\n", Ok(off));
        let there = |config: &Config| config.access_log() == Some("/var/log/edge.log".into());
        check("[edge]\naccess_log = \"/var/log/edge.log\"\n", Ok(there));
        refused(
            "[edge]\naccess_log = \"edge.log\"\n",
            "ekiden.toml, line 2, column 1: `edge.access_log` cannot be `edge.log`: expected an \
             absolute path, or `off`",
        );
    }

    #[test]
    fn a_private_address_is_one_that_is_listened_on() {
        let file = "[edge]\nlisten = [\"127.0.0.1:80\", \"10.0.0.1:80\"]\n\
                    listen_private = [\"10.0.0.1:80\"]\ntrusted_proxies = [\"10.1.2.3/8\", \"::1\"]\n";
        let holds = |config: &Config| {
            config.edge.trusted_proxies[0].to_string() == "10.0.0.0/8"
                && config.edge.trusted_proxies[1].to_string() == "::1/128"
        };
        check(file, Ok(holds));
        refused(
            "[edge]\nproxy_protocol = [\"10.0.0.1:80\"]\n",
            "`edge.proxy_protocol` cannot be `10.0.0.1:80`: nothing listens there: it must be one of \
             `edge.listen` or `edge.listen_tls`",
        );
    }

    #[test]
    fn a_file_is_understood() {
        let file = "name = \"demo\"\n[edge]\nlisten = [\"127.0.0.1:80\", \"[::1]:80\"]\nworkers = 2\n\
                    queue_time = \"1m\"\n[images]\nbudget = \"2GiB\"\n\
                    [images.registries.\"registry.example:5000\"]\nplain_http = true\n";
        check(
            file,
            Ok(|config: &Config| {
                config.name == "demo"
                    && config.edge.listen.len() == 2
                    && config.edge_workers() == 2
                    && config.edge.queue_time == Duration::from_secs(60)
                    && config.images.budget == 2 << 30
                    && config.images.registries["registry.example:5000"].plain_http == Some(true)
            }),
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_one() {
        refused(
            "[edge]\nlisten = []\nlisen = []\n",
            "ekiden.toml, line 3, column 1: no setting is called `edge.lisen`, did you mean \
             `edge.listen`?",
        );
        refused(
            "[images.registries.\"a.example\"]\n  user = \"x\"\n",
            "ekiden.toml, line 2, column 3: no setting is called `images.registries.a.example.user`, \
             did you mean `images.registries.<host>.username`?",
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_would_be_right() {
        refused(
            "[edge]\nworkers = 1000",
            "ekiden.toml, line 2, column 1: `edge.workers` cannot be `1000`: expected a whole \
             number from 0 to 240",
        );
        refused(
            "colour = 3",
            "ekiden.toml, line 1, column 1: no setting is called `colour`: see `ekiden settings`",
        );
        refused(
            "[service]\ndrain_limit = \"soon\"",
            "ekiden.toml, line 2, column 1: `service.drain_limit` cannot be `soon`: expected a \
             duration from 0s to 1h, such as `30s`",
        );
        refused(
            "name = \"x",
            "ekiden.toml, line 1, column 10: invalid basic string, expected `\"`",
        );
    }

    #[test]
    fn settings_that_do_not_agree_are_refused() {
        refused(
            "data_dir = \"/srv/ekiden\"\nrun_dir = \"/srv/ekiden/run\"",
            "`run_dir` cannot be `/srv/ekiden/run`: it and `data_dir` must not be inside each other",
        );
        refused(
            "data_dir = \"/var\"",
            "`data_dir` cannot be `/var`: expected an absolute path without `.` and `..` of at \
             least two parts, for a directory that is Ekiden's alone",
        );
        refused(
            "[acme]\ndefault_domain = true",
            "`acme.default_domain` cannot be `true`: it needs `acme.directory`, the authority to get \
             the certificates from",
        );
        let with_directory = "[acme]\ndefault_domain = true\ndirectory = \"https://acme.test/\"\n";
        refused(
            with_directory,
            "`acme.default_domain` cannot be `true`: authorities give certificates for wildcards by \
             `dns-01` only: set `acme.challenge = \"dns-01\"` and `acme.dns_server`, or leave it out",
        );
        check(
            &format!("{with_directory}challenge = \"dns-01\"\ndns_server = \"127.0.0.1:53\"\n"),
            Ok(|config: &Config| config.acme.default_domain),
        );
        refused(
            "[users]\nedge = 64802",
            "`users.edge` cannot be `64802`: it must differ from `users.control`, so that neither \
             role can touch the other",
        );
    }
}
