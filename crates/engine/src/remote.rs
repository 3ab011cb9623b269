//! The agent's socket: its messages, and the client that is an [`Engine`].
//!
//! Frames of [`crate::frame`]. Both sides begin with a [`Hello`]. Then the client sends [`Call`]s, as
//! many at a time as it likes, and the agent sends [`Event`]s: answers in whatever order they are
//! ready, progress of long calls, and, after [`Request::Subscribe`], the whole list of instances at
//! each change. A client that was cut off connects again, for ever, with growing pauses; what it had
//! asked fails with [`EngineError::Unavailable`], and every call may be made again.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ekiden_model::{
    id::{InstanceId, ServiceId},
    image::{Digest, ImageReference, PreparedImage, ResolvedImage},
    instance::{Activity, InstanceObservation, InstanceSpec, StopReason},
    usage::InstanceUsage,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::{
    COLLECT_WAIT_MS_MAX, CollectQuery, CollectedLines, Engine, EngineError, ImageRecipe, LogPage,
    LogQuery, MadeImage, Observation,
    frame::{encode_frame, read_frame, write_frame},
};

/// The version of the engine protocol spoken here. 2 has [`InstanceSpec::secret_env`], 3 has
/// [`Request::SetActivity`] and [`Event::Changed`], 4 [`Event::Used`] and [`Request::ResolveImage`], 5
/// [`Request::MakeImage`] and [`InstanceSpec::build`], 6 [`Request::CollectLogs`].
pub const ENGINE_PROTOCOL: u32 = 6;

/// The oldest version that is still spoken with an agent.
const ENGINE_PROTOCOL_MIN: u32 = 1;

/// The first version whose agents know of secret variables; an older one would start an instance
/// without them.
const SECRETS_SINCE: u32 = 2;

/// The first version whose agents throttle and freeze.
const ACTIVITY_SINCE: u32 = 3;

/// The first version whose clients understand [`Event::Changed`].
pub const CHANGES_SINCE: u32 = 3;

/// The first version whose agents say what a reference stands for.
const RESOLVE_SINCE: u32 = 4;

/// The first version whose clients understand [`Event::Used`].
pub const USAGE_SINCE: u32 = 4;

/// The first version whose agents build.
const BUILDS_SINCE: u32 = 5;

/// The first version whose agents give lines to be stored elsewhere.
const COLLECT_SINCE: u32 = 6;

/// How long the agent may take to say hello, and to take a call off the socket.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// How long each kind of call may take.
const START_MAX: Duration = Duration::from_secs(30);
const IMAGE_MAX: Duration = Duration::from_secs(15 * 60);
const RESOLVE_MAX: Duration = Duration::from_secs(60);
const OTHER_MAX: Duration = Duration::from_secs(10);

/// The first and the longest pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Calls in flight on one connection; more are told to come again.
pub const CALLS_MAX: usize = 1024;

/// Messages between tasks, which only pass them on.
const QUEUE_MAX: usize = 64;

/// The first message of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The speaker's [`ENGINE_PROTOCOL`].
    pub protocol: u32,
    /// The speaker's release, for the log.
    pub release: String,
}

impl Hello {
    /// What this release says.
    pub fn ours() -> Self {
        Self {
            protocol: ENGINE_PROTOCOL,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What an agent of this release answers to a client, which takes its own version only if it is
    /// older than 2: the newest that both speak.
    pub fn answer(client: &Self) -> Self {
        Self {
            protocol: client.protocol.min(ENGINE_PROTOCOL),
            ..Self::ours()
        }
    }
}

/// One request, and the number its answer will carry.
#[derive(Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the client; not used twice on a connection.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What a client may ask: the calls of [`Engine`], and those on images that only the host's root may
/// make. No `Debug`: a spec's environment holds secrets.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// [`Engine::prepare_image`].
    PrepareImage {
        /// Which.
        reference: ImageReference,
    },
    /// [`Engine::resolve_image`]. Since version 4.
    ResolveImage {
        /// Which.
        reference: ImageReference,
    },
    /// [`Engine::make_image`]. Since version 5.
    MakeImage {
        /// How.
        recipe: ImageRecipe,
    },
    /// [`Engine::start`].
    Start {
        /// What.
        spec: Box<InstanceSpec>,
    },
    /// [`Engine::stop`].
    Stop {
        /// Which.
        instance: InstanceId,
        /// Why.
        reason: StopReason,
        /// How long it may take.
        grace_ms: u64,
    },
    /// [`Engine::set_activity`]. Since version 3.
    SetActivity {
        /// Which.
        instance: InstanceId,
        /// How much.
        activity: Activity,
    },
    /// [`Engine::remove`].
    Remove {
        /// Which.
        instance: InstanceId,
    },
    /// [`Engine::logs`].
    Logs {
        /// Which.
        query: LogQuery,
    },
    /// [`Engine::collect_logs`]. Since version 6.
    CollectLogs {
        /// How.
        query: CollectQuery,
    },
    /// [`Engine::forget_service`].
    ForgetService {
        /// Which.
        service: ServiceId,
    },
    /// [`Engine::retain_images`].
    RetainImages {
        /// Which must stay.
        images: Vec<Digest>,
    },
    /// From now on, send [`Event::Observed`]: once at once, then at each change.
    Subscribe,
    /// Work on the host's image store; refused to everyone but root.
    Images {
        /// What.
        command: ImageCommand,
    },
}

impl Request {
    /// Whether it cannot be understood by agents of before [`BUILDS_SINCE`].
    fn builds(&self) -> bool {
        match self {
            Self::Start { spec } => spec.build.is_some(),
            other => matches!(other, Self::MakeImage { .. }),
        }
    }

    fn has_secrets(&self) -> bool {
        match self {
            Self::Start { spec } => !spec.secret_env.is_empty(),
            Self::MakeImage { .. }
            | Self::PrepareImage { .. }
            | Self::ResolveImage { .. }
            | Self::Stop { .. }
            | Self::SetActivity { .. }
            | Self::Remove { .. }
            | Self::Logs { .. }
            | Self::CollectLogs { .. }
            | Self::ForgetService { .. }
            | Self::RetainImages { .. }
            | Self::Subscribe
            | Self::Images { .. } => false,
        }
    }
}

/// Work on the host's image store. Paths are the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum ImageCommand {
    /// What is there?
    List,
    /// Take in an OCI layout or a docker archive.
    Import {
        /// A folder or a tar file, absolute.
        path: PathBuf,
        /// The name it gets; its own, if it has one, when absent.
        name: Option<ImageReference>,
    },
    /// Forget a name, and the image when it was its last.
    Remove {
        /// Which.
        reference: ImageReference,
    },
    /// Write an image out as an OCI layout in a tar file.
    Export {
        /// Which.
        reference: ImageReference,
        /// A file that does not exist, absolute.
        path: PathBuf,
    },
    /// Make a base image from a distribution's packages.
    Bootstrap {
        /// `debian:bookworm`, say.
        distribution: String,
        /// Packages besides the smallest system.
        packages: Vec<String>,
        /// Where packages come from; the distribution's own servers when absent.
        mirror: Option<String>,
        /// The name it gets.
        name: ImageReference,
        /// Make it anew even if there is a fresh one.
        refresh: bool,
    },
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// The digest of its platform manifest.
    pub digest: Digest,
    /// What it is called; none for one that is only kept because it is used.
    pub names: Vec<ImageReference>,
    /// Bytes of its layers, unpacked; what images share is counted in each.
    pub size_bytes: u64,
    /// Whether a revision or an instance needs it.
    pub in_use: bool,
}

/// What the agent sends.
// A few at a time, on their way through a socket: their size in memory is nobody's concern.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub enum Event {
    /// The end of a call.
    Answered {
        /// The call's number.
        id: u64,
        /// How it ended.
        result: Result<Answer, EngineError>,
    },
    /// A call goes on.
    Progress {
        /// The call's number.
        id: u64,
        /// One line for people.
        text: String,
    },
    /// All instances.
    Observed {
        /// Every one that has not been removed.
        instances: Vec<InstanceObservation>,
    },
    /// What is different from what was told last on this connection. Since version 3.
    Changed {
        /// New ones, and those that are not as they were.
        instances: Vec<InstanceObservation>,
        /// Those that have been removed.
        removed: Vec<InstanceId>,
    },
    /// What instances use. Since version 4.
    Used {
        /// Every one that runs, in the order of ids.
        instances: Vec<InstanceUsage>,
    },
}

/// What a call gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Nothing but success.
    Done,
    /// The image, ready to run, and what an import has called it.
    Imported {
        /// Its name.
        name: ImageReference,
        /// What it is.
        image: PreparedImage,
    },
    /// The image, ready to run.
    Image {
        /// What it is.
        image: PreparedImage,
    },
    /// An image that was made.
    Made {
        /// It.
        made: MadeImage,
    },
    /// What a reference stands for.
    Resolved {
        /// That.
        image: ResolvedImage,
    },
    /// Log lines.
    Logs {
        /// A page of them.
        page: LogPage,
    },
    /// Lines to be stored elsewhere.
    Collected {
        /// By instance.
        lines: Vec<CollectedLines>,
    },
    /// The store's images.
    Images {
        /// All, by name.
        images: Vec<ImageSummary>,
    },
}

/// The host engine, as seen through the agent's socket. Cheap to clone; the connection ends with the
/// last clone.
#[derive(Clone)]
pub struct AgentClient {
    calls: mpsc::Sender<Outgoing>,
    observed: watch::Receiver<Observation>,
    used: watch::Receiver<Arc<[InstanceUsage]>>,
}

/// A call on its way out.
struct Outgoing {
    request: Request,
    answer: oneshot::Sender<Result<Answer, EngineError>>,
    progress: Option<mpsc::Sender<String>>,
}

impl AgentClient {
    /// Keeps a connection to the agent at `socket`, from now on and in the background. Needs a tokio
    /// runtime.
    pub fn connect(socket: &Path) -> Self {
        let (calls, outgoing) = mpsc::channel(QUEUE_MAX);
        let (observer, observed) = watch::channel(Observation::default());
        let (meter, used) = watch::channel(Arc::default());
        let client = Client {
            socket: socket.to_owned(),
            calls: outgoing,
            observer,
            meter,
        };
        tokio::spawn(client.run());
        Self {
            calls,
            observed,
            used,
        }
    }

    /// Waits until the agent has answered for the first time; false when it has not within `bound`.
    pub async fn connected(&self, bound: Duration) -> bool {
        let mut observed = self.observed.clone();
        let current = observed.wait_for(|observation| observation.current);
        matches!(timeout(bound, current).await, Ok(Ok(_)))
    }

    /// Works on the host's image store; only root may. `progress` is called with one line at a time,
    /// and may miss some.
    ///
    /// # Errors
    /// As the store says, and [`EngineError::Unavailable`].
    pub async fn images(
        &self,
        command: ImageCommand,
        mut progress: impl FnMut(String),
    ) -> Result<Answer, EngineError> {
        let (lines, mut said) = mpsc::channel(QUEUE_MAX);
        let mut answer =
            std::pin::pin!(self.call(Request::Images { command }, IMAGE_MAX, Some(lines)));
        loop {
            tokio::select! {
                // Neither loses anything when it is polled again.
                Some(line) = said.recv() => progress(line),
                answer = &mut answer => return answer,
            }
        }
    }

    async fn call(
        &self,
        request: Request,
        bound: Duration,
        progress: Option<mpsc::Sender<String>>,
    ) -> Result<Answer, EngineError> {
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing {
            request,
            answer,
            progress,
        };
        let waiting = async {
            // Both ends are gone only when the runtime is being shut down.
            self.calls
                .send(outgoing)
                .await
                .map_err(|_| unavailable("this program is ending"))?;
            answered
                .await
                .unwrap_or_else(|_| Err(unavailable("the connection was lost")))
        };
        timeout(bound, waiting).await.unwrap_or_else(|_| {
            Err(unavailable(&format!(
                "no answer within {} seconds",
                bound.as_secs()
            )))
        })
    }

    async fn done(&self, request: Request, bound: Duration) -> Result<(), EngineError> {
        self.call(request, bound, None).await.map(drop)
    }
}

impl Engine for AgentClient {
    async fn prepare_image(
        &self,
        reference: &ImageReference,
    ) -> Result<PreparedImage, EngineError> {
        let request = Request::PrepareImage {
            reference: reference.clone(),
        };
        match self.call(request, IMAGE_MAX, None).await? {
            Answer::Image { image } => Ok(image),
            _ => Err(unexpected()),
        }
    }

    async fn resolve_image(
        &self,
        reference: &ImageReference,
    ) -> Result<ResolvedImage, EngineError> {
        let request = Request::ResolveImage {
            reference: reference.clone(),
        };
        match self.call(request, RESOLVE_MAX, None).await? {
            Answer::Resolved { image } => Ok(image),
            _ => Err(unexpected()),
        }
    }

    async fn make_image(
        &self,
        recipe: &ImageRecipe,
        lines: &mpsc::Sender<String>,
    ) -> Result<MadeImage, EngineError> {
        let bound = match recipe {
            ImageRecipe::Dockerfile(recipe) => IMAGE_MAX + Duration::from_secs(recipe.seconds_max),
            _ => IMAGE_MAX,
        };
        let request = Request::MakeImage {
            recipe: recipe.clone(),
        };
        match self.call(request, bound, Some(lines.clone())).await? {
            Answer::Made { made } => Ok(made),
            _ => Err(unexpected()),
        }
    }

    async fn start(&self, spec: &InstanceSpec) -> Result<(), EngineError> {
        self.done(
            Request::Start {
                spec: Box::new(spec.clone()),
            },
            START_MAX,
        )
        .await
    }

    async fn stop(
        &self,
        instance: InstanceId,
        reason: StopReason,
        grace_ms: u64,
    ) -> Result<(), EngineError> {
        self.done(
            Request::Stop {
                instance,
                reason,
                grace_ms,
            },
            OTHER_MAX,
        )
        .await
    }

    async fn set_activity(
        &self,
        instance: InstanceId,
        activity: Activity,
    ) -> Result<(), EngineError> {
        self.done(Request::SetActivity { instance, activity }, OTHER_MAX)
            .await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), EngineError> {
        self.done(Request::Remove { instance }, OTHER_MAX).await
    }

    async fn logs(&self, query: &LogQuery) -> Result<LogPage, EngineError> {
        match self
            .call(
                Request::Logs {
                    query: query.clone(),
                },
                OTHER_MAX,
                None,
            )
            .await?
        {
            Answer::Logs { page } => Ok(page),
            _ => Err(unexpected()),
        }
    }

    async fn collect_logs(&self, query: &CollectQuery) -> Result<Vec<CollectedLines>, EngineError> {
        let request = Request::CollectLogs {
            query: query.clone(),
        };
        let bound = OTHER_MAX + Duration::from_millis(COLLECT_WAIT_MS_MAX);
        match self.call(request, bound, None).await? {
            Answer::Collected { lines } => Ok(lines),
            _ => Err(unexpected()),
        }
    }

    async fn forget_service(&self, service: ServiceId) -> Result<(), EngineError> {
        self.done(Request::ForgetService { service }, OTHER_MAX)
            .await
    }

    async fn retain_images(&self, images: &[Digest]) -> Result<(), EngineError> {
        self.done(
            Request::RetainImages {
                images: images.to_vec(),
            },
            OTHER_MAX,
        )
        .await
    }

    fn usage(&self) -> watch::Receiver<Arc<[InstanceUsage]>> {
        self.used.clone()
    }

    fn observe(&self) -> watch::Receiver<Observation> {
        self.observed.clone()
    }
}

/// The background half of [`AgentClient`].
struct Client {
    socket: PathBuf,
    calls: mpsc::Receiver<Outgoing>,
    observer: watch::Sender<Observation>,
    meter: watch::Sender<Arc<[InstanceUsage]>>,
}

/// Why a connection is over.
enum End {
    /// Nobody wants it any more.
    NotNeeded,
    /// It broke, or the agent closed it.
    Lost(io::Error),
}

impl Client {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.open().await {
                Ok((reader, writer, protocol)) => {
                    info!(protocol, "connected to the agent");
                    pause = PAUSE_MIN;
                    match self.serve(reader, writer, protocol).await {
                        End::NotNeeded => return,
                        End::Lost(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.observer
                .send_if_modified(|seen| std::mem::replace(&mut seen.current, false));
            self.meter.send_replace(Arc::default());
            if pause == PAUSE_MIN {
                warn!(%error, "not connected to the agent");
            }
            if self
                .refuse_until(Instant::now() + pause, &error)
                .await
                .is_none()
            {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Connects; answers with the version that the agent speaks.
    async fn open(&self) -> io::Result<(OwnedReadHalf, OwnedWriteHalf, u32)> {
        let greeting = async {
            let stream = UnixStream::connect(&self.socket).await?;
            let (mut reader, mut writer) = stream.into_split();
            write_frame(&mut writer, &Hello::ours()).await?;
            let hello: Hello = read_frame(&mut reader).await?.ok_or_else(closed)?;
            match hello.protocol {
                known @ ENGINE_PROTOCOL_MIN..=ENGINE_PROTOCOL => Ok((reader, writer, known)),
                other => Err(io::Error::other(format!(
                    "the agent ({}) speaks version {other} of the protocol, this program {ENGINE_PROTOCOL}",
                    hello.release
                ))),
            }
        };
        timeout(HELLO_MAX, greeting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn serve(
        &mut self,
        reader: OwnedReadHalf,
        mut writer: OwnedWriteHalf,
        protocol: u32,
    ) -> End {
        let (events, mut received) = mpsc::channel(QUEUE_MAX);
        // Ends when the connection does, or when nobody takes what it reads.
        let reading = tokio::spawn(read_events(reader, events));
        let mut waiting: HashMap<u64, Waiting> = HashMap::new();
        let mut next_id = 1;
        let subscribe = Call {
            id: 0,
            request: Request::Subscribe,
        };
        let end = match send(&mut writer, &subscribe).await {
            Err(error) => End::Lost(error),
            Ok(()) => loop {
                tokio::select! {
                    // Both are cancel-safe: a message stays in its channel.
                    call = self.calls.recv() => {
                        let Some(Outgoing { request, answer, progress }) = call else {
                            break End::NotNeeded;
                        };
                        if protocol < SECRETS_SINCE && request.has_secrets() {
                            let _ = answer.send(Err(unavailable(
                                "the agent is of an older release, which cannot keep secrets: restart it",
                            )));
                            continue;
                        }
                        if protocol < ACTIVITY_SINCE && matches!(request, Request::SetActivity { .. }) {
                            // Its instances are active, whatever they are asked for.
                            let _ = answer.send(Ok(Answer::Done));
                            continue;
                        }
                        if protocol < RESOLVE_SINCE && matches!(request, Request::ResolveImage { .. }) {
                            let _ = answer.send(Err(unavailable("the agent is of an older release")));
                            continue;
                        }
                        if protocol < COLLECT_SINCE && matches!(request, Request::CollectLogs { .. }) {
                            let _ = answer.send(Err(unavailable("the agent is of an older release")));
                            continue;
                        }
                        if protocol < BUILDS_SINCE && request.builds() {
                            let _ = answer.send(Err(unavailable(
                                "the agent is of an older release, which cannot build: restart it",
                            )));
                            continue;
                        }
                        waiting.retain(|_, waiting| !waiting.answer.is_closed());
                        if waiting.len() >= CALLS_MAX {
                            let _ = answer.send(Err(unavailable("too many calls at one time")));
                            continue;
                        }
                        waiting.insert(next_id, Waiting { answer, progress });
                        if let Err(error) = send(&mut writer, &Call { id: next_id, request }).await {
                            break End::Lost(error);
                        }
                        next_id += 1;
                    }
                    event = received.recv() => match event {
                        Some(Ok(event)) => self.take(event, &mut waiting),
                        Some(Err(error)) => break End::Lost(error),
                        None => break End::Lost(closed()),
                    },
                }
            },
        };
        for (_, call) in waiting {
            let _ = call
                .answer
                .send(Err(unavailable("the connection was lost")));
        }
        drop(received);
        reading.abort();
        end
    }

    fn take(&self, event: Event, waiting: &mut HashMap<u64, Waiting>) {
        match event {
            Event::Answered { id, result } => {
                if let Some(call) = waiting.remove(&id) {
                    // A caller that has left wants no answer.
                    let _ = call.answer.send(result);
                }
            }
            Event::Progress { id, text } => {
                if let Some(progress) = waiting.get(&id).and_then(|call| call.progress.as_ref()) {
                    // A line that does not fit is a line less.
                    let _ = progress.try_send(text);
                }
            }
            Event::Observed { instances } => {
                self.observer.send_replace(Observation {
                    current: true,
                    instances,
                });
            }
            Event::Changed { instances, removed } => {
                self.observer
                    .send_modify(|observation| observation.change(instances, &removed));
            }
            Event::Used { instances } => {
                self.meter.send_replace(instances.into());
            }
        }
    }

    /// While there is no connection, calls fail at once. `None` when nobody wants one any more.
    async fn refuse_until(&mut self, end: Instant, error: &io::Error) -> Option<()> {
        loop {
            tokio::select! {
                () = sleep_until(end) => return Some(()), // cancel-safe: the end is absolute
                call = self.calls.recv() => { // cancel-safe per its docs
                    let message = format!("cannot reach the agent at `{}`: {error}", self.socket.display());
                    let _ = call?.answer.send(Err(EngineError::Unavailable { message }));
                }
            }
        }
    }
}

/// A call that waits for its answer.
struct Waiting {
    answer: oneshot::Sender<Result<Answer, EngineError>>,
    progress: Option<mpsc::Sender<String>>,
}

/// Reading is not cancel-safe, so it has a task of its own.
async fn read_events(mut reader: OwnedReadHalf, events: mpsc::Sender<io::Result<Event>>) {
    loop {
        let event = read_frame(&mut reader)
            .await
            .and_then(|frame| frame.ok_or_else(closed));
        let ended = event.is_err();
        if events.send(event).await.is_err() || ended {
            return;
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, call: &Call) -> io::Result<()> {
    let frame = encode_frame(call)?;
    // An agent that does not read is as good as gone.
    timeout(HELLO_MAX, writer.write_all(&frame))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the agent closed the connection",
    )
}

fn unavailable(message: &str) -> EngineError {
    EngineError::Unavailable {
        message: message.to_owned(),
    }
}

fn unexpected() -> EngineError {
    unavailable("the agent answered something else than was asked; are the releases the same?")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ekiden_model::{
        instance::{Limits, RevisionNumber, UserNamespace},
        secret_env::SecretEnv,
    };
    use tokio::net::UnixListener;

    use super::*;

    async fn greet(listener: &UnixListener) -> (OwnedReadHalf, OwnedWriteHalf) {
        greet_as(listener, Hello::ours()).await
    }

    async fn greet_as(listener: &UnixListener, hello: Hello) -> (OwnedReadHalf, OwnedWriteHalf) {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let _: Hello = read_frame(&mut reader).await.unwrap().unwrap();
        write_frame(&mut writer, &hello).await.unwrap();
        let call: Call = read_frame(&mut reader).await.unwrap().unwrap();
        assert!(matches!(call.request, Request::Subscribe));
        write_frame(
            &mut writer,
            &Event::Observed {
                instances: Vec::new(),
            },
        )
        .await
        .unwrap();
        (reader, writer)
    }

    const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let client = AgentClient::connect(&directory.path().join("s"));
        let agent = async {
            let (mut reader, mut writer) = greet(&listener).await;
            let mut calls: Vec<Call> = Vec::new();
            while calls.len() < 2 {
                calls.push(read_frame(&mut reader).await.unwrap().unwrap());
            }
            for call in calls.iter().rev() {
                let result = match &call.request {
                    Request::Remove { .. } => Ok(Answer::Done),
                    _ => Err(EngineError::Image {
                        message: "no".to_owned(),
                    }),
                };
                write_frame(
                    &mut writer,
                    &Event::Answered {
                        id: call.id,
                        result,
                    },
                )
                .await
                .unwrap();
            }
            (reader, writer)
        };
        let reference = "a".parse().unwrap();
        let calls = async {
            assert!(client.connected(Duration::from_secs(60)).await);
            tokio::join!(client.remove(INSTANCE), client.prepare_image(&reference))
        };
        let (_open, (removed, prepared)) = tokio::join!(agent, calls);
        assert_eq!(removed, Ok(()));
        assert_eq!(
            prepared,
            Err(EngineError::Image {
                message: "no".to_owned()
            })
        );
    }

    #[tokio::test]
    async fn lost_connection_fails_calls_and_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let client = AgentClient::connect(&directory.path().join("s"));
        let (mut reader, writer) = greet(&listener).await;
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.remove(INSTANCE).await }
        });
        let _: Call = read_frame(&mut reader).await.unwrap().unwrap();
        drop((reader, writer));
        assert!(matches!(
            call.await.unwrap(),
            Err(EngineError::Unavailable { .. })
        ));
        let mut observed = client.observe();
        observed.wait_for(|seen| !seen.current).await.unwrap();
        let _open = greet(&listener).await;
        observed.wait_for(|seen| seen.current).await.unwrap();
    }

    fn spec(secret_env: SecretEnv) -> InstanceSpec {
        InstanceSpec {
            id: INSTANCE,
            service: ServiceId::from_bytes([1; 16]),
            service_name: "test".parse().unwrap(),
            revision: RevisionNumber(1),
            image: Digest::from_sha256([1; 32]),
            args: Vec::new(),
            env: BTreeMap::new(),
            secret_env,
            cwd: "/".to_owned(),
            user: String::new(),
            stop_signal: 15,
            port: 8080,
            limits: Limits {
                cpu_millis: 1000,
                memory_bytes: 64 << 20,
                pids_max: 64,
                disk_bytes: 1 << 30,
            },
            user_namespace: UserNamespace::Private,
            spare: false,
            build: None,
        }
    }

    #[test]
    fn each_side_speaks_the_older_version_of_the_two() {
        let of = |protocol| Hello {
            protocol,
            release: "x".to_owned(),
        };
        for (client, want) in [(1, 1), (3, 3), (6, 6), (7, 6)] {
            assert_eq!(Hello::answer(&of(client)).protocol, want);
        }
    }

    #[tokio::test]
    async fn an_agent_that_knows_no_secrets_is_given_none() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let client = AgentClient::connect(&directory.path().join("s"));
        let old = Hello {
            protocol: 1,
            ..Hello::ours()
        };
        let (mut reader, mut writer) = greet_as(&listener, old).await;
        let mut secrets = SecretEnv::default();
        secrets.insert("KEY".into(), "value".to_owned().into());
        let refused = client.start(&spec(secrets)).await.unwrap_err();
        assert!(refused.to_string().contains("older release"), "{refused}");
        let plain = spec(SecretEnv::default());
        let agent = async {
            let call: Call = read_frame(&mut reader).await.unwrap().unwrap();
            assert!(matches!(call.request, Request::Start { .. }));
            let result = Ok(Answer::Done);
            write_frame(
                &mut writer,
                &Event::Answered {
                    id: call.id,
                    result,
                },
            )
            .await
            .unwrap();
        };
        let (started, ()) = tokio::join!(client.start(&plain), agent);
        assert_eq!(started, Ok(()));
    }

    #[tokio::test]
    async fn calls_without_an_agent_fail_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let client = AgentClient::connect(&directory.path().join("none"));
        let error = client.remove(INSTANCE).await.unwrap_err();
        assert!(
            error.to_string().contains("cannot reach the agent"),
            "{error}"
        );
    }
}
