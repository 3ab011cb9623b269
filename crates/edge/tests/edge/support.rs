//! A small world around one edge.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ekiden_edge::{
    Edge,
    config::{AccessLogConfig, Bounds, EdgeConfig},
    listener::{Entrance, ListenerGroup},
};
use ekiden_engine::frame::encode_frame;
use ekiden_model::{
    id::{InstanceId, ServiceId},
    instance::RevisionNumber,
    request_counts::RequestCounts,
    route::{
        FromEdge, Generation, ROUTE_PROTOCOL_VERSION, Route, RouteHello, RouteState, ServiceCounts,
        ServiceDemand, ToEdge, Upstream,
    },
    span::RequestSpan,
};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;

/// How long a test waits for a state before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One edge with its control, and a directory of its own.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) control: FakeControl,
    pub(crate) access_log: PathBuf,
    edge: Option<Edge>,
    dir: TempDir,
}

impl World {
    /// One worker, default bounds.
    pub(crate) fn new() -> Self {
        Self::with(1, |_| {})
    }

    pub(crate) fn with(workers: usize, bounds: impl FnOnce(&mut Bounds)) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), workers, bounds)
    }

    pub(crate) fn in_dir(dir: TempDir, workers: usize, set: impl FnOnce(&mut Bounds)) -> Self {
        Self::made(dir, workers, |config, _| set(&mut config.bounds))
    }

    /// One worker, and what differs from the usual.
    pub(crate) fn configured(set: impl FnOnce(&mut EdgeConfig, &mut Entrance)) -> Self {
        Self::made(tempfile::tempdir().unwrap(), 1, set)
    }

    fn made(
        dir: TempDir,
        workers: usize,
        set: impl FnOnce(&mut EdgeConfig, &mut Entrance),
    ) -> Self {
        let socket = dir.path().join("control.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut config = EdgeConfig::new(dir.path());
        config.bounds.drain_idle = Duration::from_millis(1);
        let access_log = dir.path().join("access.log");
        config.access_log = Some(AccessLogConfig::new(access_log.clone()));
        let mut group = ListenerGroup::bind("127.0.0.1:0".parse().unwrap(), workers).unwrap();
        set(&mut config, &mut group.entrance);
        let address = group.address().unwrap();
        let edge = Edge::start(config, vec![group], socket).unwrap();
        let control = FakeControl::new(listener);
        Self {
            address,
            control,
            access_log,
            edge: Some(edge),
            dir,
        }
    }

    /// One worker, one service `app.test` of one instance.
    pub(crate) fn serving(app: SocketAddr) -> Self {
        let mut world = Self::new();
        world.serve(&[app]);
        world
    }

    /// Publishes `app.test` with these instances and waits until it is served.
    pub(crate) fn serve(&mut self, apps: &[SocketAddr]) {
        self.control.publish(vec![route(1, "app.test", apps)]);
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Stops the edge and waits until it has.
    pub(crate) fn stopped(&mut self) {
        let edge = self.edge.take().unwrap();
        edge.stop();
        edge.join().unwrap();
    }

    /// Begins to stop.
    pub(crate) fn stop(&self) {
        self.edge.as_ref().unwrap().stop();
    }

    /// The edge's directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the edge, and gives its directory back.
    pub(crate) fn end(mut self) -> TempDir {
        let edge = self.edge.take().unwrap();
        edge.stop();
        edge.join().unwrap();
        self.dir
    }
}

/// A route with instances named after its number and theirs.
pub(crate) fn route(number: u8, host: &str, apps: &[SocketAddr]) -> Route {
    let upstreams = apps.iter().enumerate().map(|(index, address)| Upstream {
        instance: instance(number, index as u8),
        revision: RevisionNumber(1),
        address: *address,
    });
    Route {
        service: ServiceId::from_bytes([number; 16]),
        service_name: format!("test-{number}").parse().unwrap(),
        hosts: vec![host.to_owned()],
        private_hosts: Vec::new(),
        state: RouteState::Serving,
        concurrency_per_instance: 100,
        upstreams: upstreams.collect(),
        ingress: Box::default(),
    }
}

pub(crate) fn instance(service: u8, index: u8) -> InstanceId {
    let mut bytes = [service; 16];
    bytes[15] = index;
    InstanceId::from_bytes(bytes)
}

/// Control, as the test plays it.
pub(crate) struct FakeControl {
    listener: UnixListener,
    stream: UnixStream,
    generation: u64,
    /// What of the protocol it says that it speaks.
    pub(crate) version: u32,
    /// What it was told of requests.
    pub(crate) counts: Vec<ServiceCounts>,
    /// What it was told of requests that are sampled.
    pub(crate) spans: Vec<RequestSpan>,
    demand: HashMap<ServiceId, (u32, u32)>,
}

impl FakeControl {
    fn new(listener: UnixListener) -> Self {
        let stream = Self::accept(&listener, ROUTE_PROTOCOL_VERSION);
        Self {
            listener,
            stream,
            generation: 0,
            version: ROUTE_PROTOCOL_VERSION,
            counts: Vec::new(),
            spans: Vec::new(),
            demand: HashMap::new(),
        }
    }

    fn accept(listener: &UnixListener, version: u32) -> UnixStream {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let hello: RouteHello = read_frame(&mut stream);
        assert_eq!(hello.version, ROUTE_PROTOCOL_VERSION);
        write_frame(&mut stream, &RouteHello { version });
        stream
    }

    /// Drops the connection and takes the next.
    pub(crate) fn restart(&mut self) {
        self.restart_after(|| {});
    }

    /// The same, with something that happens in between.
    pub(crate) fn restart_after(&mut self, meanwhile: impl FnOnce()) {
        self.stream.shutdown(Shutdown::Both).unwrap();
        meanwhile();
        self.stream = Self::accept(&self.listener, self.version);
    }

    pub(crate) fn send(&mut self, message: &ToEdge) {
        write_frame(&mut self.stream, message);
    }

    pub(crate) fn send_table(&mut self, routes: Vec<Route>) -> Generation {
        self.generation += 1;
        let generation = Generation(self.generation);
        self.send(&ToEdge::Table { generation, routes });
        generation
    }

    pub(crate) fn send_change(&mut self, set: Vec<Route>, remove: Vec<ServiceId>) -> Generation {
        self.generation += 1;
        let generation = Generation(self.generation);
        self.send(&ToEdge::Change {
            generation,
            set,
            remove,
        });
        generation
    }

    pub(crate) fn receive(&mut self) -> (Generation, Vec<InstanceId>) {
        loop {
            match read_frame(&mut self.stream) {
                FromEdge::Serving {
                    generation,
                    draining,
                } => return (generation, draining),
                other => self.keep(other),
            }
        }
    }

    /// Keeps what a message tells of requests and of demand.
    fn keep(&mut self, message: FromEdge) {
        match message {
            FromEdge::Counts { counts } => self.counts.extend(counts),
            FromEdge::Demand { whole, services } => self.note(whole, services),
            FromEdge::Spans { spans, .. } => self.spans.extend(spans),
            other => panic!("{other:?}"),
        }
    }

    /// What it was told of one service's requests, or of those of none: waits until there were so
    /// many.
    pub(crate) fn counted(&mut self, service: Option<ServiceId>, requests: u64) -> RequestCounts {
        loop {
            let mut sum = RequestCounts::default();
            let of_it = self.counts.iter().filter(|one| one.service == service);
            of_it.for_each(|one| sum.add(&one.counts));
            if sum.requests() >= requests {
                return sum;
            }
            match read_frame(&mut self.stream) {
                FromEdge::Serving { .. } => {}
                other => self.keep(other),
            }
        }
    }

    /// Takes the next message in.
    pub(crate) fn next(&mut self) {
        match read_frame(&mut self.stream) {
            FromEdge::Serving { .. } => {}
            other => self.keep(other),
        }
    }

    /// What it was told of one service's requests, added up.
    pub(crate) fn of(&self, service: ServiceId) -> ServiceCounts {
        let mut sum = ServiceCounts::default();
        for one in self
            .counts
            .iter()
            .filter(|one| one.service == Some(service))
        {
            assert!(one.at.is_some());
            sum.counts.add(&one.counts);
            sum.latency.add(&one.latency);
            sum.queued.add(&one.queued);
            sum.cold.add(&one.cold);
            sum.concurrency_max = sum.concurrency_max.max(one.concurrency_max);
        }
        sum
    }

    /// Waits until it was told of so many sampled requests.
    pub(crate) fn traced(&mut self, count: usize) -> &[RequestSpan] {
        while self.spans.len() < count {
            self.next();
        }
        &self.spans
    }

    /// Reads until the edge has gone, and says whether it has told of requests.
    pub(crate) fn was_told_counts_until_the_end(&mut self) -> bool {
        let mut told = !self.counts.is_empty();
        let mut length = [0; 4];
        while self.stream.read_exact(&mut length).is_ok() {
            let mut body = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut body).unwrap();
            let message = serde_json::from_slice(&body).unwrap();
            told |= matches!(message, FromEdge::Counts { .. });
        }
        told
    }

    fn note(&mut self, whole: bool, services: Vec<ServiceDemand>) {
        if whole {
            self.demand.clear();
        }
        self.demand.extend(
            services
                .iter()
                .map(|one| (one.service, (one.in_flight, one.queued))),
        );
    }

    /// Waits until so many requests of `test-1` are told to be in flight and to wait.
    pub(crate) fn wait_for_demand(&mut self, in_flight: u32, queued: u32) {
        let service = ServiceId::from_bytes([1; 16]);
        while self.demand.get(&service) != Some(&(in_flight, queued)) {
            match read_frame(&mut self.stream) {
                FromEdge::Serving { .. } => {}
                other => self.keep(other),
            }
        }
    }

    /// Sends a table and waits until it is served; gives what is draining then.
    pub(crate) fn publish(&mut self, routes: Vec<Route>) -> Vec<InstanceId> {
        let sent = self.send_table(routes);
        self.served(sent)
    }

    /// Waits until a generation is served; gives what is draining then.
    pub(crate) fn served(&mut self, sent: Generation) -> Vec<InstanceId> {
        loop {
            let (generation, draining) = self.receive();
            if generation == sent {
                return draining;
            }
        }
    }

    pub(crate) fn wait_for_draining(&mut self, want: &[InstanceId]) {
        while self.receive().1 != want {}
    }
}

fn read_frame<T: DeserializeOwned>(stream: &mut UnixStream) -> T {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn write_frame<T: Serialize>(stream: &mut UnixStream, message: &T) {
    stream.write_all(&encode_frame(message).unwrap()).unwrap();
}

/// A client that says what it is told to say.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    held: Vec<u8>,
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The trailer section's lines.
    pub(crate) trailers: String,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Every value of a field, joined.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    pub(crate) fn cause(&self) -> String {
        self.field("x-ekiden-cause").unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// `GET /` of `app.test`.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            held: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request without a body and reads the response.
    pub(crate) fn ask(&mut self, request: &str) -> Message {
        self.send(request).response()
    }

    pub(crate) fn response(&mut self) -> Message {
        self.message(false).expect("a response")
    }

    pub(crate) fn response_to_head(&mut self) -> Message {
        Message {
            head: self.head().expect("a response"),
            body: Vec::new(),
            trailers: String::new(),
        }
    }

    /// One message; `None` when the connection closes instead.
    pub(crate) fn message(&mut self, is_request: bool) -> Option<Message> {
        let head = self.head()?;
        let mut message = Message {
            head,
            body: Vec::new(),
            trailers: String::new(),
        };
        let status = if is_request { 200 } else { message.status() };
        if message.field("transfer-encoding").is_some() {
            loop {
                let size = self.until(b"\r\n")?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                if size == 0 {
                    break;
                }
                let chunk = self.take(size + 2)?;
                message.body.extend_from_slice(&chunk[..size]);
            }
            loop {
                match self.until(b"\r\n")?.as_str() {
                    "\r\n" => break,
                    line => message.trailers.push_str(line),
                }
            }
        } else if let Some(length) = message.field("content-length") {
            message.body = self.take(length.parse().unwrap())?;
        } else if !is_request && !matches!(status, 100..=199 | 204 | 304) {
            message.body = self.rest();
        }
        Some(message)
    }

    /// A head, without its empty line.
    pub(crate) fn head(&mut self) -> Option<String> {
        Some(self.until(b"\r\n\r\n")?.trim_end().to_owned())
    }

    pub(crate) fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.held.windows(end.len()).position(|bytes| bytes == end) {
                let found: Vec<u8> = self.held.drain(..at + end.len()).collect();
                return Some(String::from_utf8(found).unwrap());
            }
            self.fill()?;
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.held.len() < length {
            self.fill()?;
        }
        Some(self.held.drain(..length).collect())
    }

    /// Everything until the connection closes, by whichever way.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill().is_some() {}
        std::mem::take(&mut self.held)
    }

    /// Whether the connection is closed without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn fill(&mut self) -> Option<()> {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => None,
            Ok(read) => {
                self.held.extend_from_slice(&bytes[..read]);
                Some(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!(
                    "nothing came for {PATIENCE:?}; so far: {:?}",
                    String::from_utf8_lossy(&self.held)
                )
            }
            Err(_) => None,
        }
    }
}

/// An application that does to each connection what the test says.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Message>>>,
    ended: Arc<AtomicBool>,
}

impl App {
    /// Calls `script` for each connection, with its number, in a thread of its own.
    pub(crate) fn new(script: impl Fn(usize, Client) + Send + Sync + 'static) -> Self {
        Self::on(
            TcpListener::bind("127.0.0.1:0").unwrap(),
            Arc::default(),
            script,
        )
    }

    /// Answers every request with these bytes, on as many connections as come.
    pub(crate) fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        let requests: Arc<Mutex<Vec<Message>>> = Arc::default();
        let seen = Arc::clone(&requests);
        Self::on(
            TcpListener::bind("127.0.0.1:0").unwrap(),
            requests,
            move |_, mut client| {
                while let Some(request) = client.message(true) {
                    seen.lock().unwrap().push(request);
                    client.send(&response);
                }
            },
        )
    }

    /// Answers every request with `200` and this text.
    pub(crate) fn saying(text: &str) -> Self {
        Self::answering(saying(text))
    }

    fn on(
        listener: TcpListener,
        requests: Arc<Mutex<Vec<Message>>>,
        script: impl Fn(usize, Client) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (counted, over, script) = (
            Arc::clone(&connections),
            Arc::clone(&ended),
            Arc::new(script),
        );
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                thread::spawn(move || script(number, Client::of(stream.unwrap())));
            }
        });
        Self {
            address,
            connections,
            requests,
            ended,
        }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests so far, of an app that answers by itself.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then closes the socket.
        let _ = TcpStream::connect(self.address);
    }
}

/// An address that refuses connections.
pub(crate) fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

pub(crate) fn saying(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::yield_now();
    }
}
