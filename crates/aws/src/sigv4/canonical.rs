//! The canonical form of a request, and what of it is signed.

use http::{HeaderName, HeaderValue, header::HOST, request::Parts};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, TERMINATOR};

/// What a signature is good for.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// `YYYYMMDD`.
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}/{}/{TERMINATOR}",
            self.date, self.region, self.service
        )
    }
}

/// The string to sign, of a canonical request.
pub(super) fn string_to_sign(date_time: &str, scope: &Scope<'_>, canonical: &[u8]) -> String {
    format!("{ALGORITHM}\n{date_time}\n{scope}\n{}", sha256(canonical))
}

/// The canonical request. `signed` are names in lower case, sorted; a header that is absent is
/// given back as the error.
pub(super) fn request(
    parts: &Parts,
    signed: &[HeaderName],
    payload_sha256: &str,
) -> Result<Vec<u8>, HeaderName> {
    let mut text = Vec::new();
    text.extend_from_slice(parts.method.as_str().as_bytes());
    text.push(b'\n');
    text.extend_from_slice(path(parts.uri.path()).as_bytes());
    text.push(b'\n');
    text.extend_from_slice(query(parts.uri.query().unwrap_or_default()).as_bytes());
    text.push(b'\n');
    for name in signed {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        header(parts, name, &mut text)?;
        text.push(b'\n');
    }
    text.push(b'\n');
    let names: Vec<&str> = signed.iter().map(HeaderName::as_str).collect();
    text.extend_from_slice(names.join(";").as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload_sha256.as_bytes());
    Ok(text)
}

/// The host a request is for: its header as received, or what HTTP/2 has in its place.
pub(super) fn host(parts: &Parts) -> Option<&[u8]> {
    match parts.headers.get(HOST) {
        Some(host) => Some(host.as_bytes()),
        None => parts
            .uri
            .authority()
            .map(|authority| authority.as_str().as_bytes()),
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Adds the values of one name, trimmed, runs of blanks made one, joined by commas in their order.
fn header(parts: &Parts, name: &HeaderName, text: &mut Vec<u8>) -> Result<(), HeaderName> {
    let host = if name == HOST { host(parts) } else { None };
    let values = parts
        .headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes);
    let values: Vec<&[u8]> = match host {
        Some(host) if !parts.headers.contains_key(HOST) => vec![host],
        _ => values.collect(),
    };
    if values.is_empty() {
        return Err(name.clone());
    }
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        let words = value.split(|byte| matches!(byte, b' ' | b'\t'));
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        text.extend_from_slice(&words.join(&b' '));
    }
    Ok(())
}

/// The path without dot segments and repeated slashes, percent-encoded once more: every service but
/// S3 signs the path twice encoded.
fn path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let last = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    encode(&format!("/{}{last}", kept.join("/")), b"/")
}

/// Names and values percent-encoded in the one canonical way, sorted.
fn query(query: &str) -> String {
    if query.is_empty() {
        return String::new();
    }
    let canonical = |text: &str| encode_bytes(&decode(text), b"");
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (canonical(name), canonical(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn encode(text: &str, safe: &[u8]) -> String {
    encode_bytes(text.as_bytes(), safe)
}

fn encode_bytes(bytes: &[u8], safe: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || safe.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    encoded
}

/// Undoes percent-encoding; a `%` that starts none is itself.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|&byte| char::from(byte).to_digit(16))
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits fit a byte.
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
