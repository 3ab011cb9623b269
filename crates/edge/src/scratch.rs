//! The memory of one request in progress, lent by the worker so that an idle connection has none.

use crate::buffer::{Input, Output};

/// Buffers of one connection while it has a request.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// From the client: heads, bodies, and requests sent ahead.
    pub(crate) from_client: Input,
    /// From the application.
    pub(crate) from_app: Input,
    /// To the application: the head written anew, chunks coded anew.
    pub(crate) to_app: Output,
    /// To the client.
    pub(crate) to_client: Output,
    /// A head on its way between HTTP/2 and HTTP/1.
    pub(crate) canonical: Vec<u8>,
    /// The request's host name: lower case, without port.
    pub(crate) host: Vec<u8>,
    /// The request's method and target, for the access log and traces; empty without them.
    pub(crate) request_line: Vec<u8>,
    /// What the client says that it is, for the access log; empty without one.
    pub(crate) user_agent: Vec<u8>,
    /// Where the client says that it comes from, for the access log.
    pub(crate) referer: Vec<u8>,
}

impl Scratch {
    /// Makes it as good as new.
    pub(crate) fn reset(&mut self) {
        self.from_client.shrink();
        self.from_app.shrink();
        self.to_app.shrink();
        self.to_client.shrink();
        self.canonical.clear();
        self.host.clear();
        self.request_line.clear();
        self.user_agent.clear();
        self.referer.clear();
    }
}
