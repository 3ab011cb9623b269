//! A running edge: its threads, from start to stop.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, watch},
};

use crate::{
    access_log::AccessLog,
    client_address::{ClientConnections, TrustedProxies},
    config::EdgeConfig,
    control::{Control, WorkerEnd},
    listener::{Entrance, ListenerGroup},
    publisher::Publisher,
    saved::SavedTable,
    tls::{self, Certificates, SavedCertificates, Tls},
    tracer::Spans,
    worker::{self, Served, Start, UPDATES_MAX},
};

/// Why an edge does not run.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// There is nothing to serve on.
    #[error("the edge has no listeners; configure at least one address")]
    NoListeners,
    /// The groups do not have one socket for each worker.
    #[error("listener groups differ in their number of sockets; bind each once for every worker")]
    UnevenListeners,
    /// The access log cannot be opened.
    #[error("failed to open the access log `{}`; its directory has to be the edge's to write", path.display())]
    AccessLog {
        /// Where it was to be.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A thread or its event loop cannot be started.
    #[error("failed to start the edge's threads")]
    Start(#[source] io::Error),
    /// A thread ended without being told to.
    #[error("an edge thread ended by itself; the log says why, and a restart is safe")]
    Died,
}

/// A running edge. Dropping it leaves it running; [`Edge::stop`] and [`Edge::join`] end it.
#[derive(Debug)]
pub struct Edge {
    stop: watch::Sender<bool>,
    /// Closed when a worker or the control thread has ended.
    ended: mpsc::Receiver<()>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Set when the workers have ended.
    over: watch::Sender<bool>,
    control: JoinHandle<io::Result<()>>,
    log: Option<AccessLog>,
}

/// Serves until the process is told to end by `SIGTERM` or `SIGINT`, then lets the requests in
/// flight finish, within [`drain_time`](crate::config::Bounds::drain_time). Blocks.
///
/// # Errors
/// See [`EdgeError`].
pub fn run(
    config: EdgeConfig,
    listeners: Vec<ListenerGroup>,
    control: PathBuf,
) -> Result<(), EdgeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EdgeError::Start)?;
    // Before the first request, so that no signal ends the process the hard way.
    let (mut terminate, mut interrupt) = runtime
        .block_on(async {
            Ok((
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ))
        })
        .map_err(EdgeError::Start)?;
    let mut edge = Edge::start(config, listeners, control)?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
            _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
            () = edge.ended() => {}
        }
    });
    edge.stop();
    edge.join()
}

impl Edge {
    /// Starts one worker for each socket of a listener group, serving by the saved table if there
    /// is one, and the thread that talks to control on the Unix socket `control`, which need not
    /// exist yet.
    ///
    /// # Errors
    /// See [`EdgeError`].
    pub fn start(
        config: EdgeConfig,
        listeners: Vec<ListenerGroup>,
        control: PathBuf,
    ) -> Result<Self, EdgeError> {
        let per_worker = by_worker(listeners)?;
        let log = match &config.access_log {
            None => None,
            Some(log) => Some(AccessLog::open(log).map_err(|source| EdgeError::AccessLog {
                path: log.path.clone(),
                source,
            })?),
        };
        let (stop, stopped) = watch::channel(false);
        let (over, is_over) = watch::channel(false);
        let (end, ended) = mpsc::channel(1);
        let (adopted, drained) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut publisher = Publisher::new(Arc::clone(&drained), config.https_port);
        let saved_table = SavedTable::new(&config.data_dir);
        let saved = saved_table.load().map(|(generation, routes)| {
            tracing::info!(
                generation = generation.0,
                services = routes.len(),
                "serving by the saved routes"
            );
            Arc::new(publisher.table(generation, routes))
        });

        let (tls, wanted) = Tls::new().map_err(EdgeError::Start)?;
        let saved_certificates = SavedCertificates::new(&config.data_dir);
        let mut certificates = Certificates::default();
        if let Some(change) = saved_certificates.load() {
            let provider = tls::provider();
            certificates.apply(change, &provider);
            tls.present(certificates.snapshot(&provider));
        }

        let spans = Spans::new();
        let mut workers = Vec::new();
        let mut ends = Vec::new();
        let clients = Arc::new(ClientConnections::new(config.bounds.connections_per_client));
        for (index, listeners) in per_worker.into_iter().enumerate() {
            let (updates, received) = mpsc::channel(UPDATES_MAX);
            let served = Arc::new(Served::new(Arc::clone(&adopted)));
            let start = Start {
                bounds: config.bounds.clone(),
                listeners,
                trusted: TrustedProxies::new(config.trusted_proxies.clone()),
                clients: Arc::clone(&clients),
                saved: saved.clone(),
                updates: received,
                served: Arc::clone(&served),
                tls: Arc::clone(&tls),
                log: log.as_ref().map(AccessLog::buffer),
                unrouted: Arc::clone(publisher.unrouted()),
                tracer: spans.tracer(),
                stop: stopped.clone(),
            };
            workers.push(spawn(format!("edge-{index}"), &end, move || {
                worker::run(start)
            })?);
            ends.push(WorkerEnd { updates, served });
        }
        let control = Control {
            socket: control,
            publisher,
            saved: saved_table,
            certificates,
            saved_certificates,
            tls,
            wanted,
            workers: ends,
            adopted,
            drained,
            untold: Vec::new(),
            spans,
            minute: 0,
            minutes_kept: 0,
            stop: stopped,
            over: is_over,
        };
        let control = spawn("edge-control".to_owned(), &end, move || control.run())?;
        Ok(Self {
            stop,
            ended,
            workers,
            over,
            control,
            log,
        })
    }

    /// Tells the edge to stop: no new connections, and those there are end with the request they
    /// have. Does not wait.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when a thread has ended, which none does before [`Edge::stop`] unless it failed;
    /// [`Edge::join`] says why.
    pub async fn ended(&mut self) {
        self.ended.recv().await;
    }

    /// Waits until every thread has ended.
    ///
    /// # Errors
    /// [`EdgeError::Start`] if a worker could not set itself up, [`EdgeError::Died`] if one
    /// panicked.
    pub fn join(self) -> Result<(), EdgeError> {
        let mut outcome = Ok(());
        let mut join = |thread: JoinHandle<io::Result<()>>| match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome = Err(EdgeError::Start(error)),
            Err(_) => outcome = Err(EdgeError::Died),
        };
        self.workers.into_iter().for_each(&mut join);
        self.over.send_replace(true);
        join(self.control);
        if let Some(log) = self.log {
            log.close();
        }
        outcome
    }
}

/// Starts a thread that says when it ends, even by a panic.
fn spawn(
    name: String,
    end: &mpsc::Sender<()>,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<JoinHandle<io::Result<()>>, EdgeError> {
    let end = EndOnDrop(end.clone());
    Builder::new()
        .name(name)
        .spawn(move || {
            let _end = end;
            work()
        })
        .map_err(EdgeError::Start)
}

struct EndOnDrop(mpsc::Sender<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        // Full when another has ended before: one is enough.
        let _ = self.0.try_send(());
    }
}

/// From groups of sockets per address to sockets per worker.
fn by_worker(
    groups: Vec<ListenerGroup>,
) -> Result<Vec<Vec<(Entrance, std::net::TcpListener)>>, EdgeError> {
    let workers = groups.first().map_or(0, |group| group.sockets.len());
    if workers == 0 {
        return Err(EdgeError::NoListeners);
    }
    if groups.iter().any(|group| group.sockets.len() != workers) {
        return Err(EdgeError::UnevenListeners);
    }
    let mut per_worker: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for group in groups {
        for (worker, socket) in per_worker.iter_mut().zip(group.sockets) {
            worker.push((group.entrance, socket));
        }
    }
    Ok(per_worker)
}
