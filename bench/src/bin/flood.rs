//! Asks one service for more than it can do: evenly, and whatever becomes of it.
//!
//! `flood ADDRESS HOST PATH RATE CONNECTIONS` begins RATE requests per second over HTTP/1.1, each on
//! a connection that has none. It costs little, so that it can share a core with what is measured:
//! h2load takes most of one for two thousand requests a second. It ends when it is killed, and with an
//! error when no connection is free: then it asks for less than it was told to.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

/// Requests that may be due and have no connection.
const DUE_MAX: usize = 1000;

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(10);

/// The headers of an answer.
const HEADERS_MAX: usize = 32;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, host, path, rate, connections] = arguments.as_slice() else {
        bail!("usage: flood ADDRESS HOST PATH RATE CONNECTIONS");
    };
    let between = Duration::from_secs(1) / rate.parse().context("RATE is no number")?;
    let connections: u32 = connections.parse().context("CONNECTIONS is no number")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let due = Arc::new(Semaphore::new(0));
    for _ in 0..connections {
        let (address, request, due) = (address.clone(), request.clone(), due.clone());
        tokio::spawn(async move {
            loop {
                // A connection that has ended is made anew.
                let _ = ask(&address, request.as_bytes(), &due).await;
                sleep(PAUSE).await;
            }
        });
    }
    let mut at = Instant::now();
    loop {
        at += between;
        sleep_until(at).await;
        due.add_permits(1);
        if due.available_permits() > DUE_MAX {
            bail!("every connection has a request: give it more");
        }
    }
}

/// Asks whenever a request is due, until the connection ends.
async fn ask(address: &str, request: &[u8], due: &Semaphore) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(4096);
    loop {
        due.acquire().await.map_err(io::Error::other)?.forget();
        stream.write_all(request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(());
            }
        }
    }
}

/// Whether it is all there: what is asked for has a stated length.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).map_err(io::Error::other)?;
    let httparse::Status::Complete(head) = parsed else {
        return Ok(false);
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| str::from_utf8(header.value).ok()?.parse().ok())
        .unwrap_or(0);
    Ok(answer.len() - head >= length)
}
