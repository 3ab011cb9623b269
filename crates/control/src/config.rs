//! What a control plane is told at its start.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ekiden_model::{image::ImageReference, plan::Timing};
use serde::{Deserialize, Serialize};

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
    /// How many of what there may be.
    pub quotas: Quotas,
    /// How a new connection to a source code provider becomes available.
    pub handshake: Handshake,
    /// What is asked of names of resources that AWS would keep.
    pub references: References,
    /// When a custom domain counts as validated.
    pub domain_validation: DomainValidation,
    /// Images that stand for source repositories, by the repository's URL.
    pub prebuilt: BTreeMap<String, ImageReference>,
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
