//! What a control plane is told at its start.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use ekiden_model::{
    image::ImageReference, plan::Timing, scaling::ScalingDefaults, wildcard::matches,
};
use serde::{Deserialize, Serialize};

use crate::{certificates::DnsUpdates, telemetry::TelemetryConfig};

/// Everything that is configured about a control plane. Where the values come from, their defaults
/// and bounds: the program's configuration.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// The directory that is its own: the database and the first access key.
    pub data_dir: PathBuf,
    /// The users whose processes may be edges.
    pub edge_uids: Vec<u32>,
    /// Twelve digits: the account that ARNs name.
    pub account_id: String,
    /// The suffix of every service's own host name, below the region.
    pub domain: String,
    /// How long things may take.
    pub timing: Timing,
    /// How services scale that do not say otherwise.
    pub scaling: ScalingDefaults,
    /// How many of what there may be.
    pub quotas: Quotas,
    /// How a new connection to a source code provider becomes available.
    pub handshake: Handshake,
    /// What is asked of names of resources that AWS would keep.
    pub references: References,
    /// When a custom domain counts as validated.
    pub domain_validation: DomainValidation,
    /// Where certificates come from.
    pub certificates: CertificatesConfig,
    /// Images that stand for source repositories, by the repository's URL.
    pub prebuilt: BTreeMap<String, ImageReference>,
    /// The built-in registry.
    pub registry: RegistryConfig,
    /// Builds from source.
    pub builds: BuildsConfig,
    /// The log store.
    pub logs: LogsConfig,
    /// Where spans and metrics go.
    pub telemetry: TelemetryConfig,
}

/// The log store.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// What one group may take on the disk, in bytes; the oldest lines go first.
    pub group_bytes_max: u64,
    /// What all may take, in bytes; over it, the oldest of the largest group go.
    pub total_bytes_max: u64,
    /// Nothing is stored while the disk has less than this free, in bytes.
    pub disk_free_bytes_min: u64,
    /// The edge's access log, if it has one whose lines are to be stored as well.
    pub access_log: Option<PathBuf>,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            group_bytes_max: 1 << 30,
            total_bytes_max: 10 << 30,
            disk_free_bytes_min: 512 << 20,
            access_log: None,
        }
    }
}

/// Builds from source.
#[derive(Debug, Clone)]
pub struct BuildsConfig {
    /// Builds at one time; more wait.
    pub concurrency: usize,
    /// How long a build may take, its source included.
    pub time_limit: Duration,
    /// Thousandths of a CPU that one may use.
    pub cpu_millis: u32,
    /// Memory that one may use, in bytes.
    pub memory_bytes: u64,
    /// What one may write besides its caches, in bytes.
    pub disk_bytes: u64,
    /// What the caches of one service may have between builds, in bytes.
    pub cache_bytes_max: u64,
    /// Files of runtimes over Ekiden's own: names and texts.
    pub runtimes: Vec<(String, String)>,
    /// What a source tree may have, in bytes.
    pub source_bytes_max: u64,
    /// Directories whose repositories may be named by their paths.
    pub local_sources: Vec<PathBuf>,
    /// How often remotes are asked whether a branch that a service follows has moved; zero is never.
    pub poll: Duration,
    /// A file of the authorities that git trusts instead of the host's.
    pub authorities: Option<PathBuf>,
}

impl Default for BuildsConfig {
    fn default() -> Self {
        Self {
            concurrency: 2,
            time_limit: Duration::from_secs(30 * 60),
            cpu_millis: 2000,
            memory_bytes: 2 << 30,
            disk_bytes: 10 << 30,
            cache_bytes_max: 2 << 30,
            runtimes: Vec::new(),
            source_bytes_max: 1 << 30,
            local_sources: Vec::new(),
            poll: Duration::from_secs(60),
            authorities: None,
        }
    }
}

/// The built-in registry.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Bytes that blobs may take; more is refused.
    pub budget: u64,
    /// Where its clients find it: a URL without a path.
    pub endpoint: String,
    /// Patterns of registry names, with `*`, that are this one in image references.
    pub names: Vec<String>,
    /// Names that are other registries although a pattern matches them.
    pub others: Vec<String>,
    /// How often other registries are asked whether a tag that a service follows was pushed; zero is
    /// never.
    pub poll_others: Duration,
    /// What the installation's own engine logs in with; without it, nothing can be run from here.
    pub pull_key: Option<String>,
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryConfig({}, {:?})", self.endpoint, self.names)
    }
}

impl RegistryConfig {
    /// The repository of this registry that a reference is to.
    pub fn repository<'a>(&self, reference: &'a ImageReference) -> Option<&'a str> {
        let name = &reference.registry;
        let own = self.names.iter().any(|pattern| matches(pattern, name));
        (own && !self.others.contains(name)).then_some(reference.repository.as_str())
    }
}

/// Where certificates come from.
#[derive(Debug, Clone, Default)]
pub struct CertificatesConfig {
    /// Whether the front door speaks TLS at all; otherwise none is wanted.
    pub listening: bool,
    /// Without ACME, custom domains have certificates of the local authority.
    pub local_domains: bool,
    /// Authorities that speak ACME.
    pub acme: Option<AcmeConfig>,
}

/// Authorities that speak ACME, and how names are proved to them.
#[derive(Clone)]
pub struct AcmeConfig {
    /// URLs: the first is used, the next after it failed several times.
    pub directories: Vec<String>,
    /// Whom they may write to.
    pub email: Option<String>,
    /// How names are proved.
    pub challenge: ChallengeKind,
    /// The only root that their servers are trusted by, in a file of PEM; the host's when absent.
    pub root: Option<PathBuf>,
    /// The id and key of an account elsewhere that a new account belongs to (RFC 8555, section
    /// 7.3.4).
    pub external_account: Option<(String, zeroize::Zeroizing<Vec<u8>>)>,
    /// The services' own host names have certificates of them too.
    pub default_domain: bool,
    /// Where records are put to prove names; for [`ChallengeKind::Dns01`] alone.
    pub dns: Option<DnsUpdates>,
    /// Patterns of names that get a certificate when a client asks for one.
    pub on_demand: Vec<String>,
}

impl fmt::Debug for AcmeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AcmeConfig({:?}, {:?})",
            self.directories, self.challenge
        )
    }
}

/// How a name is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChallengeKind {
    /// By an answer on port 80 of the name.
    #[default]
    Http01,
    /// By a handshake on port 443 of the name.
    TlsAlpn01,
    /// By a record in the DNS; the only way for wildcards.
    Dns01,
}

/// How many of what there may be in one region. What is over a quota is refused with
/// `ServiceQuotaExceededException`; what is there already stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Services that are not deleted.
    pub services: u64,
    /// Connections.
    pub connections: u64,
    /// Names of auto scaling configurations with an active revision.
    pub auto_scaling_configurations: u64,
    /// Active revisions of one auto scaling configuration.
    pub auto_scaling_revisions: u64,
    /// Names of observability configurations with an active revision.
    pub observability_configurations: u64,
    /// Active revisions of one observability configuration.
    pub observability_revisions: u64,
    /// VPC connectors.
    pub vpc_connectors: u64,
    /// Custom domains of one service.
    pub custom_domains: u64,
    /// The greatest `MaxSize` (and so `MinSize`) of an auto scaling configuration.
    pub instances_per_service: u64,
    /// The greatest `MaxConcurrency` of an auto scaling configuration.
    pub requests_per_instance: u64,
    /// Access keys.
    pub access_keys: u64,
    /// Secrets.
    pub secrets: u64,
    /// Parameters.
    pub parameters: u64,
    /// Repositories of the registry.
    pub repositories: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            services: 20_000,
            connections: 1000,
            auto_scaling_configurations: 1000,
            auto_scaling_revisions: 1000,
            observability_configurations: 1000,
            observability_revisions: 1000,
            vpc_connectors: 1000,
            custom_domains: 100,
            instances_per_service: 1000,
            requests_per_instance: 10_000,
            access_keys: 1000,
            secrets: 10_000,
            parameters: 10_000,
            repositories: 10_000,
        }
    }
}

/// How a new connection to a source code provider becomes available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Handshake {
    /// By `Ekiden.CompleteConnection`, as App Runner waits for its console.
    #[default]
    Manual,
    /// At once.
    Automatic,
}

/// What is asked of the ARNs and ids of roles, keys, subnets and security groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum References {
    /// That they are well formed.
    #[default]
    Lenient,
    /// That Ekiden knows them; it keeps none of these yet, so that none can be used.
    Strict,
}

/// When a custom domain counts as validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainValidation {
    /// When its validation records are found in the DNS, as the host's name servers have it.
    #[default]
    Dns,
    /// When this name server has its validation records.
    DnsAt(SocketAddr),
    /// At once.
    Assumed,
}
