//! One HTTP/1.1 connection of the plainest kind, and the pool of those kept alive.
//!
//! A kept connection that the server has closed meanwhile is left out before anything is sent on
//! it, as every client does; once a request is being sent, whatever goes wrong is a failure.

use std::{cell::RefCell, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most fields in one.
const FIELDS_MAX: usize = 64;

/// The longest body of an answer.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Connections kept at most.
const KEPT_MAX: usize = 256;

/// How long a connection is kept idle: less than any server closes it after.
const KEPT_IDLE_MAX: Duration = Duration::from_secs(20);

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `x-ekiden-cause`: the edge answered by itself.
    pub(crate) cause: Option<String>,
    /// `x-instance`: which instance answered.
    pub(crate) instance: Option<String>,
    /// `x-tag`: which request this answers.
    pub(crate) tag: Option<String>,
    /// Whether the connection can be used again.
    pub(crate) keep: bool,
    pub(crate) body: Vec<u8>,
    length: usize,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// A few words that are the same each time.
    pub(crate) kind: String,
    /// The rest.
    pub(crate) detail: String,
    /// The instance, if it is known.
    pub(crate) instance: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: &str, detail: String) -> Self {
        Self {
            kind: kind.to_owned(),
            detail,
            instance: None,
        }
    }

    fn of(step: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused",
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
            io::ErrorKind::TimedOut => "timeout",
            io::ErrorKind::UnexpectedEof => "closed",
            _ => "error",
        };
        Self::new(kind, format!("{step}: {error}"))
    }
}

impl Answer {
    pub(crate) fn failure(&self, kind: &str, detail: &str) -> Failure {
        Failure {
            instance: self.instance.clone(),
            ..Failure::new(kind, detail.to_owned())
        }
    }
}

/// A connection to the edge.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) async fn open(target: SocketAddr) -> Result<Self, Failure> {
        let failure = |error| Failure::of("connecting", &error);
        let stream = TcpStream::connect(target).await.map_err(failure)?;
        stream.set_nodelay(true).map_err(failure)?;
        Ok(Self { stream })
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn exchange(&mut self, head: &str, body: &[u8]) -> Result<Answer, Failure> {
        self.send(head.as_bytes(), body).await?;
        let mut buffer = Vec::with_capacity(4096);
        let (mut answer, head_bytes) = self.head(&mut buffer).await?;
        buffer.drain(..head_bytes);
        if let Err(error) = self.body(&mut buffer, answer.length).await {
            let instance = answer.instance.take();
            return Err(Failure {
                instance,
                ..Failure::of("reading the body", &error)
            });
        }
        answer.body = buffer;
        Ok(answer)
    }

    /// A server may answer before it has read the whole body; so an error while sending is only
    /// told when no answer comes either.
    async fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), Failure> {
        let mut sent = self.stream.write_all(head).await;
        if sent.is_ok() && !body.is_empty() {
            sent = self.stream.write_all(body).await;
        }
        match sent {
            Err(error) if body.is_empty() => Err(Failure::of("sending", &error)),
            _ => Ok(()),
        }
    }

    async fn head(&mut self, buffer: &mut Vec<u8>) -> Result<(Answer, usize), Failure> {
        loop {
            let read = self.stream.read_buf(buffer).await;
            match read.map_err(|error| Failure::of("waiting for the answer", &error))? {
                0 if buffer.is_empty() => {
                    return Err(Failure::new("closed", "no answer at all".to_owned()));
                }
                0 => return Err(Failure::new("closed", "within the head".to_owned())),
                _ => {}
            }
            if let Some(parsed) = parse(buffer)? {
                return Ok(parsed);
            }
            if buffer.len() > HEAD_BYTES_MAX {
                return Err(Failure::new("bad head", "longer than 16 KiB".to_owned()));
            }
        }
    }

    async fn body(&mut self, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
        buffer.reserve(length.saturating_sub(buffer.len()));
        while buffer.len() < length {
            if self.stream.read_buf(buffer).await? == 0 {
                let message = format!("{} of {length} bytes", buffer.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
        }
        Ok(())
    }

    /// Whether the server has neither closed it nor sent what nobody asked for.
    fn is_quiet(&self) -> bool {
        let mut byte = [0];
        match self.stream.try_read(&mut byte) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }
}

fn parse(buffer: &[u8]) -> Result<Option<(Answer, usize)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let bad = |detail: String| Failure::new("bad head", detail);
    let length = match response
        .parse(buffer)
        .map_err(|error| bad(error.to_string()))?
    {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let value = |name: &str| {
        let field = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let body = value("content-length").and_then(|text| text.parse::<usize>().ok());
    let Some(body) = body.filter(|body| *body <= BODY_BYTES_MAX) else {
        return Err(bad("without a content-length of at most 4 MiB".to_owned()));
    };
    let answer = Answer {
        status: response.code.unwrap_or_default(),
        cause: value("x-ekiden-cause"),
        instance: value("x-instance"),
        tag: value("x-tag"),
        keep: !value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        body: Vec::new(),
        length: body,
    };
    Ok(Some((answer, length)))
}

/// Connections kept alive, the one used last on top.
#[derive(Default)]
pub(crate) struct Pool {
    kept: RefCell<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// One that is still open, if there is one.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut kept = self.kept.borrow_mut();
        while let Some((connection, since)) = kept.pop() {
            if since.elapsed() < KEPT_IDLE_MAX && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, connection: Connection) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push((connection, Instant::now()));
        }
    }
}
