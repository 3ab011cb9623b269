//! The edges: who is connected, what they were told, what they serve by.
//!
//! Control listens on a Unix socket; each edge process connects and is sent the whole table, then
//! every change. A change is stored before it is sent, under one lock with its generation, so that
//! generations reach every edge in order and "the edge serves by generation n" implies every change
//! up to n.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use ekiden_engine::frame::{encode_frame, read_frame, write_frame};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    route::{FromEdge, Generation, ROUTE_PROTOCOL_VERSION, Route, RouteHello, ToEdge},
};
use ekiden_store::{Store, StoreError};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Edge processes served at once: one per host, and for a moment two while one is replaced.
const EDGES_MAX: usize = 8;

/// Changes that may wait for an edge that does not read; beyond, it is disconnected and gets the
/// whole table when it comes back.
const CHANGES_WAITING_MAX: usize = 4096;

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
}

/// The table, and the edges that serve by it.
#[derive(Debug)]
pub(crate) struct Edges {
    store: Arc<Store>,
    table: Mutex<Table>,
    reports: StdMutex<HashMap<u64, Option<Report>>>,
    state: watch::Sender<EdgeState>,
}

#[derive(Debug)]
struct Table {
    generation: Generation,
    routes: BTreeMap<ServiceId, Route>,
    edges: HashMap<u64, mpsc::Sender<Arc<[u8]>>>,
    next_edge: u64,
}

#[derive(Debug)]
struct Report {
    generation: Generation,
    draining: Vec<InstanceId>,
}

impl Edges {
    /// The table as it was last stored.
    pub(crate) async fn load(store: Arc<Store>) -> Result<Self, StoreError> {
        let (generation, routes) = store.routes().await?;
        let routes = routes
            .into_iter()
            .map(|route| (route.service, route))
            .collect();
        let table = Table {
            generation,
            routes,
            edges: HashMap::new(),
            next_edge: 0,
        };
        Ok(Self {
            store,
            table: Mutex::new(table),
            reports: StdMutex::default(),
            state: watch::Sender::new(EdgeState::default()),
        })
    }

    /// What the edges serve by, kept current.
    pub(crate) fn state(&self) -> watch::Receiver<EdgeState> {
        self.state.subscribe()
    }

    /// A service's route as it was last published, and a generation that has it.
    pub(crate) async fn published(&self, service: ServiceId) -> (Option<Route>, Generation) {
        let table = self.table.lock().await;
        (table.routes.get(&service).cloned(), table.generation)
    }

    /// Stores and sends a service's route, or that it has none any more.
    pub(crate) async fn publish(
        &self,
        service: ServiceId,
        route: Option<Route>,
    ) -> Result<Generation, StoreError> {
        let mut table = self.table.lock().await;
        let generation = self.store.put_route(service, route.as_ref()).await?;
        table.generation = generation;
        let (set, remove) = match route {
            Some(route) => {
                table.routes.insert(service, route.clone());
                (vec![route], vec![])
            }
            None => {
                table.routes.remove(&service);
                (vec![], vec![service])
            }
        };
        match encode_frame(&ToEdge::Change {
            generation,
            set,
            remove,
        }) {
            Ok(frame) => table.send(frame.into()),
            Err(error) => warn!(%service, %error, "a route cannot be encoded"),
        }
        Ok(generation)
    }

    /// Serves edges until told to stop.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        edge_uids: Vec<u32>,
        stop: CancellationToken,
    ) {
        let connections = tokio_util::task::TaskTracker::new();
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
            let (edges, stop) = (Arc::clone(&self), stop.clone());
            connections.spawn(async move {
                let ended = tokio::select! {
                    () = stop.cancelled() => Ok(()), // the edge goes on by its last table
                    ended = edges.serve_edge(stream) => ended,
                };
                info!(
                    error = ended.err().map(tracing::field::display),
                    "an edge disconnected"
                );
            });
        }
        connections.close();
        connections.wait().await;
    }

    async fn serve_edge(&self, mut stream: UnixStream) -> io::Result<()> {
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
        if hello.is_none_or(|hello| hello.version < 1) {
            return Err(io::Error::other("the edge did not say hello"));
        }
        let (reader, writer) = stream.into_split();
        let (edge, changes) = self.enter().await?;
        let _leave = Leave { edges: self, edge };
        info!(edge, "an edge connected");
        tokio::select! {
            ended = send_all(writer, changes) => ended,
            ended = self.receive_all(edge, reader) => ended,
        }
    }

    /// Registers an edge; its first message, the whole table, is queued under the same lock that
    /// orders changes.
    async fn enter(&self) -> io::Result<(u64, mpsc::Receiver<Arc<[u8]>>)> {
        let mut table = self.table.lock().await;
        let routes = table.routes.values().cloned().collect();
        let first = encode_frame(&ToEdge::Table {
            generation: table.generation,
            routes,
        })?;
        let (sender, receiver) = mpsc::channel(CHANGES_WAITING_MAX);
        let sent = sender.try_send(first.into());
        debug_assert!(sent.is_ok(), "a new channel has room");
        let edge = table.next_edge;
        table.next_edge += 1;
        table.edges.insert(edge, sender);
        self.report(edge, None);
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
                } => {
                    self.report(
                        edge,
                        Some(Report {
                            generation,
                            draining,
                        }),
                    );
                }
                FromEdge::Presenting { .. } | FromEdge::CertificateWanted { .. } => {}
            }
        }
        Ok(())
    }

    fn report(&self, edge: u64, report: Option<Report>) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(edge, report);
        self.publish_state(&reports);
    }

    fn forget(&self, edge: u64) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.remove(&edge);
        self.publish_state(&reports);
    }

    fn publish_state(&self, reports: &HashMap<u64, Option<Report>>) {
        let state = combine(reports.values());
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }
}

fn combine<'a>(reports: impl Iterator<Item = &'a Option<Report>>) -> EdgeState {
    let mut state = EdgeState::default();
    let mut first = true;
    for report in reports {
        let generation = report.as_ref().map(|report| report.generation);
        state.serving = match first {
            true => generation,
            false => state.serving.min(generation),
        };
        first = false;
        state.draining.extend(
            report
                .iter()
                .flat_map(|report| report.draining.iter().copied()),
        );
    }
    state
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
            .retain(|_, edge| edge.try_send(Arc::clone(&frame)).is_ok());
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

    fn report(generation: u64, draining: &[u8]) -> Option<Report> {
        let draining = draining
            .iter()
            .map(|n| InstanceId::from_bytes([*n; 16]))
            .collect();
        Some(Report {
            generation: Generation(generation),
            draining,
        })
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
        assert_eq!(two.draining.len(), 2);
        assert_eq!(combine([report(3, &[]), None].iter()).serving, None);
    }
}
