//! What a control plane is told at its start.

use std::path::PathBuf;

use ekiden_model::plan::Timing;

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
}
