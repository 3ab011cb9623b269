//! A TCP or TLS connection to a receiver that is spoken to in a stream.

use std::{future::poll_fn, io, path::Path, pin::Pin, sync::Arc, task::Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    drain::SendError,
    limits::Limits,
    target::{ConfigError, Endpoint, Transport},
    tls, unacknowledged,
};

/// Bytes read at once of what nobody asked for.
const UNASKED_BYTES: usize = 4096;

/// How connections to one receiver are made.
pub(crate) struct Connector {
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    limits: Limits,
}

/// A connection.
pub(crate) struct Connection {
    io: Box<dyn Io>,
}

trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The receiver closed it, after it had read everything it acknowledged.
    Closed,
    /// Otherwise: what was acknowledged may not have been read. (Linux resets a connection that is closed with
    /// something unread.)
    Reset,
}

impl Connector {
    pub(crate) fn new(
        host: &str,
        port: u16,
        transport: Transport,
        ca_file: Option<&Path>,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            ConfigError::invalid(
                "host",
                format!(
                    "is `{}`, which is neither a host name nor an address",
                    host.escape_debug()
                ),
            )
        })?;
        if port == 0 {
            return Err(ConfigError::invalid("port", "is 0; it must be 1 to 65535"));
        }
        let tls = match (transport, ca_file) {
            (Transport::Tls, _) => {
                let config = Arc::new(tls::config(ca_file)?);
                Some((TlsConnector::from(config), name))
            }
            (Transport::Tcp, None) => None,
            (Transport::Tcp, Some(_)) => {
                let problem = "is given, but `transport` is `tcp`; it is for `tls` only";
                return Err(ConfigError::invalid("ca_file", problem));
            }
        };
        Ok(Self {
            endpoint: Endpoint {
                host: host.to_owned(),
                port,
            },
            tls,
            limits,
        })
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes a connection. Only TCP's part is bounded here.
    pub(crate) async fn connect(&self) -> Result<Connection, SendError> {
        let Endpoint { host, port } = &self.endpoint;
        let connected = timeout(
            self.limits.connect,
            TcpStream::connect((host.as_str(), *port)),
        );
        let problem = |problem: String| {
            SendError::retry(format!("cannot reach `{host}` port {port}: {problem}"))
        };
        let tcp = match connected.await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(problem(error.to_string())),
            Err(_) => {
                let seconds = self.limits.connect.as_secs_f32();
                return Err(problem(format!("no connection within {seconds} s")));
            }
        };
        tcp.set_nodelay(true)
            .map_err(|error| problem(error.to_string()))?;
        let io: Box<dyn Io> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(
                connector
                    .connect(name.clone(), tcp)
                    .await
                    .map_err(|error| problem(format!("TLS failed: {error}")))?,
            ),
        };
        Ok(Connection { io })
    }
}

impl Connection {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.io.flush().await
    }

    /// Reads something; an end of the stream is an error.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|context| Pin::new(&mut self.io).poll_read(context, &mut buffer)).await?;
        match buffer.filled().len() {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Says that nothing more comes, as far as that works.
    pub(crate) async fn close(mut self) {
        let _ = self.io.shutdown().await;
    }

    /// Whether the receiver has ended the connection, by what the kernel knows now. Anything it says is read
    /// and forgotten, as a connection that is closed with something unread is reset.
    pub(crate) async fn ended(&mut self) -> Option<Ended> {
        let mut forgotten = [0; UNASKED_BYTES];
        let read = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut forgotten);
            Poll::Ready(Pin::new(&mut self.io).poll_read(context, &mut buffer))
        })
        .await;
        match read {
            // TLS misses its farewell: whoever was killed closes like that.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Some(Ended::Closed);
            }
            Poll::Ready(Err(_)) => return Some(Ended::Reset),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let tcp = self.io.tcp();
        let mut polled = [PollFd::new(tcp, PollFlags::RDHUP)];
        if poll(&mut polled, Some(&Timespec::default())).is_err() {
            return Some(Ended::Reset);
        }
        let seen = polled[0].revents();
        if seen.intersects(PollFlags::ERR | PollFlags::HUP) {
            Some(Ended::Reset)
        } else if seen.contains(PollFlags::RDHUP) {
            Some(Ended::Closed)
        } else {
            None
        }
    }

    /// Bytes that were written and that the receiver's kernel has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> io::Result<u64> {
        let tcp = self.io.tcp();
        unacknowledged::bytes(tcp.local_addr()?, tcp.peer_addr()?)
    }
}
