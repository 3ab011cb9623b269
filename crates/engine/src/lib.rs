//! What the control plane may ask of whatever runs instances.
//!
//! An engine is this machine (the agent, reached through [`remote`]), a simulation, or a cluster.
//! Nothing above this crate may assume a local process, a path or a pid.

pub mod frame;
pub mod remote;
#[cfg(feature = "simulated")]
pub mod simulated;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use ekiden_model::{
    id::{InstanceId, ServiceId},
    image::{Digest, ImageConfig, ImageReference, PreparedImage, ResolvedImage},
    instance::{Activity, InstanceObservation, InstanceSpec, Limits, StopReason},
    secret_env::SecretEnv,
    usage::InstanceUsage,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Runs instances. Every call is idempotent: a caller that got no answer calls again.
pub trait Engine: Send + Sync + 'static {
    /// Makes an image ready to run: resolves the reference, fetches what is missing, verifies and
    /// unpacks it. A reference to a tag is resolved anew at each call. Takes as long as the
    /// download takes, within the engine's own bound.
    fn prepare_image(
        &self,
        reference: &ImageReference,
    ) -> impl Future<Output = Result<PreparedImage, EngineError>> + Send;

    /// Asks what a reference stands for now, and fetches nothing.
    fn resolve_image(
        &self,
        reference: &ImageReference,
    ) -> impl Future<Output = Result<ResolvedImage, EngineError>> + Send;

    /// Starts an instance. Answers when its process runs, or when the engine has recorded why it
    /// cannot: then the instance is observed as exited with `StartFailed`, and the call succeeds.
    fn start(&self, spec: &InstanceSpec) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Asks an instance to stop: its stop signal, then after `grace_ms` the kill that cannot be
    /// refused. Answers when the request is recorded, not when the instance has ended. An unknown
    /// or ended instance is success.
    fn stop(
        &self,
        instance: InstanceId,
        reason: StopReason,
        grace_ms: u64,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Says how much an instance may do. Answers when it is so; a host that cannot freeze throttles.
    /// An unknown, stopping or ended instance is success. Whoever is asked to stop is woken.
    fn set_activity(
        &self,
        instance: InstanceId,
        activity: Activity,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Forgets an ended instance and gives back all it used; kills it first if it still runs.
    fn remove(&self, instance: InstanceId) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The newest lines an instance wrote, oldest first.
    fn logs(&self, query: &LogQuery) -> impl Future<Output = Result<LogPage, EngineError>> + Send;

    /// Lines of any instance of a service that have not been taken yet; waits for some. What instances that
    /// build write is not among them. One caller at a time: see [`CollectQuery::taken`].
    fn collect_logs(
        &self,
        query: &CollectQuery,
    ) -> impl Future<Output = Result<Vec<CollectedLines>, EngineError>> + Send;

    /// Forgets everything kept for a service that is deleted: its logs above all.
    fn forget_service(
        &self,
        service: ServiceId,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Makes an image. `lines` is told what happens, one line at a time, and may miss some. Making the
    /// same once more gives the same; a call that is dropped may go on.
    fn make_image(
        &self,
        recipe: &ImageRecipe,
        lines: &mpsc::Sender<String>,
    ) -> impl Future<Output = Result<MadeImage, EngineError>> + Send;

    /// Tells which images must be kept; the engine may remove any other when it needs room.
    fn retain_images(
        &self,
        images: &[Digest],
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// What the instances that run use, in the order of ids; of none while that is not known.
    fn usage(&self) -> tokio::sync::watch::Receiver<Arc<[InstanceUsage]>>;

    /// Everything the engine has, kept current.
    fn observe(&self) -> tokio::sync::watch::Receiver<Observation>;
}

/// How an image is made that no registry has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "make")]
pub enum ImageRecipe {
    /// A base image from packages of the engine's distribution. One that is there and not too old is
    /// taken.
    Base {
        /// Their names, besides the smallest system.
        packages: Vec<String>,
    },
    /// A source tree, which is a layer's archive that was put where the engine looks for it.
    Source {
        /// The archive's own.
        digest: Digest,
    },
    /// The layers of images, those of the first at the bottom.
    Stack {
        /// Which; at most [`STACKED_MAX`].
        images: Vec<Digest>,
        /// What the result says of its process.
        config: ImageConfig,
    },
    /// What an instance that builds and has ended has left, upon the layers that it had.
    Left {
        /// Which.
        instance: InstanceId,
        /// What the result says of its process.
        config: ImageConfig,
        /// A directory below `/` whose part of it is asked for as an image of its own.
        part: Option<String>,
    },
    /// What a Dockerfile of a source tree says.
    Dockerfile(Box<DockerfileRecipe>),
}

/// See [`ImageRecipe::Dockerfile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerfileRecipe {
    /// For whom: what it has built before is a cache of its own.
    pub service: ServiceId,
    /// Chosen by the caller: [`Engine::remove`] of it ends the work.
    pub build: InstanceId,
    /// The image of its source tree.
    pub source: Digest,
    /// Where the Dockerfile is, from the root of the source tree, which is its context.
    pub dockerfile: String,
    /// The stage that is built, unless it is the last.
    pub target: Option<String>,
    /// Build arguments. Not secret.
    pub args: BTreeMap<String, String>,
    /// Secrets of `RUN --mount=type=secret`, by id.
    pub secrets: SecretEnv,
    /// What it may use.
    pub limits: Limits,
    /// How long it may take.
    pub seconds_max: u64,
    /// How many bytes of layers may be kept for the next build.
    pub cache_bytes_max: u64,
}

/// The most images that are stacked.
pub const STACKED_MAX: usize = 16;

/// What [`Engine::make_image`] has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeImage {
    /// The image.
    pub image: PreparedImage,
    /// The part that was asked for, without what lies below it; absent when there is nothing in it.
    pub part: Option<PreparedImage>,
}

/// All instances of an engine, as one value that is replaced whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// False until the engine has first answered and while it cannot be reached. Then `instances`
    /// is what was last known, and an instance that is missing says nothing.
    pub current: bool,
    /// Every instance that has not been removed, in the order of ids.
    pub instances: Vec<InstanceObservation>,
}

impl Observation {
    /// Takes in what is different; the order of ids is kept.
    pub fn change(&mut self, changed: Vec<InstanceObservation>, removed: &[InstanceId]) {
        if !removed.is_empty() {
            self.instances.retain(|known| !removed.contains(&known.id));
        }
        for instance in changed {
            match self
                .instances
                .binary_search_by_key(&instance.id, |known| known.id)
            {
                Ok(index) => self.instances[index] = instance,
                Err(index) => self.instances.insert(index, instance),
            }
        }
    }
}

/// Which log lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Whose lines.
    pub service: ServiceId,
    /// Only this instance's lines; every instance's when absent.
    pub instance: Option<InstanceId>,
    /// Where to go on, from the page before; when absent, the last `lines_max` lines are given.
    pub after: Option<LogCursor>,
    /// At most this many lines, 1 to [`LOG_LINES_MAX`].
    pub lines_max: u32,
}

/// The most lines one page carries.
pub const LOG_LINES_MAX: u32 = 1000;

/// The longest line a page carries, in bytes; a longer one is cut into lines marked `partial`.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;

/// A place in a service's logs; opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogCursor(pub String);

/// Some log lines, oldest first, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// In the order they were written, per instance; by time across instances.
    pub lines: Vec<LogLine>,
    /// Give it back to get what came later.
    pub next: LogCursor,
}

/// A place in one instance's log, between two lines. Orders as lines do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Which of the files that it was written to.
    pub segment: u64,
    /// Bytes of it that come before.
    pub offset: u64,
}

/// How lines are collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectQuery {
    /// How far the logs of instances are stored elsewhere, of those of which that is new. Lines before it are
    /// not given any more, and lines after it are given again: an engine that has just started begins
    /// with the oldest that there are.
    pub taken: Vec<(InstanceId, LogPosition)>,
    /// How long to wait when there is no line, in milliseconds, up to [`COLLECT_WAIT_MS_MAX`].
    pub wait_ms: u64,
}

/// The longest that [`Engine::collect_logs`] waits, in milliseconds.
pub const COLLECT_WAIT_MS_MAX: u64 = 5000;

/// Lines of one instance, in the order they were written. What was lost before they were read is said in
/// one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedLines {
    /// Whose instance.
    pub service: ServiceId,
    /// Which.
    pub instance: InstanceId,
    /// Where they begin.
    pub from: LogPosition,
    /// Where they end: to be told as taken when they are stored.
    pub next: LogPosition,
    /// At most [`LOG_LINES_MAX`].
    pub lines: Vec<CollectedLine>,
}

/// A line that was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedLine {
    /// When it was read from the instance: microseconds since the Unix epoch.
    pub at_micros: u64,
    /// Where it was written.
    pub stream: LogStream,
    /// Without its newline; invalid UTF-8 replaced.
    pub text: String,
}

/// One line that an instance wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose.
    pub instance: InstanceId,
    /// When it was read from the instance: microseconds since the Unix epoch.
    pub at_micros: u64,
    /// Where it was written.
    pub stream: LogStream,
    /// Without its newline; invalid UTF-8 replaced.
    pub text: String,
    /// The line goes on in the next one of this stream.
    pub partial: bool,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Ekiden's own remark, such as how much was dropped.
    Ekiden,
}

/// Why an engine could not do as asked. Sentences for people; `Unavailable` is worth a retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "error")]
pub enum EngineError {
    /// The engine cannot be reached now, or is too busy; the same call may succeed later.
    #[error("the engine is unavailable: {message}")]
    Unavailable {
        /// What was seen.
        message: String,
    },
    /// The image cannot be had: it does not exist, is refused, broken or for another platform.
    #[error("{message}")]
    Image {
        /// What, why, and what to do.
        message: String,
    },
    /// The request makes no sense to this engine.
    #[error("{message}")]
    Invalid {
        /// What, why, and what to do.
        message: String,
    },
    /// The host failed: out of disk, a system call refused.
    #[error("{message}")]
    Host {
        /// What, why, and what to do.
        message: String,
    },
}
