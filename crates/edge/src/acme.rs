//! Answers to a certificate authority that looks for a challenge over plain HTTP (RFC 8555, section
//! 8.3).

use crate::{
    answer::Asked,
    forward::{connection, content_length, field, status_line},
};

/// Where challenges are looked for.
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The token of a challenge that a target is for.
pub(crate) fn token(target: &str) -> Option<&str> {
    target
        .strip_prefix(PREFIX)
        .filter(|token| !token.is_empty())
}

/// Appends the whole answer.
pub(crate) fn write_key_authorization(out: &mut Vec<u8>, text: &str, asked: Asked) {
    status_line(out, 200, "OK");
    field(out, "Server", b"ekiden");
    field(out, "Content-Type", b"application/octet-stream");
    content_length(out, text.len() as u64);
    connection(out, asked.version, asked.keep_alive);
    out.extend_from_slice(b"\r\n");
    if !asked.head_only {
        out.extend_from_slice(text.as_bytes());
    }
}
