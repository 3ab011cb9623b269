//! What can go wrong with an image, in sentences for the people who see them.

use std::{io, path::Path, time::Duration};

use ekiden_engine::EngineError;
use ekiden_model::image::Digest;

/// Why an image cannot be had, kept or given away.
///
/// Clonable, because callers who wait for the same download share its end; so it holds the text
/// of its causes rather than the causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A name under `localhost`, or a digest, that this machine does not have.
    #[error(
        "image `{image}` is not on this machine: import it with `ekiden image import`, or list what there is with `ekiden image ls`"
    )]
    NotHere {
        /// As asked for.
        image: String,
    },
    /// The registry does not have it, or does not admit to having it.
    #[error(
        "image `{image}` not found in registry `{registry}`: check the name and the tag, or log in if the registry hides private images"
    )]
    NotFound {
        /// As asked for.
        image: String,
        /// Host and port.
        registry: String,
    },
    /// The registry wants a login, or another one.
    #[error(
        "registry `{registry}` refused access to `{image}` ({status}): set a username and password for this registry under `images.registries`, or check that they may read the image"
    )]
    Denied {
        /// As asked for.
        image: String,
        /// Host and port.
        registry: String,
        /// 401 or 403.
        status: u16,
    },
    /// The registry said "too many requests" until the retries were used up.
    #[error(
        "registry `{registry}` answered 429 too often: wait, log in for a higher limit, or use a mirror"
    )]
    RateLimited {
        /// Host and port.
        registry: String,
    },
    /// The registry answered with a status that is not an answer.
    #[error(
        "registry `{registry}` answered {status} for {what}: deploy again, and if it stays so look at the registry's own log"
    )]
    Status {
        /// Host and port.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// What was asked of it.
        what: String,
    },
    /// No connection, or one that broke until the retries were used up.
    #[error(
        "registry `{registry}` cannot be reached: {problem}; check its name, the network and, for a registry without TLS, `plain_http`"
    )]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What the last try met.
        problem: String,
    },
    /// The registry stopped sending.
    #[error(
        "registry `{registry}` stopped answering: no data for {} s; deploy again when it answers, or take the image from another registry",
        .idle.as_secs_f64()
    )]
    Silent {
        /// Host and port.
        registry: String,
        /// How long was waited, each time.
        idle: Duration,
    },
    /// The whole pull took longer than it may.
    #[error(
        "image `{image}` was not pulled within {} s: the registry is too slow or the image too large; push it to a registry that is nearer, such as Ekiden's own, or make it smaller",
        .deadline.as_secs()
    )]
    Deadline {
        /// As asked for.
        image: String,
        /// The bound.
        deadline: Duration,
    },
    /// The registry breaks its own protocol.
    #[error(
        "registry `{registry}` answered something unexpected: {problem}; check that this address is a registry's, and what stands before it"
    )]
    Protocol {
        /// Host and port.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// There is nothing for this machine in the image.
    #[error(
        "image `{image}` has nothing for `{wanted}`; it has {available}: build it for `{wanted}`, for example with `--platform {wanted}`"
    )]
    WrongPlatform {
        /// As asked for.
        image: String,
        /// Such as `linux/amd64`.
        wanted: String,
        /// What there is, with commas.
        available: String,
    },
    /// Bytes that are not what their digest says.
    #[error(
        "{what} is corrupt: expected `{expected}`, got `{actual}`; push the image again, or try another mirror"
    )]
    Corrupt {
        /// Manifest, configuration or layer, and which.
        what: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A manifest, configuration or layout that does not make sense.
    #[error("image `{image}` is not usable: {problem}; build it again")]
    Invalid {
        /// As asked for.
        image: String,
        /// What is wrong.
        problem: String,
    },
    /// A layer that cannot or must not be unpacked.
    #[error(
        "layer `{layer}` was refused: {problem}; mend this where the image is built, and push it again"
    )]
    Layer {
        /// Its digest, shortened.
        layer: String,
        /// The entry and what is wrong with it.
        problem: String,
    },
    /// Beyond a bound.
    #[error(
        "{what} is larger than {bytes_max} bytes, the most that an image may have: make it smaller"
    )]
    TooLarge {
        /// What is too large.
        what: String,
        /// The bound.
        bytes_max: u64,
    },
    /// No room, or no quota.
    #[error("the disk is full under `{path}`: free some space, or lower `images.budget`")]
    DiskFull {
        /// Where.
        path: String,
    },
    /// The host failed otherwise.
    #[error("failed to {doing}: {problem}; look at this host's disk and kernel log")]
    Host {
        /// An infinitive: `read ...`.
        doing: String,
        /// What the kernel said.
        problem: String,
    },
    /// Removal of what runs, or will.
    #[error("image `{image}` is in use by {users} instance(s): stop them first")]
    InUse {
        /// As asked for.
        image: String,
        /// How many.
        users: usize,
    },
    /// A name or a path that cannot be what was meant.
    #[error("{problem}")]
    BadRequest {
        /// What, why, and what to do.
        problem: String,
    },
    /// Only what was imported or bootstrapped keeps the bytes it came from.
    #[error(
        "image `{image}` was pulled and its compressed layers were not kept: export it from its registry, for example with `skopeo copy`"
    )]
    NotExportable {
        /// As asked for.
        image: String,
    },
    /// A program of the host is missing.
    #[error("`{tool}` is not installed: install the package `{package}`")]
    ToolMissing {
        /// The program.
        tool: String,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// A program of the host failed.
    #[error("`{tool}` failed ({status}): {lines}")]
    ToolFailed {
        /// The program.
        tool: String,
        /// Exit code or signal.
        status: String,
        /// The last it said.
        lines: String,
    },
}

impl ImageError {
    /// What a failed system call means, telling a full disk from the rest.
    pub(super) fn host(doing: impl Into<String>, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                path: path.display().to_string(),
            },
            _ => Self::Host {
                doing: format!("{} `{}`", doing.into(), path.display()),
                problem: error.to_string(),
            },
        }
    }

    /// Whether the same pull may well succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Silent { .. }
                | Self::Deadline { .. }
                | Self::Status { .. }
                | Self::RateLimited { .. }
        )
    }

    /// A blocking task that panicked or was dropped at shutdown.
    pub(super) fn task(error: &tokio::task::JoinError) -> Self {
        Self::Host {
            doing: "finish work on an image".to_owned(),
            problem: error.to_string(),
        }
    }
}

impl From<ImageError> for EngineError {
    fn from(error: ImageError) -> Self {
        let message = error.to_string();
        match error {
            ImageError::DiskFull { .. } | ImageError::Host { .. } => Self::Host { message },
            ImageError::ToolMissing { .. }
            | ImageError::ToolFailed { .. }
            | ImageError::BadRequest { .. }
            | ImageError::InUse { .. }
            | ImageError::NotExportable { .. } => Self::Invalid { message },
            _ => Self::Image { message },
        }
    }
}
