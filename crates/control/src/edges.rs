//! The edges: who is connected, what they were told, what they serve by.
//!
//! Control listens on a Unix socket; each edge process connects and is sent the whole table, then
//! every change. A change is stored before it is sent, under one lock with its generation, so that
//! generations reach every edge in order and "the edge serves by generation n" implies every change
//! up to n.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::Duration,
};

use ekiden_engine::frame::{encode_frame, read_frame, write_frame};
use ekiden_model::{
    id::{CertificateId, InstanceId, ServiceId},
    route::{
        CertificateGeneration, Challenge, EdgeCertificate, FromEdge, Generation,
        ROUTE_PROTOCOL_CERTIFICATES, ROUTE_PROTOCOL_TRACING, ROUTE_PROTOCOL_VERSION, Removed,
        Route, RouteHello, ToEdge, Tracing,
    },
    span::RequestSpan,
};
use ekiden_store::{Store, StoreError};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock,
    demand::{DEMAND_KEPT, Demands},
    traffic::Traffic,
};

/// Edge processes served at once: one per host, and those that it has replaced, as long as they
/// have requests.
const EDGES_MAX: usize = 64;

/// Routes that are stored in one write; more wait for the next.
const PUBLISHED_AT_ONCE_MAX: usize = 256;

/// Changes that may wait for an edge that does not read; beyond, it is disconnected and gets the
/// whole table when it comes back.
const CHANGES_WAITING_MAX: usize = 4096;

/// Bytes of certificates in one message; more go into several.
const CERTIFICATE_BYTES_MAX: usize = 8 << 20;

/// Names that clients wait for a certificate of, and that nobody has looked at yet.
const WANTED_MAX: usize = 64;

/// Spans that are kept until they are taken; more are lost.
const SPANS_MAX: usize = 16_384;

/// How long an edge may take to take in one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connected edges together serve by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EdgeState {
    /// The newest generation that every connected edge serves by; `None` while none is connected
    /// or one has not said yet.
    pub(crate) serving: Option<Generation>,
    /// Instances that are out of the table and still hold requests.
    pub(crate) draining: HashSet<InstanceId>,
    /// The newest generation of certificates that every connected edge presents; `None` as above.
    pub(crate) presenting: Option<CertificateGeneration>,
}

/// Everything about certificates that edges are to present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) certificates: BTreeMap<CertificateId, EdgeCertificate>,
    /// For clients that name no host.
    pub(crate) default: Option<CertificateId>,
    pub(crate) challenges: Vec<Challenge>,
    /// Patterns of names that certificates are wanted for when they are asked for.
    pub(crate) on_demand: Vec<String>,
}

/// The table, and the edges that serve by it.
#[derive(Debug)]
pub(crate) struct Edges {
    store: Arc<Store>,
    table: Mutex<Table>,
    /// Routes that are stored next, one of each worker at most.
    waiting: StdMutex<Vec<Publication>>,
    reports: StdMutex<HashMap<u64, Report>>,
    demands: Demands,
    state: watch::Sender<EdgeState>,
    traffic: Traffic,
    spans: StdMutex<Spans>,
    wanted: mpsc::Sender<String>,
}

/// Spans that edges told of, and that nobody has taken yet.
#[derive(Debug, Default)]
struct Spans {
    held: VecDeque<RequestSpan>,
    /// Those that edges or this had no room for, since spans were last taken.
    lost: u64,
}

impl Spans {
    fn add(&mut self, spans: Vec<RequestSpan>, lost: u64) {
        let room = SPANS_MAX - self.held.len();
        let over = spans.len().saturating_sub(room);
        self.lost = self.lost.saturating_add(lost).saturating_add(over as u64);
        self.held.extend(spans.into_iter().take(room));
    }

    fn take(&mut self, count_max: usize) -> (Vec<RequestSpan>, u64) {
        let count = count_max.min(self.held.len());
        let taken = self.held.drain(..count).collect();
        (taken, std::mem::take(&mut self.lost))
    }
}

/// A route on its way to be stored.
#[derive(Debug)]
struct Publication {
    service: ServiceId,
    route: Option<Route>,
    reply: oneshot::Sender<Generation>,
}

#[derive(Debug)]
struct Table {
    generation: Generation,
    routes: BTreeMap<ServiceId, Route>,
    /// `None` until it is known: an edge presents what it has saved as long as it is told nothing.
    presented: Option<Presented>,
    certificates: CertificateGeneration,
    /// `None` until it is known: an edge goes on as it was told before.
    tracing: Option<Tracing>,
    edges: HashMap<u64, EdgeEnd>,
    next_edge: u64,
}

/// One edge, as it is reached.
#[derive(Debug)]
struct EdgeEnd {
    /// Of the protocol, which both speak.
    version: u32,
    messages: mpsc::Sender<Arc<[u8]>>,
}

/// What one edge has said last.
#[derive(Debug, Default)]
struct Report {
    generation: Option<Generation>,
    draining: Vec<InstanceId>,
    presenting: Option<CertificateGeneration>,
}

/// The route of a service, as what was changed has it.
fn current<'a>(
    table: &'a Table,
    changed: &'a BTreeMap<ServiceId, Option<Route>>,
    service: ServiceId,
) -> Option<&'a Route> {
    match changed.get(&service) {
        Some(route) => route.as_ref(),
        None => table.routes.get(&service),
    }
}

impl Edges {
    /// The table as it was last stored, and the names that edges will want certificates for.
    pub(crate) async fn load(
        store: Arc<Store>,
    ) -> Result<(Self, mpsc::Receiver<String>), StoreError> {
        let (generation, routes) = store.routes().await?;
        let routes = routes
            .into_iter()
            .map(|route| (route.service, route))
            .collect();
        let table = Table {
            generation,
            routes,
            presented: None,
            certificates: CertificateGeneration::default(),
            tracing: None,
            edges: HashMap::new(),
            next_edge: 0,
        };
        let (wanted, names) = mpsc::channel(WANTED_MAX);
        let edges = Self {
            store,
            table: Mutex::new(table),
            waiting: StdMutex::default(),
            reports: StdMutex::default(),
            demands: Demands::default(),
            state: watch::Sender::new(EdgeState::default()),
            traffic: Traffic::new(clock::now()),
            spans: StdMutex::default(),
            wanted,
        };
        Ok((edges, names))
    }

    /// Every host name that leads to a service.
    pub(crate) async fn hosts(&self) -> HashSet<String> {
        let table = self.table.lock().await;
        let hosts = table.routes.values().flat_map(|route| &route.hosts);
        hosts.cloned().collect()
    }

    /// Has the edges present this from now on; they do when they report a generation that is not
    /// below the one answered.
    pub(crate) async fn present(&self, next: Presented) -> CertificateGeneration {
        let mut table = self.table.lock().await;
        if table.presented.as_ref() == Some(&next) {
            return table.certificates;
        }
        table.certificates.0 += 1;
        let (set, remove) = match &table.presented {
            None => (
                next.certificates.values().collect(),
                Removed::AllBut(vec![]),
            ),
            Some(before) => {
                let same = |one: &&EdgeCertificate| before.certificates.get(&one.id) == Some(*one);
                let set = next
                    .certificates
                    .values()
                    .filter(|one| !same(one))
                    .collect();
                let gone = before.certificates.keys();
                let gone = gone.filter(|id| !next.certificates.contains_key(id));
                (set, Removed::These(gone.copied().collect()))
            }
        };
        match messages(table.certificates, &next, set, remove) {
            Ok(frames) => table.send_since(ROUTE_PROTOCOL_CERTIFICATES, &frames),
            Err(error) => warn!(%error, "certificates cannot be encoded"),
        }
        table.presented = Some(next);
        table.certificates
    }

    /// What the edges serve by, kept current.
    pub(crate) fn state(&self) -> watch::Receiver<EdgeState> {
        self.state.subscribe()
    }

    /// What became of requests.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Has the edges trace requests like this from now on.
    pub(crate) async fn trace(&self, tracing: Tracing) {
        let mut table = self.table.lock().await;
        if table.tracing == Some(tracing) {
            return;
        }
        table.tracing = Some(tracing);
        match encode_frame(&ToEdge::Tracing(tracing)) {
            Ok(frame) => table.send_since(ROUTE_PROTOCOL_TRACING, &[frame.into()]),
            Err(error) => warn!(%error, "how to trace cannot be encoded"),
        }
    }

    /// Takes up to so many of the spans that edges told of, the oldest first; and how many were
    /// lost since they were last taken.
    pub(crate) fn take_spans(&self, count_max: usize) -> (Vec<RequestSpan>, u64) {
        self.spans().take(count_max)
    }

    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked of services.
    pub(crate) fn demands(&self) -> &Demands {
        &self.demands
    }

    /// A service's route as it was last published, and a generation that has it.
    pub(crate) async fn published(&self, service: ServiceId) -> (Option<Route>, Generation) {
        let table = self.table.lock().await;
        (table.routes.get(&service).cloned(), table.generation)
    }

    /// Stores and sends a service's route, or that it has none any more. A worker has one of its own on its
    /// way at a time.
    ///
    /// A name that another service's route has goes over in the same generation if it is this one's
    /// by its association, and stays where it is if it is not: so a domain that moves is never in
    /// two routes and never in none.
    ///
    /// Those that wait while one is stored are stored together: a write is synced to the disk, and a
    /// thousand services that wake at one moment do not wait for a thousand syncs.
    pub(crate) async fn publish(
        &self,
        service: ServiceId,
        route: Option<Route>,
    ) -> Result<Generation, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        self.lock_waiting().push(Publication {
            service,
            route: route.clone(),
            reply,
        });
        let mut table = self.table.lock().await;
        match answer.try_recv() {
            Ok(generation) => return Ok(generation),
            // Whoever took it failed or is gone: it is tried alone, and fails by itself.
            Err(oneshot::error::TryRecvError::Closed) => {
                return self.store_all(&mut table, &[(service, route)]).await;
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        let mut taken = {
            let mut waiting = self.lock_waiting();
            // One's own is among them; those of callers that are gone are nobody's.
            waiting.retain(|one| !one.reply.is_closed());
            let own = waiting.iter().position(|one| one.service == service);
            let first = own
                .unwrap_or_default()
                .saturating_sub(PUBLISHED_AT_ONCE_MAX - 1);
            let end = (first + PUBLISHED_AT_ONCE_MAX).min(waiting.len());
            waiting.drain(first..end).collect::<Vec<_>>()
        };
        let routes: Vec<_> = taken
            .iter_mut()
            .map(|one| (one.service, one.route.take()))
            .collect();
        let generation = self.store_all(&mut table, &routes).await?;
        for one in taken {
            // A caller that is gone asks again when it is back.
            let _ = one.reply.send(generation);
        }
        Ok(generation)
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, Vec<Publication>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores and sends routes in one generation.
    async fn store_all(
        &self,
        table: &mut Table,
        routes: &[(ServiceId, Option<Route>)],
    ) -> Result<Generation, StoreError> {
        let mut changed: BTreeMap<ServiceId, Option<Route>> = BTreeMap::new();
        for (service, route) in routes {
            let route = match route {
                None => None,
                Some(route) => Some(self.with_names(table, &mut changed, route.clone()).await?),
            };
            changed.insert(*service, route);
        }
        let rows: Vec<_> = changed
            .iter()
            .map(|(id, route)| (*id, route.as_ref()))
            .collect();
        let generation = self.store.put_routes(&rows).await?;
        table.generation = generation;
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (service, route) in changed {
            match route {
                Some(route) => {
                    table.routes.insert(service, route.clone());
                    set.push(route);
                }
                None => {
                    table.routes.remove(&service);
                    self.traffic.forget(service);
                    remove.push(service);
                }
            }
        }
        match encode_frame(&ToEdge::Change {
            generation,
            set,
            remove,
        }) {
            Ok(frame) => table.send(frame.into()),
            Err(error) => warn!(%error, "routes cannot be encoded"),
        }
        Ok(generation)
    }

    /// A route with the names that are its own; those of others go from their routes.
    async fn with_names(
        &self,
        table: &Table,
        changed: &mut BTreeMap<ServiceId, Option<Route>>,
        mut route: Route,
    ) -> Result<Route, StoreError> {
        let service = route.service;
        for host in std::mem::take(&mut route.hosts) {
            let has = |other: &&Route| other.service != service && other.hosts.contains(&host);
            // A scan, but for custom domains alone: a service's own name is made of its id.
            let new =
                !current(table, changed, service).is_some_and(|old| old.hosts.contains(&host));
            let unchanged = || {
                let routes = table.routes.values();
                routes.filter(|other| !changed.contains_key(&other.service))
            };
            let holder = match new {
                true => changed.values().flatten().chain(unchanged()).find(has),
                false => None,
            };
            if let Some(mut holder) = holder.cloned() {
                if self.store.domain_owner(&host).await? != Some(service) {
                    continue;
                }
                holder.hosts.retain(|other| *other != host);
                changed.insert(holder.service, Some(holder));
            }
            route.hosts.push(host);
        }
        Ok(route)
    }

    /// Serves edges until told to stop.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        edge_uids: Vec<u32>,
        stop: CancellationToken,
    ) {
        let connections = tokio_util::task::TaskTracker::new();
        let gone = tokio_util::task::TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break, // cancel-safe: nothing is in flight here
                accepted = listener.accept() => accepted, // cancel-safe per its docs
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept an edge");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if !allowed(&stream, &edge_uids) || connections.len() >= EDGES_MAX {
                warn!("an edge connection was refused");
                continue;
            }
            let (edges, stop, gone) = (Arc::clone(&self), stop.clone(), gone.clone());
            connections.spawn(async move {
                let mut edge = None;
                let ended = tokio::select! {
                    () = stop.cancelled() => Ok(()), // the edge goes on by its last table
                    ended = edges.serve_edge(stream, &mut edge) => ended,
                };
                if let Some(edge) = edge {
                    edges.demands.leaves(edge);
                    let forgetting = async move {
                        loop {
                            tokio::time::sleep(DEMAND_KEPT).await;
                            if edges.demands.forget_edge(edge) {
                                return;
                            }
                        }
                    };
                    // Nothing is in flight in it: it is dropped when control stops.
                    gone.spawn(async move { stop.run_until_cancelled(forgetting).await });
                }
                info!(
                    error = ended.err().map(tracing::field::display),
                    "an edge disconnected"
                );
            });
        }
        connections.close();
        connections.wait().await;
        gone.close();
        gone.wait().await;
    }

    /// Serves one edge until it goes away; `number` is its own once it has one.
    async fn serve_edge(&self, mut stream: UnixStream, number: &mut Option<u64>) -> io::Result<()> {
        write_frame(
            &mut stream,
            &RouteHello {
                version: ROUTE_PROTOCOL_VERSION,
            },
        )
        .await?;
        let hello = tokio::time::timeout(SEND_TIMEOUT, read_frame::<RouteHello>(&mut stream))
            .await
            .map_err(|_| io::Error::other("the edge did not say hello"))??;
        let version = match hello {
            Some(hello) if hello.version >= 1 => hello.version.min(ROUTE_PROTOCOL_VERSION),
            _ => return Err(io::Error::other("the edge did not say hello")),
        };
        let (reader, writer) = stream.into_split();
        let (edge, changes) = self.enter(version).await?;
        let _leave = Leave { edges: self, edge };
        *number = Some(edge);
        info!(edge, "an edge connected");
        tokio::select! {
            ended = send_all(writer, changes) => ended,
            ended = self.receive_all(edge, reader) => ended,
        }
    }

    /// Registers an edge; its first message, the whole table, is queued under the same lock that
    /// orders changes.
    async fn enter(&self, version: u32) -> io::Result<(u64, mpsc::Receiver<Arc<[u8]>>)> {
        let mut table = self.table.lock().await;
        let routes = table.routes.values().cloned().collect();
        let first = encode_frame(&ToEdge::Table {
            generation: table.generation,
            routes,
        })?;
        let (sender, receiver) = mpsc::channel(CHANGES_WAITING_MAX);
        let sent = sender.try_send(first.into());
        debug_assert!(sent.is_ok(), "a new channel has room");
        if let Some(presented) = table.presented.as_ref()
            && version >= ROUTE_PROTOCOL_CERTIFICATES
        {
            let set = presented.certificates.values().collect();
            let remove = Removed::AllBut(vec![]);
            for frame in messages(table.certificates, presented, set, remove)? {
                sender.try_send(frame).map_err(io::Error::other)?;
            }
        }
        if let Some(tracing) = table.tracing
            && version >= ROUTE_PROTOCOL_TRACING
        {
            let frame = encode_frame(&ToEdge::Tracing(tracing))?;
            sender.try_send(frame.into()).map_err(io::Error::other)?;
        }
        let edge = table.next_edge;
        table.next_edge += 1;
        let end = EdgeEnd {
            version,
            messages: sender,
        };
        table.edges.insert(edge, end);
        self.report(edge, |report| *report = Report::default());
        Ok((edge, receiver))
    }

    async fn receive_all(
        &self,
        edge: u64,
        mut reader: tokio::net::unix::OwnedReadHalf,
    ) -> io::Result<()> {
        while let Some(message) = read_frame(&mut reader).await? {
            match message {
                FromEdge::Serving {
                    generation,
                    draining,
                } => self.report(edge, |report| {
                    report.generation = Some(generation);
                    report.draining = draining;
                }),
                FromEdge::Presenting {
                    generation,
                    unusable,
                } => {
                    if !unusable.is_empty() {
                        warn!(edge, certificates = ?unusable, "an edge cannot use certificates");
                    }
                    self.report(edge, |report| report.presenting = Some(generation));
                }
                FromEdge::Counts { counts } => {
                    // Held until they are added: a service that goes is forgotten after it.
                    let table = self.table.lock().await;
                    let has_route = |service| table.routes.contains_key(&service);
                    self.traffic.add(&counts, has_route, clock::now());
                }
                FromEdge::Spans { spans, lost } => self.spans().add(spans, lost),
                FromEdge::Demand { whole, services } => self.demands.told(edge, whole, services),
                FromEdge::CertificateWanted { name } => {
                    if self.wanted.try_send(name).is_err() {
                        warn!(edge, "too many names want a certificate at once");
                    }
                }
            }
        }
        Ok(())
    }

    fn report(&self, edge: u64, change: impl FnOnce(&mut Report)) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        change(reports.entry(edge).or_default());
        self.publish_state(&reports);
    }

    fn forget(&self, edge: u64) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.remove(&edge);
        self.publish_state(&reports);
    }

    fn publish_state(&self, reports: &HashMap<u64, Report>) {
        let state = combine(reports.values());
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }
}

fn combine<'a>(reports: impl Iterator<Item = &'a Report>) -> EdgeState {
    let mut state = EdgeState::default();
    let mut first = true;
    for report in reports {
        (state.serving, state.presenting) = match first {
            true => (report.generation, report.presenting),
            false => (
                state.serving.min(report.generation),
                state.presenting.min(report.presenting),
            ),
        };
        first = false;
        state.draining.extend(report.draining.iter().copied());
    }
    state
}

/// What tells an edge of certificates: as many messages as their size asks for. An edge that has
/// taken in the last is at the generation; what goes, goes with the last.
fn messages(
    generation: CertificateGeneration,
    presented: &Presented,
    set: Vec<&EdgeCertificate>,
    remove: Removed,
) -> io::Result<Vec<Arc<[u8]>>> {
    let remove = match remove {
        Removed::AllBut(_) => Removed::AllBut(presented.certificates.keys().copied().collect()),
        these @ Removed::These(_) => these,
    };
    let mut parts: Vec<Vec<EdgeCertificate>> = vec![Vec::new()];
    let mut bytes = 0;
    for one in set {
        let size = one.chain.len() + one.key.0.len();
        if bytes + size > CERTIFICATE_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(one.clone());
        }
    }
    let last = parts.len() - 1;
    let encode = |(index, set): (usize, Vec<EdgeCertificate>)| {
        let (generation, remove) = match index == last {
            true => (generation, remove.clone()),
            false => (CertificateGeneration(0), Removed::These(Vec::new())),
        };
        let message = ToEdge::Certificates {
            generation,
            set,
            remove,
            default: presented.default,
            challenges: presented.challenges.clone(),
            on_demand: presented.on_demand.clone(),
        };
        encode_frame(&message).map(Into::into)
    };
    parts.into_iter().enumerate().map(encode).collect()
}

/// Forgets an edge however its connection ends.
struct Leave<'a> {
    edges: &'a Edges,
    edge: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.edges.forget(self.edge);
    }
}

impl Table {
    /// Queues a message for every edge. One that is gone or does not read is dropped; closing its
    /// channel ends its connection.
    fn send(&mut self, frame: Arc<[u8]>) {
        self.edges
            .retain(|_, edge| edge.messages.try_send(Arc::clone(&frame)).is_ok());
    }

    /// The same to those that speak this version of the protocol.
    fn send_since(&mut self, version: u32, frames: &[Arc<[u8]>]) {
        self.edges.retain(|_, edge| {
            let mut frames = frames.iter();
            edge.version < version
                || frames.all(|frame| edge.messages.try_send(Arc::clone(frame)).is_ok())
        });
    }
}

async fn send_all(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    mut changes: mpsc::Receiver<Arc<[u8]>>,
) -> io::Result<()> {
    while let Some(frame) = changes.recv().await {
        tokio::time::timeout(SEND_TIMEOUT, writer.write_all(&frame))
            .await
            .map_err(|_| io::Error::other("the edge does not read"))??;
    }
    Err(io::Error::other("the edge fell too far behind"))
}

fn allowed(stream: &UnixStream, uids: &[u32]) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| uids.contains(&peer.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(generation: u64, draining: &[u8]) -> Report {
        let draining = draining
            .iter()
            .map(|n| InstanceId::from_bytes([*n; 16]))
            .collect();
        Report {
            generation: Some(Generation(generation)),
            draining,
            presenting: Some(CertificateGeneration(generation)),
        }
    }

    #[test]
    fn edges_serve_by_what_the_slowest_serves_by() {
        assert_eq!(combine([].iter()).serving, None);
        assert_eq!(
            combine([report(3, &[])].iter()).serving,
            Some(Generation(3))
        );
        let two = combine([report(3, &[1]), report(5, &[2])].iter());
        assert_eq!(two.serving, Some(Generation(3)));
        assert_eq!(two.presenting, Some(CertificateGeneration(3)));
        assert_eq!(two.draining.len(), 2);
        let new = combine([report(3, &[]), Report::default()].iter());
        assert_eq!((new.serving, new.presenting), (None, None));
    }

    fn span(number: u64) -> RequestSpan {
        RequestSpan {
            trace: ekiden_model::span::TraceId::new(1).unwrap(),
            span: ekiden_model::span::SpanId::new(number).unwrap(),
            parent: None,
            service: None,
            instance: None,
            method: "GET".to_owned(),
            host: "app.test".to_owned(),
            path: "/".to_owned(),
            status: 200,
            cause: None,
            started_us: 0,
            queue: None,
            connected_us: None,
            first_byte_us: None,
            total_us: 1,
            request_body_bytes: 0,
            response_body_bytes: 0,
        }
    }

    #[test]
    fn spans_beyond_the_bound_are_lost_and_counted() {
        let mut spans = Spans::default();
        spans.add((1..=SPANS_MAX as u64).map(span).collect(), 0);
        spans.add(vec![span(1), span(2)], 5);
        let (taken, lost) = spans.take(2);
        assert_eq!(taken, [span(1), span(2)]);
        assert_eq!(lost, 7);
        let (taken, lost) = spans.take(usize::MAX);
        assert_eq!((taken.len(), lost), (SPANS_MAX - 2, 0));
    }

    #[tokio::test]
    async fn an_edge_is_told_how_to_trace_when_it_comes_and_when_that_changes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store.db")).await.unwrap());
        let (edges, _wanted) = Edges::load(store).await.unwrap();
        let told = |frame: &Arc<[u8]>| serde_json::from_slice::<ToEdge>(&frame[4..]).unwrap();
        let tracing = Tracing {
            sample_per_million: 50_000,
            ..Tracing::default()
        };
        edges.trace(tracing).await;
        let (_, mut old) = edges.enter(ROUTE_PROTOCOL_TRACING - 1).await.unwrap();
        let (_, mut new) = edges.enter(ROUTE_PROTOCOL_VERSION).await.unwrap();
        assert!(matches!(
            told(&new.recv().await.unwrap()),
            ToEdge::Table { .. }
        ));
        assert_eq!(told(&new.recv().await.unwrap()), ToEdge::Tracing(tracing));
        edges.trace(Tracing::default()).await;
        assert_eq!(
            told(&new.recv().await.unwrap()),
            ToEdge::Tracing(Tracing::default())
        );
        edges.trace(Tracing::default()).await;
        assert!(new.try_recv().is_err());
        assert!(matches!(
            told(&old.recv().await.unwrap()),
            ToEdge::Table { .. }
        ));
        assert!(old.try_recv().is_err());
        assert_eq!(edges.take_spans(1), (vec![], 0));
    }

    #[test]
    fn many_certificates_are_several_messages_and_the_last_takes_away() {
        let one = |n: u8| EdgeCertificate {
            id: CertificateId::from_bytes([n; 16]),
            names: vec![format!("{n}.test")],
            chain: "x".repeat(CERTIFICATE_BYTES_MAX / 2),
            key: ekiden_model::route::PrivateKeyPem(String::new().into()),
        };
        let all: Vec<_> = (0..5).map(one).collect();
        let presented = Presented {
            certificates: all.iter().map(|one| (one.id, one.clone())).collect(),
            ..Presented::default()
        };
        let set = all.iter().collect();
        let frames = messages(
            CertificateGeneration(7),
            &presented,
            set,
            Removed::AllBut(vec![]),
        )
        .unwrap();
        let read = |frame: &Arc<[u8]>| match serde_json::from_slice(&frame[4..]).unwrap() {
            ToEdge::Certificates {
                generation,
                set,
                remove,
                ..
            } => (generation.0, set.len(), remove),
            other => panic!("{other:?}"),
        };
        let read: Vec<_> = frames.iter().map(read).collect();
        let every = all.iter().map(|one| one.id).collect();
        let none = Removed::These(vec![]);
        assert_eq!(
            read,
            [
                (0, 2, none.clone()),
                (0, 2, none),
                (7, 1, Removed::AllBut(every))
            ]
        );
    }
}
