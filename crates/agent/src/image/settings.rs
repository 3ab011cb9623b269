//! What an image store may use, and how it reaches registries.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ekiden_model::wildcard::matches;

/// Bounds and registries of an image store. Its `Default` is what the documentation promises.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// Unpacked layers and kept blobs together; beyond it, images nothing needs are removed.
    pub budget_bytes: u64,
    /// One image, unpacked.
    pub image_bytes_max: u64,
    /// Files, directories and links of one image.
    pub image_entries_max: u64,
    /// A layer that grows by more than this factor is refused as a bomb, once it has passed
    /// [`RATIO_FREE_BYTES`].
    pub compression_ratio_max: u64,
    /// Layers downloaded and unpacked at the same time, over all pulls.
    pub parallel_layers: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a registry may send nothing.
    pub idle_timeout: Duration,
    /// How long a pull may take in all.
    pub pull_deadline: Duration,
    /// The wait before the second try; it doubles up to [`RETRY_DELAY_MAX`].
    pub retry_delay: Duration,
    /// An image used within this time is not collected, whatever the budget says: it may be on its
    /// way to an instance.
    pub keep_recent: Duration,
    /// By registry host and port, as in image names.
    pub registries: BTreeMap<String, RegistrySettings>,
    /// Patterns of registry names, with `*`, and the registry that they all stand for. One that is in
    /// `registries` itself stands for itself.
    pub aliases: Vec<(String, String)>,
    /// Where base images are put together: a directory that others can reach, because packages are fetched
    /// and unpacked by a user who is not root. Among the store's own, where nobody else can, when absent.
    pub scratch: Option<PathBuf>,
    /// The program that makes base images; a name is looked up in `PATH`.
    pub mmdebstrap: PathBuf,
}

/// Bytes a layer may unpack to before its compression ratio is looked at: small files of zeros
/// are ordinary.
pub const RATIO_FREE_BYTES: u64 = 256 << 20;

/// The longest wait between two tries of one request.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// How often one request, or one byte of a download, is tried.
pub const ATTEMPTS_MAX: u32 = 4;

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            budget_bytes: 20 << 30,
            image_bytes_max: 16 << 30,
            image_entries_max: 2_000_000,
            compression_ratio_max: 250,
            parallel_layers: 3,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            // Below the 15 minutes after which the engine's client stops waiting.
            pull_deadline: Duration::from_secs(14 * 60),
            retry_delay: Duration::from_millis(250),
            keep_recent: Duration::from_secs(10 * 60),
            registries: BTreeMap::new(),
            aliases: Vec::new(),
            scratch: None,
            mmdebstrap: PathBuf::from("mmdebstrap"),
        }
    }
}

impl ImageSettings {
    /// Where images of a registry of this name are.
    pub(super) fn stands_for<'a>(&'a self, registry: &'a str) -> &'a str {
        if self.registries.contains_key(registry) {
            return registry;
        }
        let mut aliases = self.aliases.iter();
        let found = aliases.find(|(pattern, _)| matches(pattern, registry));
        found.map_or(registry, |(_, other)| other)
    }
}

/// How one registry is reached.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    /// Asked first: `[http[s]://]host[:port][/prefix]`. The registry itself is asked when the mirror
    /// does not have the image or does not answer.
    pub mirror: Option<String>,
    /// `Some(true)`: no TLS. `Some(false)`: TLS even on a loopback address. Absent: TLS, but for
    /// loopback addresses.
    pub plain_http: Option<bool>,
    /// Anonymous when absent.
    pub login: Option<Login>,
}

/// What opens a registry. Its `Debug` shows the name only.
#[derive(Clone)]
pub struct Login {
    /// `AWS` for an ECR registry.
    pub username: String,
    password: String,
}

impl Login {
    /// A name and its password or access token.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
        }
    }

    /// The value of an `Authorization: Basic` header (RFC 7617).
    pub(super) fn basic(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", self.username, self.password))
        )
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
