//! The edge's own answers: a cause, in the status, a header and a sentence.

use std::time::SystemTime;

use crate::{
    cause::Cause,
    forward::{connection, content_length, field, status_line},
    head::Version,
};

/// What an answer has to know of the request it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The client's version.
    pub(crate) version: Version,
    /// A response to `HEAD` has no body.
    pub(crate) head_only: bool,
    /// Whether the connection is kept after the answer.
    pub(crate) keep_alive: bool,
}

/// Appends the whole answer.
pub(crate) fn write_answer(out: &mut Vec<u8>, cause: Cause, asked: Asked, now: SystemTime) {
    let sentence = cause.sentence();
    status_line(out, cause.status(), reason(cause.status()));
    field(out, "Server", b"ekiden");
    field(out, "Date", httpdate::fmt_http_date(now).as_bytes());
    field(out, "X-Ekiden-Cause", cause.name().as_bytes());
    field(out, "Content-Type", b"text/plain; charset=utf-8");
    field(out, "Cache-Control", b"no-store");
    if cause.passes() {
        field(out, "Retry-After", b"1");
    }
    content_length(out, sentence.len() as u64 + 1);
    connection(out, asked.version, asked.keep_alive);
    out.extend_from_slice(b"\r\n");
    if !asked.head_only {
        out.extend_from_slice(sentence.as_bytes());
        out.push(b'\n');
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
