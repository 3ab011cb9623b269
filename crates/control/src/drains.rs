//! Drains: lines of logs on their way to other systems.
//!
//! The log store is the buffer: it is on the disk and bounded, and a drain only reads it. Of each drain it is
//! remembered per log group up to which line everything was sent. What a receiver does not take waits where it is,
//! until it is too old or too much for the log store; then it is lost to the drain as well, and counted.
//!
//! Each line is sent at least once. It is sent twice when it is not known whether it arrived, or when the control
//! plane was killed before it was written down (within a second) that it did.
//!
//! - [`heads`] looks at the groups, for all drains together.
//! - [`sender`] is the task of one drain.
//! - [`batch`] reads lines.
//! - [`progress`] is how it goes: [`Drains::status`].

mod batch;
mod heads;
mod progress;
mod sender;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use ekiden_export::{
    drain::{Drain, SendError},
    limits::Limits,
    line::{Kind, Line, Source},
    secrets::Secrets,
    target::{ConfigError, Target},
};
use ekiden_logs::store::LogStore;
use ekiden_model::id::ServiceId;
use ekiden_store::{
    Store, StoreError,
    drains::{DrainFacts, DrainPosition, StoredDrain},
};
use serde_json::Value;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;
use zeroize::Zeroizing;

pub(crate) use self::progress::{DrainState, DrainStatus};
use self::{
    batch::Reader,
    heads::Heads,
    progress::{Progress, Scope},
    sender::Sender,
};
use crate::{clock, keyring::Keyring, logs::blocking};

/// The most drains. Each has a connection, and takes the memory of a batch while it sends: a few MiB, and of
/// object storage a few times 16 MiB.
pub(crate) const DRAINS_MAX: usize = 100;

/// How long a test may take.
const TEST_LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    send: Duration::from_secs(10),
};

/// The group and the stream that a test's line is said to be of.
const TEST_GROUP: &str = "/ekiden/test";

/// The kinds of groups that are sent.
pub(crate) const KINDS: [Kind; 3] = [Kind::Application, Kind::Service, Kind::Access];

/// Where a service is, by its id; of those that are forgotten nobody knows.
pub(crate) type Regions = Arc<dyn Fn(ServiceId) -> Option<String> + Send + Sync>;

/// All drains.
pub(crate) struct Drains {
    store: Arc<Store>,
    keyring: Arc<Keyring>,
    reader: Reader,
    heads: watch::Sender<Heads>,
    known: RwLock<BTreeMap<String, Known>>,
    /// Held by whoever changes one.
    changing: Mutex<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Known {
    stored: StoredDrain,
    secret_names: Vec<String>,
    progress: Arc<Progress>,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A drain that is to be there.
pub(crate) struct NewDrain {
    /// Its name.
    pub(crate) name: String,
    /// What is said of it; when it was made stays what it is.
    pub(crate) facts: DrainFacts,
    /// Its secrets as JSON; those of before when absent.
    pub(crate) secrets: Option<Zeroizing<String>>,
    /// Whether groups that are new to it are sent from their oldest line.
    pub(crate) from_beginning: bool,
}

/// A drain and how it goes.
#[derive(Debug, Clone)]
pub(crate) struct ShownDrain {
    /// Its name.
    pub(crate) name: String,
    /// What is said of it.
    pub(crate) facts: DrainFacts,
    /// The names of its secrets.
    pub(crate) secret_names: Vec<String>,
    /// How it goes.
    pub(crate) status: DrainStatus,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tested {
    /// Whether the receiver took the line.
    pub(crate) taken: bool,
    /// What it said, or why it did not take it.
    pub(crate) message: Option<String>,
    /// How long that took.
    pub(crate) took: Duration,
}

/// Why something could not be done with a drain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// There are as many as there may be.
    #[error("there are {DRAINS_MAX} drains, which is the most; delete one")]
    Full,
    /// There is none of the name.
    #[error("there is no drain `{0}`")]
    Unknown(String),
    /// Its target is none.
    #[error("its target is not one: {0}")]
    Target(serde_json::Error),
    /// Its secrets are none. The reason is not passed on: it may have a secret in it.
    #[error(
        "its secrets must be a JSON object with the secrets of its target, such as \
         {{\"headers\": {{\"authorization\": \"...\"}}}}"
    )]
    Secrets,
    /// A setting or a secret is not what it must be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its secrets were sealed with another key, or are damaged.
    #[error("its secrets do not open with this installation's key; give them again")]
    DoesNotOpen,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Debug for Drains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drains")
    }
}

/// Takes back what was said to be sent and is not in the log store any more, because the power went before it was
/// on the disk: lines that are stored in its place have its numbers. To be called before the first is stored.
///
/// # Errors
/// As the store's.
pub(crate) async fn lower_positions(store: &Store, logs: &LogStore) -> Result<(), StoreError> {
    for drain in store.drains().await? {
        let positions = store.drain_positions(&drain.name).await?;
        let lower = blocking(logs, move |logs| {
            let lowered = |mut position: DrainPosition| {
                let last = logs.last_sequence(&position.group).ok()?;
                let end = position.on_its_way.unwrap_or(0).max(position.sent);
                position.sent = position.sent.min(last);
                position.on_its_way = position.on_its_way.map(|end| end.min(last));
                (end > last).then_some(position)
            };
            positions
                .into_iter()
                .filter_map(lowered)
                .collect::<Vec<_>>()
        });
        let lower = lower.await;
        if !lower.is_empty() {
            store
                .put_drain_positions(&drain.name, &lower, &[], false)
                .await?;
        }
    }
    Ok(())
}

impl Drains {
    /// Takes up every drain in the store; they send until `stop` is cancelled.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn load(
        store: Arc<Store>,
        logs: LogStore,
        keyring: Arc<Keyring>,
        regions: Regions,
        account_id: String,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let seen = blocking(&logs, |logs| heads::look(logs, &Heads::default())).await;
        let drains = Self {
            store,
            keyring,
            reader: Reader {
                logs,
                regions,
                account_id,
            },
            heads: watch::Sender::new(seen),
            known: RwLock::default(),
            changing: Mutex::new(()),
            tasks: TaskTracker::new(),
            stop,
        };
        for stored in drains.store.drains().await? {
            drains.take_up(stored).await?;
        }
        Ok(drains)
    }

    /// Looks at the groups until the control plane stops; then waits for every drain to end.
    pub(crate) async fn keep(self: Arc<Self>) {
        let wanted = || {
            self.known()
                .values()
                .any(|known| known.stored.facts.enabled)
        };
        heads::follow(&self.reader.logs, &self.heads, wanted, &self.stop).await;
        // Nobody begins one any more.
        let _changing = self.changing.lock().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How it goes with each drain, by name.
    pub(crate) fn status(&self) -> Vec<(String, DrainStatus)> {
        let heads = self.heads.borrow().clone();
        let status =
            |(name, known): (&String, &Known)| (name.clone(), known.progress.status(&heads));
        self.known().iter().map(status).collect()
    }

    /// Every drain, by name.
    pub(crate) fn list(&self) -> Vec<ShownDrain> {
        let heads = self.heads.borrow().clone();
        let known = self.known();
        known.values().map(|known| known.shown(&heads)).collect()
    }

    /// Makes a drain, or gives the one of its name other settings. It goes on where it was.
    ///
    /// # Errors
    /// [`DrainError`]; then nothing was changed.
    pub(crate) async fn put(&self, new: NewDrain) -> Result<ShownDrain, DrainError> {
        let _changing = self.changing.lock().await;
        let before = self
            .known()
            .get(&new.name)
            .map(|known| known.stored.clone());
        if before.is_none() && self.known().len() >= DRAINS_MAX {
            return Err(DrainError::Full);
        }
        let target = parse_target(&new.facts.target)?;
        let place = place(&new.name);
        let kept = before
            .as_ref()
            .filter(|before| before.facts.target["type"] == new.facts.target["type"]);
        let text = match (&new.secrets, kept) {
            (Some(given), _) => given.clone(),
            (None, Some(kept)) => self.open(&kept.name, &kept.sealed)?,
            (None, None) => Zeroizing::new("{}".to_owned()),
        };
        let secrets: Secrets = serde_json::from_str(&text).map_err(|_| DrainError::Secrets)?;
        Drain::new(&target, &secrets)?;
        let same_way = new.secrets.is_none()
            && (before.as_ref()).is_some_and(|before| before.facts.target == new.facts.target);
        let stored = StoredDrain {
            facts: DrainFacts {
                created_at: (before.as_ref())
                    .map_or(new.facts.created_at, |before| before.facts.created_at),
                ..new.facts
            },
            sealed: self.keyring.seal(&place, text.as_bytes()),
            proven: same_way && before.as_ref().is_some_and(|before| before.proven),
            name: new.name,
        };
        self.end(&stored.name).await;
        let put = self
            .store_new(before.as_ref(), &stored, new.from_beginning)
            .await;
        match put {
            Ok(stored) => self.take_up(stored).await?,
            Err(error) => {
                if let Some(before) = before {
                    self.take_up(before).await?;
                }
                return Err(error.into());
            }
        }
        let heads = self.heads.borrow().clone();
        let shown = self
            .known()
            .get(&stored.name)
            .map(|known| known.shown(&heads));
        shown.ok_or(DrainError::Unknown(stored.name))
    }

    /// Deletes a drain. What it has not sent stays in the logs.
    ///
    /// # Errors
    /// [`DrainError::Unknown`], and the store's.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), DrainError> {
        let _changing = self.changing.lock().await;
        if !self.known().contains_key(name) {
            return Err(DrainError::Unknown(name.to_owned()));
        }
        self.end(name).await;
        match self.store.remove_drain(name).await {
            Ok(_) => {
                self.known_mut().remove(name);
                Ok(())
            }
            Err(error) => {
                let stored = self.known().get(name).map(|known| known.stored.clone());
                if let Some(stored) = stored {
                    self.take_up(stored).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Sends one line that says it is a test, by a connection of its own.
    ///
    /// # Errors
    /// [`DrainError`]; that the receiver does not take it is none.
    pub(crate) async fn test(&self, name: &str) -> Result<Tested, DrainError> {
        let stored = self.known().get(name).map(|known| known.stored.clone());
        let stored = stored.ok_or_else(|| DrainError::Unknown(name.to_owned()))?;
        let target = parse_target(&stored.facts.target)?;
        let text = self.open(name, &stored.sealed)?;
        let secrets = serde_json::from_str(&text).map_err(|_| DrainError::Secrets)?;
        let mut drain = Drain::with_limits(&target, &secrets, TEST_LIMITS)?;
        let now = clock::now().as_millis();
        let line = Line {
            sequence: now,
            time_ms: now,
            observed_ms: now,
            output: None,
            process: None,
            source: Arc::new(Source {
                group: TEST_GROUP.to_owned(),
                stream: name.to_owned(),
                kind: Kind::Service,
                service: None,
                instance: None,
            }),
            text: format!("[Ekiden] This is a test of the drain {name}."),
        };
        let began = Instant::now();
        let sent = drain.send(&[line]).await;
        let took = began.elapsed();
        drain.close().await;
        let (taken, message) = match sent {
            Ok(sent) => (sent.rejected == 0, sent.message),
            Err(SendError::Retry { message, .. } | SendError::Permanent { message }) => {
                (false, Some(message))
            }
        };
        Ok(Tested {
            taken,
            message,
            took,
        })
    }

    /// Stores a drain. Groups that the one before had not are new to it: they begin now, or at the beginning.
    async fn store_new(
        &self,
        before: Option<&StoredDrain>,
        stored: &StoredDrain,
        from_beginning: bool,
    ) -> Result<StoredDrain, StoreError> {
        let (had, has) = (
            before.map(|before| Scope::of(&before.facts)),
            Scope::of(&stored.facts),
        );
        let there = self.store.drain_positions(&stored.name).await?;
        let proven = self.proven(stored).await?;
        let last = self.heads.borrow().clone();
        let positions = blocking(&self.reader.logs, move |logs| {
            let heads = heads::look(logs, &last);
            let is_new = |group: &str, head: &heads::Head| {
                has.has(head)
                    && !had.as_ref().is_some_and(|had| had.has(head))
                    && !there.iter().any(|position| position.group == group)
            };
            let new = heads.iter().filter(|(group, head)| is_new(group, head));
            let begin = |(group, head): (&Arc<str>, &heads::Head)| DrainPosition {
                group: group.to_string(),
                sent: match from_beginning {
                    true => heads::oldest(logs, group).unwrap_or(head.last),
                    false => head.last,
                },
                on_its_way: None,
            };
            new.map(begin).collect::<Vec<_>>()
        });
        let stored = StoredDrain {
            proven,
            ..stored.clone()
        };
        self.store.put_drain(&stored, &positions.await).await?;
        Ok(stored)
    }

    /// Whether its receiver has ever taken anything, which its sender may have written down since it was read.
    async fn proven(&self, stored: &StoredDrain) -> Result<bool, StoreError> {
        let there = self.store.drains().await?;
        let same =
            |one: &&StoredDrain| one.name == stored.name && one.facts.target == stored.facts.target;
        Ok(stored.proven || there.iter().find(same).is_some_and(|one| one.proven))
    }

    /// Lets a drain send, from where it is. The one of its name has ended.
    async fn take_up(&self, stored: StoredDrain) -> Result<(), StoreError> {
        let positions = self.store.drain_positions(&stored.name).await?;
        let progress = Arc::new(Progress::new(&stored.facts, positions));
        let way = self.way(&stored);
        let secret_names = way
            .as_ref()
            .map_or_else(|_| Vec::new(), |way| way.2.clone());
        let running = match way {
            Ok((target, secrets, _)) if stored.facts.enabled => {
                let stop = self.stop.child_token();
                let sender = Sender {
                    name: stored.name.clone(),
                    target,
                    secrets,
                    proven: stored.proven,
                    progress: Arc::clone(&progress),
                    store: Arc::clone(&self.store),
                    reader: self.reader.clone(),
                    heads: self.heads.subscribe(),
                    stop: stop.clone(),
                };
                let task = self.tasks.spawn(sender.run());
                Some(Running { stop, task })
            }
            Ok(_) => None,
            Err(problem) => {
                error!(drain = stored.name, %problem, "a drain cannot send");
                progress.failed(DrainState::Paused, None, &problem.to_string());
                None
            }
        };
        let known = Known {
            secret_names,
            progress,
            running,
            stored,
        };
        self.known_mut().insert(known.stored.name.clone(), known);
        Ok(())
    }

    /// Where a drain sends to, with which secrets, and what those are called.
    fn way(&self, stored: &StoredDrain) -> Result<(Target, Secrets, Vec<String>), DrainError> {
        let target = parse_target(&stored.facts.target)?;
        let text = self.open(&stored.name, &stored.sealed)?;
        let secrets = serde_json::from_str(&text).map_err(|_| DrainError::Secrets)?;
        Ok((target, secrets, secret_names(&text)))
    }

    /// Stops a drain, and waits until it has written down how far it is.
    async fn end(&self, name: &str) {
        let running = self
            .known_mut()
            .get_mut(name)
            .and_then(|known| known.running.take());
        if let Some(running) = running {
            running.stop.cancel();
            if let Err(problem) = running.task.await {
                error!(drain = name, %problem, "a drain ended badly");
            }
        }
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<String>, DrainError> {
        let opened = self.keyring.open(&place(name), sealed);
        let opened = opened.map_err(|_| DrainError::DoesNotOpen)?;
        let text = std::str::from_utf8(&opened).map_err(|_| DrainError::DoesNotOpen)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<String, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn shown(&self, heads: &Heads) -> ShownDrain {
        ShownDrain {
            name: self.stored.name.clone(),
            facts: self.stored.facts.clone(),
            secret_names: self.secret_names.clone(),
            status: self.progress.status(heads),
        }
    }
}

/// A kind of groups that is sent, by the last part of their names.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.as_str() == name)
}

fn parse_target(target: &Value) -> Result<Target, DrainError> {
    serde_json::from_value(target.clone()).map_err(DrainError::Target)
}

/// What a drain's secrets are sealed for: they open as no other's.
fn place(name: &str) -> String {
    format!("drain/{name}")
}

/// The names of secrets, such as `headers.authorization`.
fn secret_names(text: &str) -> Vec<String> {
    let Ok(Value::Object(secrets)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for (name, value) in &secrets {
        match value {
            Value::Object(parts) => names.extend(parts.keys().map(|key| format!("{name}.{key}"))),
            Value::Null => {}
            _ => names.push(name.clone()),
        }
    }
    names
}
