//! The edge's side of the conversation with control: tables in, what is served out.
//!
//! It runs on a thread of its own, so that no table, however large, delays a request. When control
//! is gone, the edge serves the last table for ever and keeps trying to reach it. A stopping edge goes
//! on listening as long as it has requests: those that wait need to hear of instances, and control
//! takes no instance down that one of them is with. Its files belong to its successor then.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ekiden_engine::frame::{read_frame, write_frame};
use ekiden_model::{
    id::InstanceId,
    route::{
        CertificateGeneration, FromEdge, Generation, ROUTE_PROTOCOL_COUNTS, ROUTE_PROTOCOL_DEMAND,
        ROUTE_PROTOCOL_TRACING, ROUTE_PROTOCOL_VERSION, RouteHello, SPANS_PER_MESSAGE_MAX,
        ServiceCounts, ToEdge,
    },
    time::Timestamp,
};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    demand::{Reporter, SERVICES_PER_REPORT_MAX},
    publisher::Publisher,
    routes::Update,
    saved::SavedTable,
    tls::{self, Certificates, Change, SavedCertificates, Tls},
    tracer::{SPANS_MAX, Spans},
    worker::Served,
};

/// The pause before control is tried again, at first; doubled up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(50);

/// The longest pause before control is tried again.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// How long control may take to say hello, and to take a message.
const CONTROL_TIME: Duration = Duration::from_secs(10);

/// Certificates are saved so long after they changed, so that many changes in a row are saved once.
const SAVE_DELAY: Duration = Duration::from_millis(500);

/// Counts of requests are told so often: when a second of the clock on the wall begins, so that
/// each minute's are told apart.
const COUNTS_EVERY: Duration = Duration::from_secs(1);

/// Services whose counts are in one message; more go into several.
const COUNTS_PER_MESSAGE_MAX: usize = 1024;

/// Buckets of distributions that are in one message; a message has more only if one service has.
const BUCKETS_PER_MESSAGE_MAX: usize = 200_000;

/// Without control, counts are taken once a minute for so many minutes; what is counted after that
/// is told as of when control is there again.
const MINUTES_KEPT_MAX: u32 = 10;

/// In milliseconds.
const MINUTE: u64 = 60_000;

/// Messages read from control and not yet acted upon.
const MESSAGES_MAX: usize = 4;

/// What the control thread works with.
pub(crate) struct Control {
    /// Control's socket for the edge; when absent, the saved table is all there is.
    pub(crate) socket: PathBuf,
    pub(crate) publisher: Publisher,
    pub(crate) saved: SavedTable,
    pub(crate) certificates: Certificates,
    pub(crate) saved_certificates: SavedCertificates,
    pub(crate) tls: Arc<Tls>,
    /// Names that clients ask for and no certificate is there for.
    pub(crate) wanted: mpsc::Receiver<String>,
    pub(crate) workers: Vec<WorkerEnd>,
    /// Told when a worker has adopted an update.
    pub(crate) adopted: Arc<Notify>,
    /// Told when an instance that left the table holds no request any more.
    pub(crate) drained: Arc<Notify>,
    /// Counts that were taken and that control may not have been told.
    pub(crate) untold: Vec<ServiceCounts>,
    /// The minute, since the Unix epoch, that counts were last taken in.
    pub(crate) minute: u64,
    /// How often counts were taken since `untold` was empty.
    pub(crate) minutes_kept: u32,
    pub(crate) spans: Spans,
    /// True when the edge is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// True when every worker has ended.
    pub(crate) over: watch::Receiver<bool>,
}

/// One worker, as the control thread reaches it.
pub(crate) struct WorkerEnd {
    pub(crate) updates: mpsc::Sender<Arc<Update>>,
    pub(crate) served: Arc<Served>,
}

/// One connection to control.
struct Conversation {
    /// Of the protocol, which both speak.
    version: u32,
    messages: mpsc::Receiver<io::Result<ToEdge>>,
    out: OwnedWriteHalf,
    /// Whether the whole table has come, which has to be first.
    begun: bool,
    /// Updates sent to the workers that not all have adopted: sequence and generation.
    outstanding: VecDeque<(u64, Generation)>,
    /// The generation that every worker is known to serve by.
    serving: Option<Generation>,
    /// What control was told last.
    told: Option<(Generation, Vec<InstanceId>)>,
    /// What of certificates is presented and control is not told yet.
    presenting: Option<CertificateGeneration>,
    /// Whether certificates have come, and so control knows of them.
    certified: bool,
    /// What control was told of demand; absent when it would not understand.
    demand: Option<Reporter>,
}

impl Control {
    /// Runs on this thread until the edge stops.
    ///
    /// # Errors
    /// The event loop cannot be set up.
    pub(crate) fn run(self) -> io::Result<()> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(self.serve());
        Ok(())
    }

    async fn serve(mut self) {
        let mut over = self.over.clone();
        let mut pause = RECONNECT_MIN;
        // When the certificates are to be saved.
        let mut save_at = None;
        while !*over.borrow() {
            match connect(&self.socket).await {
                Ok(mut conversation) => {
                    tracing::info!("connected to control");
                    let error = self.converse(&mut conversation, &mut save_at).await;
                    if conversation.begun {
                        pause = RECONNECT_MIN;
                    }
                    if let Err(error) = error {
                        tracing::warn!(%error, "lost control; the last table stays in force");
                    }
                }
                Err(error) => tracing::debug!(%error, "control cannot be reached"),
            }
            if save_at.take().is_some() {
                self.save_certificates();
            }
            self.keep_counts();
            tokio::select! {
                () = sleep(pause) => {}
                _ = over.wait_for(|over| *over) => {}
            }
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    /// Listens to control until the connection fails or the edge stops.
    async fn converse(
        &mut self,
        conversation: &mut Conversation,
        save_at: &mut Option<Instant>,
    ) -> io::Result<()> {
        let mut over = self.over.clone();
        let mut count_at = next_second();
        let marks = self.publisher.marks();
        loop {
            let demand = conversation.demand.as_ref();
            let demand_due = demand.and_then(|reporter| reporter.due(&marks));
            let report = async {
                match demand_due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let due = *save_at;
            let save = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Every arm only waits; all are cancel-safe per their docs.
            tokio::select! {
                message = conversation.messages.recv() => {
                    let message = message.ok_or(io::ErrorKind::UnexpectedEof)??;
                    if matches!(message, ToEdge::Certificates { .. }) {
                        save_at.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
                    }
                    self.publish(conversation, message).await?;
                }
                Some(name) = self.wanted.recv() => want(conversation, name).await?,
                () = self.adopted.notified() => {}
                () = self.drained.notified() => {}
                () = marks.raised() => continue,
                () = report => {
                    self.report_demand(conversation).await?;
                    continue;
                }
                () = save => {
                    *save_at = None;
                    self.save_certificates();
                }
                () = sleep_until(count_at) => {
                    count_at = next_second();
                    self.tell_counts(conversation).await?;
                    self.tell_spans(conversation).await?;
                }
                _ = over.wait_for(|over| *over) => {
                    // The last there will be, behind those that were not told yet.
                    self.tell_counts(conversation).await?;
                    self.tell_spans(conversation).await?;
                    return self.tell_counts(conversation).await;
                }
            }
            self.tell(conversation).await?;
        }
    }

    /// Tells control what is asked of services, as far as it changed.
    async fn report_demand(&self, conversation: &mut Conversation) -> io::Result<()> {
        let Some(reporter) = &mut conversation.demand else {
            return Ok(());
        };
        let (mut whole, news) = reporter.report(&self.publisher.marks(), &self.publisher);
        if news.is_empty() && !whole {
            return Ok(());
        }
        let mut rest = news.as_slice();
        loop {
            let (services, more) = rest.split_at(rest.len().min(SERVICES_PER_REPORT_MAX));
            let services = services.to_vec();
            let message = FromEdge::Demand { whole, services };
            timeout(CONTROL_TIME, write_frame(&mut conversation.out, &message)).await??;
            (whole, rest) = (false, more);
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Presents other certificates. All workers share what is presented: none is behind.
    fn present(&mut self, change: Change) {
        let provider = tls::provider();
        self.certificates.apply(change, &provider);
        self.tls.present(self.certificates.snapshot(&provider));
    }

    /// Presents certificates, or hands a table or a change to every worker.
    async fn publish(
        &mut self,
        conversation: &mut Conversation,
        message: ToEdge,
    ) -> io::Result<()> {
        let update = match message {
            ToEdge::Certificates {
                generation,
                set,
                remove,
                default,
                challenges,
                on_demand,
            } => {
                self.present(Change {
                    generation,
                    set,
                    remove,
                    default,
                    challenges,
                    on_demand,
                });
                conversation.certified = true;
                conversation.presenting = Some(generation);
                return Ok(());
            }
            ToEdge::Tracing(tracing) => {
                self.spans.set(tracing);
                return Ok(());
            }
            ToEdge::Table { generation, routes } => {
                conversation.begun = true;
                if generation < self.publisher.generation() {
                    tracing::warn!(
                        generation = generation.0,
                        before = self.publisher.generation().0,
                        "control's table is older than the one served; control decides"
                    );
                }
                let before = self.publisher.generation();
                let update = self.publisher.table(generation, routes);
                if generation != before || !update.is_empty() {
                    self.saved.invalidate();
                }
                update
            }
            ToEdge::Change { .. } if !conversation.begun => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a change came before the table",
                ));
            }
            ToEdge::Change {
                generation,
                set,
                remove,
            } => {
                if !*self.stop.borrow()
                    && let Err(error) = self.saved.note(generation, &set, &remove)
                {
                    tracing::debug!(%error, "a change cannot be added to the saved routes");
                }
                self.publisher.change(generation, set, remove)
            }
        };
        self.save_table();
        conversation
            .outstanding
            .push_back((update.sequence, self.publisher.generation()));
        if let Some(reporter) = &mut conversation.demand {
            let set = update.set.iter().map(|service| service.route.service);
            reporter.look_at(set.chain(update.remove.iter().copied()));
        }
        let update = Arc::new(update);
        for worker in &self.workers {
            // A worker that is gone ends the edge; its supervisor starts another.
            let _ = worker.updates.send(Arc::clone(&update)).await;
        }
        Ok(())
    }

    /// Tells control what is served, when that is news.
    async fn tell(&mut self, conversation: &mut Conversation) -> io::Result<()> {
        if let Some(generation) = conversation.presenting.take() {
            let unusable = self.certificates.unusable();
            let message = FromEdge::Presenting {
                generation,
                unusable,
            };
            timeout(CONTROL_TIME, write_frame(&mut conversation.out, &message)).await??;
        }
        // One that has ended chooses nothing any more.
        let adopted = self
            .workers
            .iter()
            .filter(|worker| !worker.updates.is_closed())
            .map(|worker| worker.served.sequence())
            .min()
            .unwrap_or(u64::MAX);
        while let Some((sequence, generation)) = conversation.outstanding.front()
            && *sequence <= adopted
        {
            conversation.serving = Some(*generation);
            conversation.outstanding.pop_front();
        }
        // While a worker is behind, an instance that has left may still be chosen.
        let (Some(generation), true) = (conversation.serving, conversation.outstanding.is_empty())
        else {
            return Ok(());
        };
        let news = (generation, self.publisher.draining());
        if conversation.told.as_ref() == Some(&news) {
            return Ok(());
        }
        let message = FromEdge::Serving {
            generation,
            draining: news.1.clone(),
        };
        timeout(CONTROL_TIME, write_frame(&mut conversation.out, &message)).await??;
        conversation.told = Some(news);
        Ok(())
    }

    /// Tells control what was counted since the last time, and before that what it was not told then.
    async fn tell_counts(&mut self, conversation: &mut Conversation) -> io::Result<()> {
        if self.untold.is_empty() {
            self.minutes_kept = 0;
            self.take_counts();
        }
        if conversation.version < ROUTE_PROTOCOL_COUNTS {
            self.untold.clear();
        }
        while !self.untold.is_empty() {
            let rest = self.untold.len() - in_one_message(&self.untold);
            let message = FromEdge::Counts {
                counts: self.untold[rest..].to_vec(),
            };
            timeout(CONTROL_TIME, write_frame(&mut conversation.out, &message)).await??;
            self.untold.truncate(rest);
        }
        Ok(())
    }

    /// Takes what was counted, as of the second that is over.
    fn take_counts(&mut self) {
        let now = wall_millis();
        let at = Timestamp::from_millis(now.saturating_sub(COUNTS_EVERY.as_millis() as u64 / 2));
        self.minute = now / MINUTE;
        self.untold.extend(self.publisher.take_counts(at));
    }

    /// Takes what was counted if a minute is over, so that it is told as of that minute.
    fn keep_counts(&mut self) {
        let is_over = wall_millis() / MINUTE > self.minute;
        if is_over && self.minutes_kept < MINUTES_KEPT_MAX {
            self.minutes_kept += 1;
            self.take_counts();
        }
    }

    /// Tells control of requests that were sampled, if it wants to know.
    async fn tell_spans(&mut self, conversation: &mut Conversation) -> io::Result<()> {
        let knows = conversation.version >= ROUTE_PROTOCOL_TRACING;
        // What comes while these are told waits for the next second.
        for _ in 0..SPANS_MAX.div_ceil(SPANS_PER_MESSAGE_MAX) {
            let spans = self.spans.take(SPANS_PER_MESSAGE_MAX);
            let count = spans.len() as u64;
            if !knows {
                self.spans.lose(count);
                continue;
            }
            let lost = self.spans.take_lost();
            if count == 0 && lost == 0 {
                return Ok(());
            }
            let message = FromEdge::Spans { spans, lost };
            let written = timeout(CONTROL_TIME, write_frame(&mut conversation.out, &message)).await;
            if !matches!(written, Ok(Ok(()))) {
                self.spans.lose(count.saturating_add(lost));
            }
            written??;
        }
        Ok(())
    }

    fn save_certificates(&self) {
        if *self.stop.borrow() {
            return;
        }
        if let Err(error) = self.saved_certificates.store(&self.certificates) {
            tracing::warn!(%error, "the certificates cannot be saved; a restarted edge will wait for control");
        }
    }

    /// Has on disk what is about to be served.
    fn save_table(&mut self) {
        if *self.stop.borrow() {
            return;
        }
        let saved = match self.saved.is_due() {
            true => self
                .saved
                .store(self.publisher.generation(), self.publisher.routes()),
            false => Ok(()),
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the routes cannot be saved; a restarted edge will wait for control");
        }
    }
}

/// How many of what is to be told, from its end, go into one message.
fn in_one_message(untold: &[ServiceCounts]) -> usize {
    let mut buckets = 0;
    let fitting = untold
        .iter()
        .rev()
        .take(COUNTS_PER_MESSAGE_MAX)
        .take_while(|one| {
            let of = [&one.latency, &one.queued, &one.cold];
            buckets += of
                .map(|histogram| histogram.buckets.len())
                .iter()
                .sum::<usize>();
            buckets <= BUCKETS_PER_MESSAGE_MAX
        });
    fitting.count().max(1)
}

/// Milliseconds since the Unix epoch.
fn wall_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

/// When the next second of the clock on the wall begins.
fn next_second() -> Instant {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let begun = Duration::from_nanos(now.subsec_nanos().into());
    Instant::now() + COUNTS_EVERY.saturating_sub(begun)
}

/// Tells control that a certificate is wanted, if it knows of certificates.
async fn want(conversation: &mut Conversation, name: String) -> io::Result<()> {
    if !conversation.certified {
        return Ok(());
    }
    let message = FromEdge::CertificateWanted { name };
    timeout(CONTROL_TIME, write_frame(&mut conversation.out, &message)).await?
}

/// Connects and says hello.
async fn connect(socket: &std::path::Path) -> io::Result<Conversation> {
    let (mut input, mut out) = UnixStream::connect(socket).await?.into_split();
    let hello = RouteHello {
        version: ROUTE_PROTOCOL_VERSION,
    };
    let theirs = timeout(CONTROL_TIME, async {
        write_frame(&mut out, &hello).await?;
        read_frame::<RouteHello>(&mut input).await
    })
    .await??
    .ok_or(io::ErrorKind::UnexpectedEof)?;
    if theirs.version == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "control speaks no version of the route protocol",
        ));
    }
    let tells_demand = theirs.version >= ROUTE_PROTOCOL_DEMAND;
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    // Reading a frame is not cancel-safe: it has a task of its own, which ends when the socket or
    // the conversation does.
    tokio::spawn(read_messages(input, sender));
    Ok(Conversation {
        version: theirs.version.min(ROUTE_PROTOCOL_VERSION),
        messages,
        out,
        begun: false,
        outstanding: VecDeque::new(),
        serving: None,
        told: None,
        presenting: None,
        certified: false,
        demand: tells_demand.then(Reporter::new),
    })
}

async fn read_messages(mut input: OwnedReadHalf, messages: mpsc::Sender<io::Result<ToEdge>>) {
    loop {
        let message = tokio::select! {
            message = read_frame(&mut input) => message.transpose(),
            // The frame that is cut off is of a conversation that is over.
            () = messages.closed() => return,
        };
        let Some(message) = message else { return };
        let failed = message.is_err();
        if messages.send(message).await.is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use ekiden_model::{
        id::ServiceId,
        instance::RevisionNumber,
        route::{Route, RouteState, Upstream},
    };

    use super::*;

    const INSTANCE: InstanceId = InstanceId::from_bytes([7; 16]);

    fn table(generation: u64, upstreams: Vec<Upstream>) -> ToEdge {
        let route = Route {
            service: ServiceId::from_bytes([1; 16]),
            service_name: "test".parse().unwrap(),
            hosts: vec!["app.test".to_owned()],
            private_hosts: Vec::new(),
            state: RouteState::Serving,
            concurrency_per_instance: 1,
            upstreams,
            ingress: Box::default(),
        };
        ToEdge::Table {
            generation: Generation(generation),
            routes: vec![route],
        }
    }

    fn upstream() -> Upstream {
        Upstream {
            instance: INSTANCE,
            revision: RevisionNumber(1),
            address: "127.0.0.1:1".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_generation_is_told_only_when_every_worker_serves_by_it() {
        let (notify, stop) = (Arc::new(Notify::new()), watch::channel(false).1);
        let dir = tempfile::tempdir().unwrap();
        let mut received = Vec::new();
        let workers = (0..2)
            .map(|_| {
                let (updates, end) = mpsc::channel(4);
                received.push(end);
                WorkerEnd {
                    updates,
                    served: Arc::new(Served::new(Arc::clone(&notify))),
                }
            })
            .collect();
        let (tls, wanted) = Tls::new().unwrap();
        let mut control = Control {
            socket: dir.path().join("none"),
            publisher: Publisher::new(Arc::clone(&notify), 443),
            saved: SavedTable::new(dir.path()),
            certificates: Certificates::default(),
            saved_certificates: SavedCertificates::new(dir.path()),
            tls,
            wanted,
            workers,
            adopted: Arc::clone(&notify),
            drained: notify,
            untold: Vec::new(),
            minute: 0,
            minutes_kept: 0,
            spans: Spans::new(),
            over: stop.clone(),
            stop,
        };
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut conversation = Conversation {
            version: ROUTE_PROTOCOL_VERSION,
            messages: mpsc::channel(1).1,
            out: ours.into_split().1,
            begun: false,
            outstanding: VecDeque::new(),
            serving: None,
            told: None,
            presenting: None,
            certified: false,
            demand: None,
        };
        control
            .publish(&mut conversation, table(5, vec![upstream()]))
            .await
            .unwrap();
        let first = received[0].recv().await.unwrap();
        for worker in 0..2 {
            control.tell(&mut conversation).await.unwrap();
            assert_eq!(conversation.told, None, "worker {worker} is behind");
            control.workers[worker].served.adopted(first.sequence);
        }
        control.tell(&mut conversation).await.unwrap();
        assert_eq!(conversation.told, Some((Generation(5), vec![])));

        // A worker that is behind may still send requests to an instance that has left: it is
        // neither draining nor gone until all have adopted the table without it.
        let instance = Arc::clone(&first.set[0].instances[0]);
        control
            .publish(&mut conversation, table(6, vec![]))
            .await
            .unwrap();
        control.workers[0].served.adopted(first.sequence + 1);
        control.tell(&mut conversation).await.unwrap();
        assert_eq!(conversation.told, Some((Generation(5), vec![])));
        assert!(instance.try_take(0));
        control.workers[1].served.adopted(first.sequence + 1);
        control.tell(&mut conversation).await.unwrap();
        assert_eq!(conversation.told, Some((Generation(6), vec![INSTANCE])));
        instance.release();
        control.tell(&mut conversation).await.unwrap();
        assert_eq!(conversation.told, Some((Generation(6), vec![])));
    }
}
