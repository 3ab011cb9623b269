//! What an edge is told at start. Every wait, queue and buffer is bounded, and each bound has its
//! name here.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

/// The settings of one edge.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The edge's own directory; it keeps `routes.json` there, the last table served.
    pub data_dir: PathBuf,
    /// Where one JSON line per request goes; nowhere when absent.
    pub access_log: Option<AccessLogConfig>,
    /// Whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The port by which clients reach HTTPS, for redirects.
    pub https_port: u16,
    /// The bounds of every connection and request.
    pub bounds: Bounds,
}

impl EdgeConfig {
    /// The defaults, with the edge's files in `data_dir` and no access log.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            access_log: None,
            trusted_proxies: Vec::new(),
            https_port: 443,
            bounds: Bounds::default(),
        }
    }
}

/// The access log: a file, and how large it may become.
#[derive(Debug, Clone)]
pub struct AccessLogConfig {
    /// Where it is; the edge has to be able to make files beside it.
    pub path: PathBuf,
    /// At this size it is moved to `<path>.1`.
    pub bytes: u64,
    /// How many files there are, the one that is written included; at least 1.
    pub files: u32,
    /// One of so many requests is logged; at least 1.
    pub sample: u32,
}

impl AccessLogConfig {
    /// At `path`, every request, in at most 5 files of 100 MiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            bytes: 100 << 20,
            files: 5,
            sample: 1,
        }
    }
}

/// How long and how much. Times are kept by a clock of [`TICK`]: they are never cut short, and run
/// over by at most two ticks.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// From a request's first byte (or a connection's beginning) to the end of its head.
    pub head_time: Duration,
    /// How long a client's connection may be idle between requests.
    pub keep_alive_idle: Duration,
    /// How long a client may pause while it sends a request's body.
    pub body_idle: Duration,
    /// How long an application may be silent before and within its response.
    pub response_idle: Duration,
    /// How long a client may take none of a response that is ready for it.
    pub client_write_idle: Duration,
    /// How long a connection to an instance may take to be established.
    pub connect_time: Duration,
    /// The longest head of a request, in bytes.
    pub request_head_bytes: usize,
    /// The longest request target, in bytes.
    pub target_bytes: usize,
    /// The longest head of a response, in bytes.
    pub response_head_bytes: usize,
    /// Connections from clients that one worker holds; more wait in the kernel's backlog.
    pub connections_per_worker: usize,
    /// Connections that one client may have, an address or an IPv6 /64; 0 is any number.
    pub connections_per_client: u32,
    /// How many requests of one service may wait for an instance.
    pub queue_requests: usize,
    /// How long a request may wait for an instance, attempts to reach one included.
    pub queue_time: Duration,
    /// Idle connections that one worker keeps to one instance.
    pub idle_upstreams_per_instance: usize,
    /// How long a connection to an instance is kept idle.
    pub upstream_idle: Duration,
    /// So long after its start an edge that serves by a saved table does not trust it to say no:
    /// a request that it would refuse waits for control's table.
    pub control_wait: Duration,
    /// A stopping edge waits so long for the requests in flight.
    pub drain_time: Duration,
    /// A stopping edge keeps idle connections so long, to answer requests that were on their way.
    pub drain_idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_time: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            response_idle: Duration::from_secs(300),
            client_write_idle: Duration::from_secs(60),
            connect_time: Duration::from_secs(3),
            request_head_bytes: 32 * 1024,
            target_bytes: 16 * 1024,
            response_head_bytes: 64 * 1024,
            connections_per_worker: 20_000,
            connections_per_client: 0,
            queue_requests: 20_000,
            queue_time: Duration::from_secs(30),
            idle_upstreams_per_instance: 256,
            upstream_idle: Duration::from_secs(30),
            control_wait: Duration::from_secs(10),
            drain_time: Duration::from_secs(30),
            drain_idle: Duration::from_secs(2),
        }
    }
}

/// The resolution of the clock that keeps the bounds on time.
pub const TICK: Duration = Duration::from_millis(100);

/// Informational (1xx) responses passed on for one request; an application that sends more is
/// refused as broken.
pub const INFORMATIONAL_MAX: u32 = 32;

/// A request whose repetition may do harm only takes a kept connection that was idle no longer than
/// this: application servers close idle connections after as little as 2 seconds, and such a
/// request cannot be sent again when it crosses with the close.
pub const UNREPEATABLE_IDLE_MAX: Duration = Duration::from_secs(1);

/// How often a request is sent anew after a kept connection turned out to be closed.
pub const STALE_RETRIES_MAX: u32 = 2;

/// How long an instance that could not be reached is passed over, at first; doubled by each further
/// failure until [`EJECTION_MAX`].
pub const EJECTION_MIN: Duration = Duration::from_millis(50);

/// The longest time an instance that could not be reached is passed over.
pub const EJECTION_MAX: Duration = Duration::from_secs(1);

/// How long a connection that is to be closed is read empty, so that the answer is not lost to a
/// reset (RFC 9112, section 9.6).
pub const LINGER_TIME: Duration = Duration::from_secs(2);

/// How much is read from a connection that is to be closed, in bytes.
pub const LINGER_BYTES: usize = 1024 * 1024;

/// Streams that a client may have open at once on one connection of HTTP/2.
pub const H2_STREAMS_MAX: u32 = 128;

/// The largest field section of a request in HTTP/2, in bytes as the protocol counts them.
pub const H2_FIELDS_BYTES_MAX: u32 = 32 * 1024;

/// Streams reset by the edge that a connection remembers, to take what is still on its way.
pub const H2_REMEMBERED_RESETS_MAX: usize = 32;

/// Streams that a client may open and reset before they are looked at; a connection with more is
/// closed (CVE-2023-44487, "rapid reset").
pub const H2_PENDING_RESETS_MAX: usize = 20;

/// Streams that a client's errors may have reset; a connection with more is closed.
pub const H2_LOCAL_RESETS_MAX: usize = 64;

/// What one stream may have written and not yet sent, in bytes.
pub const H2_SEND_BUFFER_BYTES: usize = 128 * 1024;
