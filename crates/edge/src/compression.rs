//! Compressing responses, where a service asks for it.
//!
//! Only what gains by it and loses nothing: whole responses of media types that are text in one way
//! or another, not coded yet, and not so short that the coding is longer. A stream stays a stream:
//! whoever moves a body has the encoder [flush](Encoder::flush) before it waits for more.
//!
//! It is off unless asked for: a response that has a secret and something of the client's choice in
//! it gives the secret away by its length (CVE-2013-3587, BREACH).

use std::io::{self, Write};

use ekiden_model::ingress::Coding;
use flate2::write::GzEncoder;
use httparse::Header;

use crate::{
    client_address::field_values,
    forward::field,
    head::{FieldSet, Framing, ResponseHead},
};

/// The shortest response of known length that is compressed, in bytes.
const BYTES_MIN: u64 = 512;

/// Members of `Accept-Encoding` that are looked at.
const MEMBERS_MAX: usize = 32;

/// gzip's level, of 9: the last one that gains more than it costs.
const GZIP_LEVEL: u32 = 5;

/// Brotli's level, of 11, and its window of 2^18 bytes: 1 MiB of memory for a response.
const BROTLI_LEVEL: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 18;

/// Brotli's own buffer, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Zstandard's level, of 19, and its window of 2^18 bytes.
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_BITS: u32 = 18;

/// The coding that a client takes and the service would rather have than others: the first of
/// `offered` that is not refused (RFC 9110, section 12.5.3).
pub(crate) fn choose<'v>(
    offered: &[Coding],
    accept_encoding: impl Iterator<Item = &'v [u8]>,
) -> Option<Coding> {
    let members = accept_encoding.flat_map(|value| value.split(|byte| *byte == b','));
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    let mut any = false;
    for member in members.take(MEMBERS_MAX) {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let is_zero = |weight: &[u8]| {
            let digits = weight.strip_prefix(b"q=").or(weight.strip_prefix(b"Q="));
            digits.is_some_and(|digits| digits.iter().all(|byte| matches!(byte, b'0' | b'.')))
        };
        let takes = !parts.any(is_zero);
        match name.as_slice() {
            b"*" => any = takes,
            b"br" => list(takes, &mut accepted, &mut refused).push(Coding::Br),
            b"zstd" => list(takes, &mut accepted, &mut refused).push(Coding::Zstd),
            b"gzip" | b"x-gzip" => list(takes, &mut accepted, &mut refused).push(Coding::Gzip),
            _ => {}
        }
    }
    let takes = |coding: &&Coding| !refused.contains(coding) && (any || accepted.contains(coding));
    offered.iter().find(takes).copied()
}

fn list<'l>(
    takes: bool,
    accepted: &'l mut Vec<Coding>,
    refused: &'l mut Vec<Coding>,
) -> &'l mut Vec<Coding> {
    if takes { accepted } else { refused }
}

/// Whether a response gains by being compressed, and may be.
pub(crate) fn is_compressible(head: &ResponseHead<'_, '_>) -> bool {
    let has = |name| field_values(head.fields, name).next().is_some();
    let long_enough = head.content_length.is_none_or(|length| length >= BYTES_MIN);
    // A part of a representation is a part of it as it was coded.
    matches!(head.status, 200..=203 | 300..=599)
        && head.status != 304
        && head.framing != Framing::Empty
        && long_enough
        && is_text(head.fields)
        && !has("content-encoding")
        && !has("content-range")
        && !field_values(head.fields, "cache-control").any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
        })
}

/// Whether the media type is one that compresses well. Events are left alone: each has to arrive
/// when it is sent, and they are short. gRPC has a compression of its own.
fn is_text(fields: &[Header<'_>]) -> bool {
    let mut types = field_values(fields, "content-type");
    let (Some(value), None) = (types.next(), types.next()) else {
        return false;
    };
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let media_type = value[..end].trim_ascii().to_ascii_lowercase();
    match media_type.as_slice() {
        b"text/event-stream" => false,
        b"application/json"
        | b"application/javascript"
        | b"application/x-javascript"
        | b"application/xml"
        | b"application/wasm"
        | b"application/x-ndjson" => true,
        other => {
            other.starts_with(b"text/") || other.ends_with(b"+json") || other.ends_with(b"+xml")
        }
    }
}

/// Makes the head that of the compressed response: what described the other one goes out of `kept`,
/// or is written anew to `added`.
pub(crate) fn change_head(head: &mut ResponseHead<'_, '_>, coding: Coding, added: &mut Vec<u8>) {
    let mut kept = FieldSet::default();
    for (index, line) in head.fields.iter().enumerate() {
        if !head.kept.contains(index) || line.name.eq_ignore_ascii_case("accept-ranges") {
            continue;
        }
        if !line.name.eq_ignore_ascii_case("etag") {
            kept.insert(index);
        } else if line.value.starts_with(b"W/") {
            field(added, "ETag", line.value);
        } else {
            // The same meaning, other bytes (RFC 9110, section 8.8.1).
            field(added, "ETag", &[b"W/", line.value].concat());
        }
    }
    head.kept = kept;
    head.content_length = None;
    head.framing = Framing::Chunked;
    field(added, "Content-Encoding", coding_name(coding).as_bytes());
}

const fn coding_name(coding: Coding) -> &'static str {
    match coding {
        Coding::Br => "br",
        Coding::Zstd => "zstd",
        Coding::Gzip => "gzip",
    }
}

/// A body on its way through a coding.
pub(crate) struct Encoder {
    writer: Writer,
    /// Whether something was put in since the last flush.
    holds: bool,
}

enum Writer {
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// For one body.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        let writer = match coding {
            Coding::Br => Writer::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_LEVEL,
                BROTLI_WINDOW_BITS,
            ))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_BITS)?;
                Writer::Zstd(encoder)
            }
            Coding::Gzip => Writer::Gzip(GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(GZIP_LEVEL),
            )),
        };
        Ok(Self {
            writer,
            holds: false,
        })
    }

    /// Puts bytes in, and appends what has come out.
    ///
    /// # Errors
    /// The library failed; the body cannot be completed.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.holds = true;
        match &mut self.writer {
            Writer::Br(writer) => writer.write_all(bytes)?,
            Writer::Zstd(writer) => writer.write_all(bytes)?,
            Writer::Gzip(writer) => writer.write_all(bytes)?,
        }
        self.take(out);
        Ok(())
    }

    /// Appends what is held, so that whoever decodes it has everything that was put in.
    ///
    /// # Errors
    /// As [`Encoder::push`].
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if !std::mem::take(&mut self.holds) {
            return Ok(());
        }
        match &mut self.writer {
            Writer::Br(writer) => writer.flush()?,
            Writer::Zstd(writer) => writer.flush()?,
            Writer::Gzip(writer) => writer.flush()?,
        }
        self.take(out);
        Ok(())
    }

    /// Appends the end.
    ///
    /// # Errors
    /// As [`Encoder::push`].
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> io::Result<()> {
        let rest = match self.writer {
            Writer::Br(writer) => writer.into_inner(),
            Writer::Zstd(writer) => writer.finish()?,
            Writer::Gzip(writer) => writer.finish()?,
        };
        out.extend_from_slice(&rest);
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        let come = match &mut self.writer {
            Writer::Br(writer) => writer.get_mut(),
            Writer::Zstd(writer) => writer.get_mut(),
            Writer::Gzip(writer) => writer.get_mut(),
        };
        out.append(come);
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::head::{self, Method};

    const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    #[test]
    fn the_coding_is_the_first_that_the_client_takes() {
        for (accept, want) in [
            ("gzip, deflate, br, zstd", Some(Coding::Br)),
            ("gzip, zstd", Some(Coding::Zstd)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip;q=0.5", Some(Coding::Gzip)),
            ("br;q=0, *", Some(Coding::Zstd)),
            ("*;q=0, gzip", Some(Coding::Gzip)),
            ("br;q=0.0, gzip;q=0", None),
            ("identity", None),
            ("", None),
        ] {
            let values = std::iter::once(accept.as_bytes());
            assert_eq!(choose(&ALL, values), want, "{accept}");
        }
        assert_eq!(choose(&[], std::iter::once(b"br".as_slice())), None);
        assert_eq!(choose(&ALL, std::iter::empty()), None);
    }

    #[track_caller]
    fn check(lines: &str, want: bool) {
        let text = format!("HTTP/1.1 {lines}\r\n\r\n").replace('|', "\r\n");
        let mut space = head::field_space();
        let head = head::parse_response(text.as_bytes(), &mut space, Method::Idempotent).unwrap();
        assert_eq!(is_compressible(&head), want, "{lines}");
    }

    #[test]
    fn only_what_gains_and_loses_nothing_is_compressed() {
        let long = "Content-Length: 512";
        check(
            &format!("200 OK|Content-Type: text/html; charset=utf-8|{long}"),
            true,
        );
        check(
            "200 OK|Content-Type: application/problem+JSON|Transfer-Encoding: chunked",
            true,
        );
        check(&format!("404 No|Content-Type: image/svg+xml|{long}"), true);
        check("200 OK|Content-Type: text/html|Content-Length: 511", false);
        for lines in [
            "200 OK",
            "200 OK|Content-Type: image/png",
            "200 OK|Content-Type: text/event-stream",
            "200 OK|Content-Type: application/grpc+proto",
            "200 OK|Content-Type: text/html|Content-Encoding: gzip",
            "200 OK|Content-Type: text/html|Cache-Control: public, no-transform",
            "206 Part|Content-Type: text/html|Content-Range: bytes 0-599/9999",
            "416 No|Content-Type: text/html|Content-Range: bytes */9999",
            "304 Same|Content-Type: text/html",
            "200 OK|Content-Type: text/html|Content-Type: image/png",
        ] {
            check(&format!("{lines}|{long}"), false);
        }
    }

    #[test]
    fn the_head_is_that_of_another_coding_of_the_same() {
        let text = b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nX: y\r\nContent-Length: 600\r\n\r\n";
        let mut space = head::field_space();
        let mut head = head::parse_response(text, &mut space, Method::Idempotent).unwrap();
        let mut added = Vec::new();
        change_head(&mut head, Coding::Br, &mut added);
        assert_eq!(added, b"ETag: W/\"a\"\r\nContent-Encoding: br\r\n");
        let kept: Vec<_> = (0..head.fields.len())
            .filter(|at| head.kept.contains(*at))
            .collect();
        assert_eq!(kept, [2]);
        assert_eq!(
            (head.content_length, head.framing),
            (None, Framing::Chunked)
        );
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        match coding {
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut text)?,
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text)?,
        };
        Ok(text)
    }

    /// What can be decoded of a stream that is not over.
    fn decoded_so_far(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let mut reader: Box<dyn Read> = match coding {
            Coding::Br => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        };
        let mut byte = [0];
        while let Ok(1) = reader.read(&mut byte) {
            text.push(byte[0]);
        }
        text
    }

    #[test]
    fn what_goes_in_comes_out_and_a_flush_leaves_nothing_behind() {
        let text = "a long and repetitive text. ".repeat(5000);
        for coding in ALL {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut out = Vec::new();
            encoder.push(b"first", &mut out).unwrap();
            encoder.flush(&mut out).unwrap();
            assert_eq!(decoded_so_far(coding, &out), b"first", "{coding:?}");
            let before = out.len();
            encoder.flush(&mut out).unwrap();
            assert_eq!(out.len(), before, "{coding:?}");
            for piece in text.as_bytes().chunks(7000) {
                encoder.push(piece, &mut out).unwrap();
            }
            encoder.finish(&mut out).unwrap();
            assert!(out.len() < text.len() / 10, "{coding:?}: {}", out.len());
            let whole = decoded(coding, &out).unwrap();
            assert_eq!(whole, format!("first{text}").as_bytes(), "{coding:?}");
        }
    }
}
