//! Writing heads anew: what the application is told of a request, and the client of a response.
//!
//! Heads are never copied through. Framing, connection and forwarding fields are the edge's own;
//! every other field is passed on as it was, in its order, one per line.

use std::net::IpAddr;

use httparse::Header;

use crate::client_address::Client;
use crate::head::{FieldSet, Framing, RequestHead, ResponseHead, Version, upgraded_to};
use crate::trace_context::TraceContext;

/// The forwarding fields that are the same for every request of a client's connection, ready to
/// append. `port` is the one that it connected to.
pub(crate) fn connection_fields(client: &Client, port: u16) -> Box<[u8]> {
    let mut fields = Vec::with_capacity(96);
    let address = client.address.to_string();
    field(&mut fields, "X-Forwarded-For", address.as_bytes());
    field(
        &mut fields,
        "X-Forwarded-Proto",
        client.scheme.name().as_bytes(),
    );
    field(&mut fields, "X-Forwarded-Port", port.to_string().as_bytes());
    fields.into_boxed_slice()
}

/// Appends `Forwarded` (RFC 7239).
fn forwarded(client: &Client, host: &[u8], out: &mut Vec<u8>) {
    let (open, close) = match client.address {
        IpAddr::V4(_) => ("", ""),
        IpAddr::V6(_) => ("\"[", "]\""),
    };
    out.extend_from_slice(b"Forwarded: for=");
    out.extend_from_slice(format!("{open}{}{close}", client.address).as_bytes());
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(client.scheme.name().as_bytes());
    // A host has no quotation marks and no backslashes; see `head`.
    out.extend_from_slice(b";host=\"");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\"\r\n");
}

/// The values of a field in a head that was written here: one field to a line, the name, `: `.
pub(crate) fn values_in<'h>(head: &'h [u8], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    head.split(|byte| *byte == b'\n').filter_map(move |line| {
        let (found, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b": ")?;
        found
            .eq_ignore_ascii_case(name.as_bytes())
            .then_some(value.trim_ascii_end())
    })
}

/// Appends the request's head as the application gets it. `told_of` is the client, if `Forwarded` is
/// to tell of it too.
pub(crate) fn request_head(
    head: &RequestHead<'_, '_>,
    connection_fields: &[u8],
    told_of: Option<&Client>,
    request_id: &[u8],
    trace: &TraceContext,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(head.method_name.as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.host);
    out.extend_from_slice(b"\r\n");
    kept_fields(head.fields, head.kept, out);
    out.extend_from_slice(connection_fields);
    field(out, "X-Forwarded-Host", head.host);
    if let Some(client) = told_of {
        forwarded(client, head.host, out);
    }
    field(out, "X-Request-Id", request_id);
    trace.write(head, out);
    if let Some(protocol) = head.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        field(out, "Upgrade", protocol);
    }
    match (head.framing, head.content_length) {
        (Framing::Chunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (_, Some(length)) => content_length(out, length),
        (_, None) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// How a response is passed on to one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientSide {
    /// The client's version.
    pub(crate) version: Version,
    /// Whether the connection is to be kept after the response.
    pub(crate) keep_alive: bool,
    /// Whether the body is chunked for the client.
    pub(crate) chunked: bool,
}

/// Appends the response's head as the client gets it.
///
/// `added` are lines of the edge's own.
pub(crate) fn response_head(
    head: &ResponseHead<'_, '_>,
    side: ClientSide,
    added: &[u8],
    out: &mut Vec<u8>,
) {
    status_line(out, head.status, head.reason);
    kept_fields(head.fields, head.kept, out);
    out.extend_from_slice(added);
    if side.chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    } else if let (Some(length), false) = (head.content_length, head.status == 204) {
        content_length(out, length);
    }
    connection(out, side.version, side.keep_alive);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a response that changes the connection's protocol.
pub(crate) fn upgrade_head(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    status_line(out, head.status, head.reason);
    kept_fields(head.fields, head.kept, out);
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    if let Some(protocol) = upgraded_to(head) {
        field(out, "Upgrade", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an informational response's head: it has no body and decides nothing on the connection.
pub(crate) fn informational_head(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    status_line(out, head.status, head.reason);
    kept_fields(head.fields, head.kept, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a status line.
pub(crate) fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends what the client needs to be told of the connection, if anything (RFC 9112, section 9.3).
pub(crate) fn connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (Version::Http11, true) => {}
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (_, false) => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

/// Appends `Content-Length`.
pub(crate) fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends one field.
pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal; `fmt` costs several times as much.
pub(crate) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends the head of one chunk.
pub(crate) fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let mut shift = (usize::BITS - size.leading_zeros()).div_ceil(4) * 4;
    while shift > 0 {
        shift -= 4;
        out.push(b"0123456789abcdef"[(size >> shift) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

fn kept_fields(fields: &[Header<'_>], kept: FieldSet, out: &mut Vec<u8>) {
    for (index, header) in fields.iter().enumerate() {
        if kept.contains(index) {
            field(out, header.name, header.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_the_values_of_its_fields() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\ncookie: a=b\r\nCookie: c=d\r\nCookies: e\r\n\r\n";
        let values: Vec<_> = values_in(head, "Cookie").collect();
        assert_eq!(values, [b"a=b", b"c=d"]);
        assert_eq!(values_in(head, "Accept").count(), 0);
    }

    #[test]
    fn forwarded_says_who_how_and_whereto() {
        for (address, want) in [
            (
                "192.0.2.1",
                "Forwarded: for=192.0.2.1;proto=https;host=\"a.test:80\"\r\n",
            ),
            (
                "2001:db8::1",
                "Forwarded: for=\"[2001:db8::1]\";proto=https;host=\"a.test:80\"\r\n",
            ),
        ] {
            let client = Client {
                address: address.parse().unwrap(),
                scheme: crate::client_address::Scheme::Https,
            };
            let mut out = Vec::new();
            forwarded(&client, b"a.test:80", &mut out);
            assert_eq!(out, want.as_bytes());
        }
    }

    #[test]
    fn numbers_are_written_in_decimal_and_chunk_sizes_in_hexadecimal() {
        for value in [0, 7, 10, 1024, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        for size in [1, 15, 16, 255, 256, 65536] {
            let mut out = Vec::new();
            chunk_size(&mut out, size);
            assert_eq!(out, format!("{size:x}\r\n").as_bytes());
        }
    }
}
