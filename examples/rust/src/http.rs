//! As much of HTTP/1.1 as a server behind a front door needs: one GET per connection, one thread per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const HEAD_BYTES_MAX: u64 = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Response {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    pub fn ok(kind: &'static str, body: impl Into<String>) -> Self {
        Self {
            status: "200 OK",
            kind,
            body: body.into(),
        }
    }

    pub fn error(status: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain",
            body: body.into(),
        }
    }
}

/// Answers every request to `address` with what `answer` makes of its path and query.
pub fn serve(address: &str, answer: fn(&str, &str) -> Response) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listens on {address}");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = converse(stream, answer) {
                eprintln!("failed to answer: {error}");
            }
        });
    }
    Ok(())
}

fn converse(mut stream: TcpStream, answer: fn(&str, &str) -> Response) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = BufReader::new(&stream).take(HEAD_BYTES_MAX).lines();
    let first = match head.next() {
        Some(line) => line?,
        None => return Ok(()), // someone only looked whether the port is open
    };
    for line in head {
        if line?.is_empty() {
            break;
        }
    }

    let response = match first.split(' ').collect::<Vec<_>>()[..] {
        ["GET", target, _] => {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            answer(path, query)
        }
        [_, _, _] => Response::error("405 Method Not Allowed", "GET is all there is\n"),
        _ => Response::error("400 Bad Request", "that is not HTTP\n"),
    };
    let Response { status, kind, body } = response;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
