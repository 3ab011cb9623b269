//! The application behind every proxy of `bench/edge`: it answers as fast as it can, one thread,
//! kept connections, HTTP/1.1.
//!
//! `GET /` has 1 KiB, `GET /<n>` has n bytes, `GET /wait-<n>` takes n milliseconds; what is sent as a body of a stated length is read and
//! thrown away. It believes what it is sent: only a proxy that keeps to HTTP/1.1 talks to it.

use std::{io, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

/// What `GET /` has.
const SMALL_BYTES: usize = 1024;

/// The greatest body that is written at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The longest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

fn main() -> anyhow::Result<ExitCode> {
    let listen: SocketAddr = std::env::args()
        .nth(1)
        .context("usage: upstream <listen address>")?
        .parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(listen))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = Connection::new(stream).serve().await
                && !error.is::<io::Error>()
            {
                // A proxy that closes has no more to ask; one that is not understood is at fault.
                eprintln!("upstream: {error:#}");
            }
        });
    }
}

struct Connection {
    stream: TcpStream,
    small: Vec<u8>,
    received: Vec<u8>,
}

/// What a request wants.
struct Request {
    /// Of its head.
    bytes: usize,
    /// Of its body.
    body_bytes: usize,
    /// Of the answer's body.
    answer_bytes: usize,
    /// Until the answer.
    wait: Duration,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let mut small = head(SMALL_BYTES);
        small.resize(small.len() + SMALL_BYTES, b'x');
        Self {
            stream,
            small,
            received: Vec::with_capacity(HEAD_BYTES_MAX),
        }
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        loop {
            let request = loop {
                if let Some(request) = parse(&self.received)? {
                    break request;
                }
                match self.stream.read_buf(&mut self.received).await {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(_) => {}
                }
            };
            self.received.drain(..request.bytes);
            self.discard(request.body_bytes).await?;
            if !request.wait.is_zero() {
                tokio::time::sleep(request.wait).await;
            }
            self.answer(request.answer_bytes).await?;
        }
    }

    async fn discard(&mut self, mut left: usize) -> anyhow::Result<()> {
        let here = left.min(self.received.len());
        self.received.drain(..here);
        left -= here;
        if left == 0 {
            return Ok(());
        }
        let mut block = vec![0; BLOCK_BYTES];
        while left > 0 {
            let wanted = left.min(block.len());
            match self.stream.read(&mut block[..wanted]).await? {
                0 => bail!("a body ended early"),
                read => left -= read,
            }
        }
        Ok(())
    }

    async fn answer(&mut self, bytes: usize) -> anyhow::Result<()> {
        if bytes == SMALL_BYTES {
            self.stream.write_all(&self.small).await?;
            return Ok(());
        }
        self.stream.write_all(&head(bytes)).await?;
        let block = vec![b'x'; bytes.min(BLOCK_BYTES)];
        let mut left = bytes;
        while left > 0 {
            let now = left.min(block.len());
            self.stream.write_all(&block[..now]).await?;
            left -= now;
        }
        Ok(())
    }
}

fn head(bytes: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n")
        .into_bytes()
}

/// The request at the start of what was received, once its head is whole.
fn parse(received: &[u8]) -> anyhow::Result<Option<Request>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(bytes) = request.parse(received)? else {
        if received.len() > HEAD_BYTES_MAX {
            bail!("a head is longer than {HEAD_BYTES_MAX} bytes");
        }
        return Ok(None);
    };
    let path = request.path.unwrap_or_default().trim_start_matches('/');
    let wait = path.strip_prefix("wait-").unwrap_or("0").parse();
    let answer_bytes = match path {
        "" => SMALL_BYTES,
        number => number.parse().unwrap_or(SMALL_BYTES),
    };
    let length = request
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = match length {
        Some(field) => std::str::from_utf8(field.value)?.parse()?,
        None => 0,
    };
    Ok(Some(Request {
        bytes,
        body_bytes,
        answer_bytes,
        wait: Duration::from_millis(wait.unwrap_or(0)),
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_much_it_brings_and_wants() {
        let read = |text: &str| {
            parse(text.as_bytes())
                .unwrap()
                .map(|request| (request.bytes, request.body_bytes, request.answer_bytes))
        };
        assert_eq!(read("GET / HTTP/1.1\r\nHost: a\r\n"), None);
        assert_eq!(
            read("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"),
            Some((27, 0, 1024))
        );
        assert_eq!(
            read("PUT /7 HTTP/1.1\r\nContent-Length: 5\r\n\r\n"),
            Some((38, 5, 7))
        );
    }
}
