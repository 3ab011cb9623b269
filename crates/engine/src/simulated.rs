//! An engine without a machine under it: for tests of what is above the engine.
//!
//! An image's name says how its instances behave, see [`Behaviour`]. An instance that listens does
//! so for real, on a loopback address of its own, so that probes and requests find something. Faults
//! are switched on from outside, tags are moved, and images held back until they are let through.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use ekiden_model::{
    id::{InstanceId, ServiceId},
    image::{Digest, ImageConfig, ImageReference, PreparedImage, ResolvedImage},
    instance::{
        Activity, Exit, ExitCause, InstanceObservation, InstanceSpec, InstanceState, StopReason,
    },
    time::Timestamp,
    usage::InstanceUsage,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Duration, Instant, sleep},
};

use crate::{
    CollectQuery, CollectedLine, CollectedLines, Engine, EngineError, ImageRecipe, LogCursor,
    LogLine, LogPage, LogPosition, LogQuery, LogStream, MadeImage, Observation,
};

/// How the instances of an image behave: the last path segment of the image's repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// `ok`: listens at once.
    Listens,
    /// `deaf`: runs and never listens.
    NeverListens,
    /// `crash`: exits with code 1 at once, having written a line.
    Crashes,
    /// Anything else: there is no such image.
    Missing,
}

impl Behaviour {
    fn of(reference: &ImageReference) -> Self {
        match reference.repository.rsplit('/').next() {
            Some("ok") => Self::Listens,
            Some("deaf") => Self::NeverListens,
            Some("crash") => Self::Crashes,
            Some(_) | None => Self::Missing,
        }
    }

    /// The image of that number which behaves so.
    fn digest(self, serial: u8) -> Digest {
        let mut bytes = [serial; 32];
        bytes[0] = self as u8;
        Digest::from_sha256(bytes)
    }

    fn of_digest(digest: Digest) -> Self {
        let all = [Self::Listens, Self::NeverListens, Self::Crashes];
        all.into_iter()
            .find(|behaviour| behaviour.digest(0).hex()[..2] == digest.hex()[..2])
            .unwrap_or(Self::Missing)
    }
}

/// The engine. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct SimulatedEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The second byte of every instance's address: engines of one test process do not meet.
    subnet: u8,
    next_address: AtomicU32,
    available: AtomicBool,
    /// Whether instances cannot be throttled or woken.
    restless: AtomicBool,
    images: Mutex<Images>,
    images_held: watch::Sender<bool>,
    instances: Mutex<HashMap<InstanceId, Instance>>,
    observation: watch::Sender<Observation>,
    usage: watch::Sender<Arc<[InstanceUsage]>>,
}

#[derive(Debug, Default)]
struct Images {
    registry_gone: bool,
    /// Which image a repository's name stands for, by number, once it was pushed to again.
    pushed: HashMap<String, u8>,
    /// What was prepared and is kept, and whether it was ever named among what is to be kept: until
    /// then it is not taken away, because whoever asked for it may not have written that down yet.
    here: HashMap<Digest, Named>,
}

/// See [`Images::here`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    NotYet,
    Once,
}

#[derive(Debug)]
struct Instance {
    spec: InstanceSpec,
    seen: InstanceObservation,
    listener: Option<AbortHandle>,
    lines: Vec<String>,
    lines_taken: usize,
}

impl SimulatedEngine {
    /// An engine with nothing in it; its instances listen on `127.<subnet>.x.y`.
    pub fn new(subnet: u8) -> Self {
        let observation = Observation {
            current: true,
            instances: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                subnet,
                next_address: AtomicU32::new(1),
                available: AtomicBool::new(true),
                restless: AtomicBool::new(false),
                images: Mutex::default(),
                images_held: watch::Sender::new(false),
                instances: Mutex::default(),
                observation: watch::Sender::new(observation),
                usage: watch::Sender::new(Arc::default()),
            }),
        }
    }

    /// Makes the engine unreachable, as when its process is killed; instances go on.
    pub fn set_available(&self, available: bool) {
        self.shared.available.store(available, Ordering::SeqCst);
        self.publish(&self.instances());
    }

    /// How many instances were started as spare.
    pub fn spare(&self) -> usize {
        let instances = self.instances();
        instances.values().filter(|one| one.spec.spare).count()
    }

    /// Tells what instances use; they are in the order of ids.
    pub fn set_usage(&self, usages: Vec<InstanceUsage>) {
        self.shared.usage.send_replace(usages.into());
    }

    /// Refuses to say how much instances may do, as a host whose groups cannot be written, or no longer.
    pub fn refuse_activity(&self, refused: bool) {
        self.shared.restless.store(refused, Ordering::SeqCst);
    }

    /// What an instance was started with.
    pub fn spec(&self, id: InstanceId) -> Option<InstanceSpec> {
        self.instances()
            .get(&id)
            .map(|instance| instance.spec.clone())
    }

    /// Pushes another image of the same behaviour: names of the repository stand for it from now on.
    pub fn push(&self, repository: &str) {
        let mut images = self.images();
        *images.pushed.entry(repository.to_owned()).or_default() += 1;
    }

    /// Takes the registry away, or brings it back. What is here stays.
    pub fn set_registry(&self, there: bool) {
        self.images().registry_gone = !there;
    }

    /// Holds back whoever asks for an image, until they are let through.
    pub fn hold_images(&self, held: bool) {
        self.shared.images_held.send_replace(held);
    }

    /// Images that are here.
    pub fn images_here(&self) -> Vec<Digest> {
        let mut here: Vec<_> = self.images().here.keys().copied().collect();
        here.sort();
        here
    }

    /// Has an instance write lines.
    pub fn write(&self, id: InstanceId, lines: impl IntoIterator<Item = String>) {
        if let Some(instance) = self.instances().get_mut(&id) {
            instance.lines.extend(lines);
        }
    }

    /// Ends an instance by itself.
    pub fn crash(&self, id: InstanceId, code: u8) {
        let mut instances = self.instances();
        if let Some(instance) = instances.get_mut(&id) {
            instance.end(ExitCause::Code { code }, None);
        }
        self.publish(&instances);
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        let images = self.shared.images.lock();
        images.unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, reference: &ImageReference) -> Option<Digest> {
        let images = self.images();
        if let Some(digest) = reference.digest {
            return images.here.contains_key(&digest).then_some(digest);
        }
        let serial = images.pushed.get(&reference.repository).copied();
        match Behaviour::of(reference) {
            Behaviour::Missing => None,
            behaviour => {
                (!images.registry_gone).then(|| behaviour.digest(serial.unwrap_or_default()))
            }
        }
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<InstanceId, Instance>> {
        self.shared
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, instances: &HashMap<InstanceId, Instance>) {
        let current = self.shared.available.load(Ordering::SeqCst);
        let mut seen: Vec<_> = instances
            .values()
            .map(|instance| instance.seen.clone())
            .collect();
        seen.sort_by_key(|instance| instance.id);
        self.shared.observation.send_replace(Observation {
            current,
            instances: seen,
        });
    }

    fn collected(&self) -> Vec<CollectedLines> {
        let position = |offset: usize| LogPosition {
            segment: 0,
            offset: offset as u64,
        };
        let instances = self.instances();
        let some = instances
            .values()
            .filter(|instance| instance.lines_taken < instance.lines.len());
        some.map(|instance| CollectedLines {
            service: instance.seen.service,
            instance: instance.seen.id,
            from: position(instance.lines_taken),
            next: position(instance.lines.len()),
            lines: instance.lines[instance.lines_taken..]
                .iter()
                .map(|text| CollectedLine {
                    at_micros: instance.seen.created_at.as_millis() * 1000,
                    stream: LogStream::Stdout,
                    text: text.clone(),
                })
                .collect(),
        })
        .collect()
    }

    fn check(&self) -> Result<(), EngineError> {
        match self.shared.available.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(EngineError::Unavailable {
                message: "it was switched off".into(),
            }),
        }
    }

    fn new_address(&self) -> IpAddr {
        let number = self.shared.next_address.fetch_add(1, Ordering::SeqCst);
        let [_, _, third, fourth] = number.to_be_bytes();
        Ipv4Addr::new(127, self.shared.subnet, third, fourth).into()
    }
}

impl Instance {
    fn end(&mut self, cause: ExitCause, stopped_for: Option<StopReason>) {
        if matches!(self.seen.state, InstanceState::Exited(_)) {
            return;
        }
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
        self.seen.state = InstanceState::Exited(Exit {
            cause,
            at: now(),
            stopped_for,
        });
    }
}

impl Engine for SimulatedEngine {
    async fn prepare_image(
        &self,
        reference: &ImageReference,
    ) -> Result<PreparedImage, EngineError> {
        self.check()?;
        let mut held = self.shared.images_held.subscribe();
        // The sender lives as long as the engine.
        let _ = held.wait_for(|held| !held).await;
        let digest = self.find(reference).ok_or_else(|| EngineError::Image {
            message: format!("image `{reference}` not found"),
        })?;
        self.images().here.entry(digest).or_insert(Named::NotYet);
        Ok(PreparedImage {
            digest,
            config: ImageConfig {
                cmd: vec!["/app".into()],
                ..ImageConfig::default()
            },
            size_bytes: 1,
        })
    }

    async fn resolve_image(
        &self,
        reference: &ImageReference,
    ) -> Result<ResolvedImage, EngineError> {
        self.check()?;
        let image = self.find(reference).ok_or_else(|| EngineError::Image {
            message: format!("image `{reference}` not found"),
        })?;
        Ok(ResolvedImage {
            named: image,
            image,
        })
    }

    async fn make_image(
        &self,
        _: &ImageRecipe,
        _: &mpsc::Sender<String>,
    ) -> Result<MadeImage, EngineError> {
        Err(EngineError::Invalid {
            message: "a simulated engine builds nothing".into(),
        })
    }

    async fn start(&self, spec: &InstanceSpec) -> Result<(), EngineError> {
        self.check()?;
        if self.instances().contains_key(&spec.id) {
            return Ok(());
        }
        let address = self.new_address();
        let behaviour = Behaviour::of_digest(spec.image);
        let listener = match behaviour {
            Behaviour::Listens => Some(listen(address, spec.port).await?),
            Behaviour::NeverListens | Behaviour::Crashes | Behaviour::Missing => None,
        };
        let at = now();
        let mut instance = Instance {
            spec: spec.clone(),
            seen: InstanceObservation {
                id: spec.id,
                service: spec.service,
                revision: spec.revision,
                created_at: at,
                state: InstanceState::Running {
                    address,
                    started_at: at,
                },
                activity: Activity::Boosted,
                builds: spec.build.is_some(),
            },
            listener,
            lines: Vec::new(),
            lines_taken: 0,
        };
        if behaviour == Behaviour::Crashes {
            instance.lines.push("cannot find my configuration".into());
            instance.end(ExitCause::Code { code: 1 }, None);
        }
        let mut instances = self.instances();
        instances.insert(spec.id, instance);
        self.publish(&instances);
        Ok(())
    }

    async fn stop(&self, id: InstanceId, reason: StopReason, _: u64) -> Result<(), EngineError> {
        self.check()?;
        let mut instances = self.instances();
        if let Some(instance) = instances.get_mut(&id) {
            instance.end(ExitCause::Signal { signal: 15 }, Some(reason));
        }
        self.publish(&instances);
        Ok(())
    }

    async fn set_activity(&self, id: InstanceId, activity: Activity) -> Result<(), EngineError> {
        self.check()?;
        if self.shared.restless.load(Ordering::SeqCst) {
            return Err(EngineError::Host {
                message: "the group cannot be written".into(),
            });
        }
        let mut instances = self.instances();
        if let Some(instance) = instances.get_mut(&id) {
            instance.seen.activity = activity;
        }
        self.publish(&instances);
        Ok(())
    }

    async fn remove(&self, id: InstanceId) -> Result<(), EngineError> {
        self.check()?;
        let mut instances = self.instances();
        if let Some(mut instance) = instances.remove(&id) {
            instance.end(ExitCause::Lost, None);
        }
        self.publish(&instances);
        Ok(())
    }

    async fn logs(&self, query: &LogQuery) -> Result<LogPage, EngineError> {
        self.check()?;
        let instances = self.instances();
        let wanted = instances.values().filter(|instance| {
            instance.seen.service == query.service
                && query.instance.is_none_or(|id| id == instance.seen.id)
        });
        let lines = wanted.flat_map(|instance| {
            instance.lines.iter().map(|text| LogLine {
                instance: instance.seen.id,
                at_micros: instance.seen.created_at.as_millis() * 1000,
                stream: LogStream::Stdout,
                text: text.clone(),
                partial: false,
            })
        });
        Ok(LogPage {
            lines: lines.collect(),
            next: LogCursor(String::new()),
        })
    }

    async fn collect_logs(&self, query: &CollectQuery) -> Result<Vec<CollectedLines>, EngineError> {
        self.check()?;
        for (id, taken) in &query.taken {
            if let Some(instance) = self.instances().get_mut(id) {
                instance.lines_taken = taken.offset as usize;
            }
        }
        let deadline = Instant::now() + Duration::from_millis(query.wait_ms);
        loop {
            let collected = self.collected();
            if !collected.is_empty() || Instant::now() >= deadline {
                return Ok(collected);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn forget_service(&self, _: ServiceId) -> Result<(), EngineError> {
        self.check()
    }

    async fn retain_images(&self, kept: &[Digest]) -> Result<(), EngineError> {
        self.check()?;
        self.images().here.retain(|digest, named| {
            if kept.contains(digest) {
                *named = Named::Once;
            }
            kept.contains(digest) || *named == Named::NotYet
        });
        Ok(())
    }

    fn usage(&self) -> watch::Receiver<Arc<[InstanceUsage]>> {
        self.shared.usage.subscribe()
    }

    fn observe(&self) -> watch::Receiver<Observation> {
        self.shared.observation.subscribe()
    }
}

/// Accepts and closes, which is all that a TCP probe asks for.
async fn listen(address: IpAddr, port: u16) -> Result<AbortHandle, EngineError> {
    let host = |error: io::Error| EngineError::Host {
        message: error.to_string(),
    };
    let listener = TcpListener::bind((address, port)).await.map_err(host)?;
    let task = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    Ok(task.abort_handle())
}

fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(since_epoch.unwrap_or_default().as_millis() as u64)
}
