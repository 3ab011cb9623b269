//! One worker: one thread, one event loop, its own listening sockets, table copy and connections to
//! instances. Nothing on a request's way is shared with other workers but the counts of requests
//! per instance and, when there is no room, the queue.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, watch},
    task::spawn_local,
    time::{sleep, timeout},
};

use crate::{
    access_log::{Completion, LogBuffer, Stages},
    answer::{Asked, Reply, compose, write_answer},
    cause::Cause,
    client_address::{ClientConnection, ClientConnections, Origin, TooMany, TrustedProxies},
    config::{Bounds, TICK},
    connection::Connection,
    counters::Counters,
    head::Version,
    listener::{Entrance, Preamble, Transport},
    proxy_protocol,
    request_id::RequestIds,
    routes::{Routes, Update},
    scratch::Scratch,
    stream::ClientStream,
    tls::{ON_DEMAND_WAIT, Tls},
    tracer::Tracer,
    watch::Clock,
};

/// Updates that a worker may be behind; then whoever sends them waits.
pub(crate) const UPDATES_MAX: usize = 16;

/// Sets of buffers that a worker keeps for the next requests.
const SCRATCH_MAX: usize = 256;

/// The pause after a connection could not be accepted, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Idle connections to instances are looked at once in so many ticks.
const TICKS_PER_PRUNE: u32 = 10;

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) bounds: Bounds,
    pub(crate) listeners: Vec<(Entrance, std::net::TcpListener)>,
    pub(crate) trusted: TrustedProxies,
    pub(crate) clients: Arc<ClientConnections>,
    /// The table saved by the process before, to serve by from the first request.
    pub(crate) saved: Option<Arc<Update>>,
    pub(crate) updates: mpsc::Receiver<Arc<Update>>,
    pub(crate) served: Arc<Served>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) log: Option<LogBuffer>,
    pub(crate) unrouted: Arc<Counters>,
    pub(crate) tracer: Tracer,
    /// True when the edge is to stop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// How far one worker is.
#[derive(Debug)]
pub(crate) struct Served {
    /// The sequence of the last update it has adopted.
    sequence: AtomicU64,
    changed: Arc<Notify>,
}

/// What the tasks of a worker share.
pub(crate) struct Worker {
    pub(crate) bounds: Bounds,
    pub(crate) routes: RefCell<Routes>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) request_ids: RequestIds,
    pub(crate) tracer: Tracer,
    pub(crate) tls: Arc<Tls>,
    pub(crate) trusted: TrustedProxies,
    clients: Arc<ClientConnections>,
    pub(crate) log: Option<LogBuffer>,
    /// What became of requests that lead to no service.
    pub(crate) unrouted: Arc<Counters>,
    /// Whether the table is a saved one, which may be older than what control has promised since.
    unsure: Cell<bool>,
    /// Told when it is not unsure any more.
    sure: Notify,
    /// Whether connections are to end when they can.
    pub(crate) stopping: Cell<bool>,
    #[expect(
        clippy::vec_box,
        reason = "a borrower moves it, and keeps it across awaits"
    )]
    scratch: RefCell<Vec<Box<Scratch>>>,
    connections: Cell<usize>,
    /// Told when the first connection has come or one has gone.
    connections_changed: Notify,
}

impl Served {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self {
            sequence: AtomicU64::new(0),
            changed,
        }
    }

    /// The worker serves by this update.
    pub(crate) fn adopted(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::SeqCst);
        self.changed.notify_one();
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }
}

/// Runs a worker on this thread until it is told to stop and its connections have ended.
///
/// # Errors
/// The event loop or a listening socket cannot be set up.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(start))
}

async fn serve(start: Start) -> io::Result<()> {
    let Start {
        bounds,
        listeners,
        saved,
        mut updates,
        served,
        tls,
        trusted,
        clients,
        log,
        unrouted,
        tracer,
        mut stop,
    } = start;
    let worker = Rc::new(Worker {
        bounds,
        routes: RefCell::default(),
        clock: Rc::new(Clock::new()),
        request_ids: RequestIds::new(),
        tracer,
        tls,
        trusted,
        clients,
        log,
        unrouted,
        unsure: Cell::new(true),
        sure: Notify::new(),
        stopping: Cell::new(false),
        scratch: RefCell::default(),
        connections: Cell::new(0),
        connections_changed: Notify::new(),
    });
    if let Some(saved) = saved {
        worker.adopt(&saved, &served);
        worker.unsure.set(true);
    }
    let accepting = listeners
        .into_iter()
        .map(|(entrance, listener)| {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let local = listener.local_addr()?;
            Ok(spawn_local(accept(
                Rc::clone(&worker),
                entrance,
                listener,
                local,
                stop.clone(),
            )))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let ticking = spawn_local(tick(Rc::clone(&worker)));

    let mut control_limit = std::pin::pin!(sleep(worker.bounds.control_wait));
    loop {
        tokio::select! {
            // All are cancel-safe per their docs.
            update = updates.recv() => match update {
                Some(update) => worker.adopt(&update, &served),
                None => break,
            },
            () = &mut control_limit, if worker.is_unsure() => worker.trust_saved(),
            stopped = stop.wait_for(|stop| *stop) => { drop(stopped); break }
        }
    }
    worker.stopping.set(true);
    for accepting in accepting {
        if accepting.await.is_err() {
            tracing::error!("a listener's task panicked");
        }
    }
    worker.clock.wake_all();
    let mut drained = std::pin::pin!(worker.drained());
    let mut limit = std::pin::pin!(sleep(worker.bounds.drain_time));
    loop {
        tokio::select! {
            () = &mut drained => break,
            () = &mut limit => {
                let connections = worker.connections.get();
                tracing::warn!(connections, "stopped with requests in flight: the drain limit has passed");
                break;
            }
            // Requests that wait still need tables.
            Some(update) = updates.recv() => worker.adopt(&update, &served),
            () = &mut control_limit, if worker.is_unsure() => worker.trust_saved(),
        }
    }
    // It holds nothing but the worker.
    ticking.abort();
    Ok(())
}

/// Accepts connections until the edge stops.
async fn accept(
    worker: Rc<Worker>,
    entrance: Entrance,
    listener: TcpListener,
    local: SocketAddr,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            // Cancel-safe: waiting for room takes nothing, and accepting is per its docs.
            accepted = async { worker.room().await; listener.accept().await } => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // A task of its own, so that no connection pays for it later.
                spawn_local(receive(
                    Held::new(Rc::clone(&worker)),
                    entrance,
                    stream,
                    (peer, local),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What comes before a connection's first request; then it is served by a task of its own.
async fn receive(
    held: Held,
    entrance: Entrance,
    stream: TcpStream,
    addresses: (SocketAddr, SocketAddr),
) {
    // Refused only on a socket that is closed already, which the first read tells.
    let _ = stream.set_nodelay(true);
    if let Some((stream, origin, client)) = admit(&held.worker, entrance, stream, addresses).await {
        let counted = Counted {
            held,
            _client: client,
        };
        spawn_local(Connection::new(counted, stream, origin).serve());
    }
}

/// What is known of a connection before its first request; `None` when there is nothing to serve
/// on it.
async fn admit(
    worker: &Worker,
    entrance: Entrance,
    mut stream: TcpStream,
    (mut peer, mut local): (SocketAddr, SocketAddr),
) -> Option<(ClientStream, Origin, Option<ClientConnection>)> {
    if entrance.preamble == Preamble::Proxy {
        let header = timeout(worker.bounds.head_time, proxy_protocol::read(&mut stream)).await;
        match header {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(told))) => (peer, local) = (told.source, told.destination),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a connection has no header of the PROXY protocol");
                return None;
            }
            Err(_) => return None,
        }
    }
    let counted = match worker.trusted.trusts(peer.ip()) {
        // A proxy has as many as its clients have.
        true => None,
        false => match worker.clients.enter(peer.ip()) {
            Ok(counted) => counted,
            Err(TooMany) => {
                let stream = ClientStream::Plain(stream);
                let origin = origin(worker, entrance, &stream, (peer, local));
                let cause = Cause::TooManyConnections;
                let status = match (stream, entrance.transport) {
                    (ClientStream::Plain(stream), Transport::Plain) => {
                        say_too_many(&stream);
                        Some(cause.status())
                    }
                    _ => None,
                };
                worker.note_refused(&origin, status, cause);
                return None;
            }
        },
    };
    let stream = match entrance.transport {
        Transport::Plain => ClientStream::Plain(stream),
        Transport::Tls => handshake(worker, stream).await?,
    };
    let origin = origin(worker, entrance, &stream, (peer, local));
    Some((stream, origin, counted))
}

fn origin(
    worker: &Worker,
    entrance: Entrance,
    stream: &ClientStream,
    (peer, local): (SocketAddr, SocketAddr),
) -> Origin {
    let protocol = stream.protocol();
    Origin::new(peer, local, protocol, entrance.door, &worker.trusted)
}

/// Says why a connection is closed, if the kernel has room for it, which a new one has.
fn say_too_many(stream: &TcpStream) {
    let mut answer = Vec::new();
    let asked = Asked {
        version: Version::Http11,
        head_only: false,
        keep_alive: false,
    };
    let reply = Reply::to_nobody(Cause::TooManyConnections, SystemTime::now());
    write_answer(&mut answer, &compose(&reply), asked);
    // Nothing is lost but the reason.
    let _ = stream.try_write(&answer);
}

/// The handshake of a connection to a TLS listener; `None` when there is nothing to serve on it.
async fn handshake(worker: &Worker, stream: TcpStream) -> Option<ClientStream> {
    let limit = worker.bounds.head_time + ON_DEMAND_WAIT;
    match timeout(limit, worker.tls.accept(stream)).await {
        Ok(Ok(stream)) => stream.map(|stream| ClientStream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Keeps the worker's clock: every [`TICK`] while there are connections, seldom while there are
/// none.
async fn tick(worker: Rc<Worker>) {
    let mut ticks_until_prune = TICKS_PER_PRUNE;
    loop {
        if worker.connections.get() > 0 {
            sleep(TICK).await;
            ticks_until_prune -= 1;
        } else {
            tokio::select! {
                () = sleep(TICK * TICKS_PER_PRUNE) => ticks_until_prune = 0,
                () = worker.connections_changed.notified() => {}
            }
        }
        worker.clock.tick();
        worker.tracer.tick();
        if let Some(log) = &worker.log {
            log.flush();
        }
        if ticks_until_prune == 0 {
            ticks_until_prune = TICKS_PER_PRUNE;
            worker.routes.borrow().prune_idle(&worker.clock);
        }
    }
}

/// What a connection counts as until it ends: one of its worker's, and one of its client's.
pub(crate) struct Counted {
    held: Held,
    _client: Option<ClientConnection>,
}

impl Counted {
    /// Whose it is.
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.held.worker
    }
}

/// One connection, counted.
struct Held {
    worker: Rc<Worker>,
}

impl Held {
    fn new(worker: Rc<Worker>) -> Self {
        let before = worker.connections.get();
        worker.connections.set(before + 1);
        if before == 0 {
            // The clock went slowly until now.
            worker.clock.update();
            worker.tracer.tick();
            worker.connections_changed.notify_waiters();
        }
        Self { worker }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.worker
            .connections
            .set(self.worker.connections.get() - 1);
        self.worker.connections_changed.notify_waiters();
    }
}

impl Worker {
    /// Serves by control's next table, and says so.
    fn adopt(&self, update: &Update, served: &Served) {
        self.routes.borrow_mut().adopt(update);
        served.adopted(update.sequence);
        self.trust();
    }

    /// Whether a host that seems to lead nowhere may lead somewhere by the table that control is
    /// about to send.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure.get()
    }

    /// Takes the table for what control wants.
    fn trust(&self) {
        self.unsure.set(false);
        self.sure.notify_waiters();
    }

    fn trust_saved(&self) {
        tracing::warn!("control has not spoken; serving by what was saved");
        self.trust();
    }

    /// Waits until control has sent a table, within [`Bounds::control_wait`].
    pub(crate) async fn told(&self) {
        while self.is_unsure() {
            self.sure.notified().await;
        }
    }

    /// Waits until one connection more may be held.
    async fn room(&self) {
        while self.connections.get() >= self.bounds.connections_per_worker {
            self.connections_changed.notified().await;
        }
    }

    /// Waits until no connection is held.
    async fn drained(&self) {
        while self.connections.get() > 0 {
            self.connections_changed.notified().await;
        }
    }

    /// Notes what could not be read as a request, and the status that its client is sent, if it is.
    pub(crate) fn note_refused(&self, origin: &Origin, status: Option<u16>, cause: Cause) {
        self.unrouted.count(status, Some(cause));
        let Some(log) = &self.log else { return };
        log.record(&Completion {
            connection: &origin.log_text,
            request_id: b"",
            host: b"",
            request_line: b"",
            user_agent: b"",
            referer: b"",
            trace: None,
            service: None,
            slot: None,
            status: cause.status(),
            cause: Some(cause),
            body_bytes: (0, 0),
            stages: &Stages::begin(),
            total: Duration::ZERO,
        });
    }

    /// Buffers for a request.
    pub(crate) fn borrow_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes buffers back.
    pub(crate) fn return_scratch(&self, mut scratch: Box<Scratch>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < SCRATCH_MAX {
            scratch.reset();
            kept.push(scratch);
        }
    }
}
