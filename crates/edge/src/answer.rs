//! The edge's own answers: a cause, in the status, a header and a body.
//!
//! [`compose`] says what is answered, whatever the protocol; [`write_answer`] writes it for HTTP/1.
//! A client gets the body in the form it asks for: a sentence, JSON, or a small page for people that
//! has no scripts and loads nothing. A service's own page takes the place of it, unless the client
//! asks for another form than the page has.

use std::{borrow::Cow, time::SystemTime};

use ekiden_model::ingress::{Ingress, Page};

use crate::{
    cause::Cause,
    forward::{connection, content_length, field, status_line},
    head::Version,
};

/// Members of `Accept` that are looked at.
const ACCEPT_MEMBERS_MAX: usize = 32;

/// What is answered, and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'r> {
    /// Why.
    pub(crate) cause: Cause,
    /// Where the client is sent, and by which status.
    pub(crate) redirect: Option<(u16, &'r [u8])>,
    /// The front door of the service that was asked, if it is known.
    pub(crate) ingress: Option<&'r Ingress>,
    /// The request's id, if it has one.
    pub(crate) request_id: Option<&'r [u8]>,
    /// The value of the request's `Accept`.
    pub(crate) accept: Option<&'r [u8]>,
    /// The time of the answer.
    pub(crate) now: SystemTime,
}

impl<'r> Reply<'r> {
    /// To what could not be read as a request.
    pub(crate) fn to_nobody(cause: Cause, now: SystemTime) -> Self {
        Self {
            cause,
            redirect: None,
            ingress: None,
            request_id: None,
            accept: None,
            now,
        }
    }
}

/// An answer without the fields that frame it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Composed<'r> {
    pub(crate) cause: Cause,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(&'static str, Cow<'r, [u8]>)>,
    pub(crate) body: Cow<'r, [u8]>,
}

/// What an answer over HTTP/1 has to know of the request it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The client's version.
    pub(crate) version: Version,
    /// A response to `HEAD` has no body.
    pub(crate) head_only: bool,
    /// Whether the connection is kept after the answer.
    pub(crate) keep_alive: bool,
}

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
    Html,
}

/// What is answered.
pub(crate) fn compose<'r>(reply: &Reply<'r>) -> Composed<'r> {
    let cause = reply.cause;
    let status = reply.redirect.map_or(cause.status(), |(status, _)| status);
    let kind = reply.accept.map_or(Kind::Text, wanted);
    let page = reply
        .ingress
        .and_then(|ingress| page(ingress, cause, status))
        .filter(|page| suits(page, kind));
    let mut fields: Vec<(&'static str, Cow<'r, [u8]>)> = Vec::with_capacity(12);
    fields.push(("Server", Cow::Borrowed(b"ekiden")));
    let date = httpdate::fmt_http_date(reply.now);
    fields.push(("Date", Cow::Owned(date.into_bytes())));
    fields.push(("X-Ekiden-Cause", Cow::Borrowed(cause.name().as_bytes())));
    if let Some(id) = reply.request_id {
        fields.push(("X-Request-Id", Cow::Borrowed(id)));
    }
    let media_type = page.map_or(kind.media_type(), |page| page.content_type.as_str());
    fields.push(("Content-Type", Cow::Borrowed(media_type.as_bytes())));
    if page.is_none() && kind == Kind::Html {
        fields.push((
            "Content-Security-Policy",
            Cow::Borrowed(b"default-src 'none'; style-src 'unsafe-inline'"),
        ));
    }
    fields.push(("Cache-Control", Cow::Borrowed(b"no-store")));
    if cause.passes() {
        fields.push(("Retry-After", Cow::Borrowed(b"1")));
    }
    if cause == Cause::LoginRequired {
        let challenge: &[u8] = b"Basic realm=\"service\", charset=\"UTF-8\"";
        fields.push(("WWW-Authenticate", Cow::Borrowed(challenge)));
    }
    if let Some((_, location)) = reply.redirect {
        fields.push(("Location", Cow::Borrowed(location)));
    }
    let body = match page {
        Some(page) => Cow::Borrowed(page.body.as_bytes()),
        None => Cow::Owned(own_body(cause, status, kind, reply.request_id)),
    };
    Composed {
        cause,
        status,
        fields,
        body,
    }
}

/// Appends the whole answer.
pub(crate) fn write_answer(out: &mut Vec<u8>, answer: &Composed<'_>, asked: Asked) {
    status_line(out, answer.status, reason(answer.status));
    for (name, value) in &answer.fields {
        field(out, name, value);
    }
    content_length(out, answer.body.len() as u64);
    connection(out, asked.version, asked.keep_alive);
    out.extend_from_slice(b"\r\n");
    if !asked.head_only {
        out.extend_from_slice(&answer.body);
    }
}

/// The service's own page: for the cause, or else the status, or else its class.
fn page(ingress: &Ingress, cause: Cause, status: u16) -> Option<&Page> {
    if ingress.pages.is_empty() {
        return None;
    }
    let class = if status < 500 { "4xx" } else { "5xx" };
    let find = |wanted: &str| {
        let mut pages = ingress.pages.iter();
        pages.find_map(|(key, page)| (key.as_str() == wanted).then_some(page))
    };
    // A redirect has a page only if there is one for exactly this.
    find(cause.name())
        .or_else(|| find(&status.to_string()))
        .or_else(|| find(class).filter(|_| status >= 400))
}

/// Whether a client that wants `kind` is served with the page.
fn suits(page: &Page, kind: Kind) -> bool {
    let is = |media_type: &str| {
        let start = page.content_type.get(..media_type.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(media_type))
    };
    match kind {
        // Whoever asks for nothing in particular gets what there is.
        Kind::Text => true,
        Kind::Json => !is("text/html"),
        Kind::Html => !is("application/json"),
    }
}

/// The form that a client asks for (RFC 9110, section 12.5.1): the one with the highest weight, of
/// equals the first that is named. A client that takes anything gets a sentence.
fn wanted(accept: &[u8]) -> Kind {
    let mut best = (Kind::Text, 0);
    for member in accept.split(|byte| *byte == b',').take(ACCEPT_MEMBERS_MAX) {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kind = match parts
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_slice()
        {
            b"text/html" | b"application/xhtml+xml" => Kind::Html,
            b"application/json" | b"application/problem+json" | b"text/json" => Kind::Json,
            b"text/plain" | b"text/*" | b"*/*" => Kind::Text,
            _ => continue,
        };
        let weight = parts.find_map(weight).unwrap_or(1000);
        if weight > best.1 {
            best = (kind, weight);
        }
    }
    best.0
}

/// `q=0.8` in thousandths; what is none weighs nothing.
fn weight(parameter: &[u8]) -> Option<u32> {
    let value = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let text = std::str::from_utf8(value).unwrap_or_default();
    let weight: f32 = text.parse().unwrap_or_default();
    Some(if (0.0..=1.0).contains(&weight) {
        (weight * 1000.0) as u32
    } else {
        0
    })
}

impl Kind {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

fn own_body(cause: Cause, status: u16, kind: Kind, request_id: Option<&[u8]>) -> Vec<u8> {
    // An id is made of characters that mean nothing in JSON and HTML; see `RequestId`.
    let id = String::from_utf8_lossy(request_id.unwrap_or_default());
    let (name, sentence) = (cause.name(), cause.sentence());
    let body = match kind {
        Kind::Text => format!("{sentence}\n"),
        Kind::Json => format!(
            "{{\"status\":{status},\"cause\":\"{name}\",\"message\":\"{sentence}\",\
             \"request_id\":\"{id}\"}}\n"
        ),
        Kind::Html => format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{status} {reason}</title>\
             <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;\
             padding:0 1rem;color:#222;background:#fff}}h1{{font-size:1.4rem}}\
             p.small{{color:#666;font-size:.85rem}}</style></head>\
             <body><h1>{status} {reason}</h1><p>{sentence}</p>\
             <p class=\"small\">{name} {id}</p></body></html>\n",
            reason = reason(status),
        ),
    };
    body.into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(cause: Cause) -> Reply<'static> {
        Reply {
            request_id: Some(b"0123"),
            ..Reply::to_nobody(cause, SystemTime::UNIX_EPOCH)
        }
    }

    fn body(reply: &Reply<'_>) -> String {
        String::from_utf8(compose(reply).body.into_owned()).unwrap()
    }

    fn value(answer: &Composed<'_>, name: &str) -> Option<String> {
        let found = answer.fields.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn the_form_is_what_the_client_asks_for() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, want) in [
            ("", Kind::Text),
            ("*/*", Kind::Text),
            (chrome, Kind::Html),
            ("application/json", Kind::Json),
            ("application/json, text/plain, */*", Kind::Json),
            ("text/html;q=0.5, application/json;q=0.9", Kind::Json),
            ("TEXT/HTML", Kind::Html),
            ("text/html;q=0", Kind::Text),
            ("text/html;q=9", Kind::Text),
            ("text/html;q=x", Kind::Text),
            ("text/html; level=1; q=0.4, text/plain;q=0.3", Kind::Html),
            ("image/png", Kind::Text),
        ] {
            assert_eq!(wanted(accept.as_bytes()), want, "{accept}");
        }
    }

    #[test]
    fn every_form_says_the_cause_and_the_sentence() {
        let json = Reply {
            accept: Some(b"application/json"),
            ..reply(Cause::QueueFull)
        };
        let parsed: serde_json::Value = serde_json::from_str(&body(&json)).unwrap();
        assert_eq!(parsed["cause"], "queue_full");
        assert_eq!(parsed["status"], 503);
        assert_eq!(parsed["request_id"], "0123");
        assert_eq!(parsed["message"], Cause::QueueFull.sentence());
        let html = Reply {
            accept: Some(b"text/html"),
            ..reply(Cause::QueueFull)
        };
        let page = body(&html);
        assert!(page.contains("503 Service Unavailable") && page.contains("queue_full"));
        assert!(!page.contains("<script"));
        assert!(value(&compose(&html), "Content-Security-Policy").is_some());
        let text = compose(&reply(Cause::QueueFull));
        assert_eq!(
            text.body,
            format!("{}\n", Cause::QueueFull.sentence()).as_bytes()
        );
        assert_eq!(value(&text, "Retry-After").as_deref(), Some("1"));
        assert_eq!(value(&text, "X-Request-Id").as_deref(), Some("0123"));
    }

    #[test]
    fn no_sentence_needs_escaping() {
        for cause in Cause::ALL {
            let plain = |byte: u8| byte.is_ascii() && !b"\"\\<>&\n".contains(&byte);
            assert!(cause.sentence().bytes().all(plain), "{}", cause.name());
        }
    }

    #[test]
    fn a_login_is_asked_for_and_a_redirect_says_where() {
        let login = compose(&reply(Cause::LoginRequired));
        assert_eq!(login.status, 401);
        assert!(
            value(&login, "WWW-Authenticate")
                .unwrap()
                .starts_with("Basic realm=")
        );
        let redirect = Reply {
            redirect: Some((301, b"https://app.test/")),
            ..reply(Cause::HttpsRequired)
        };
        let redirect = compose(&redirect);
        assert_eq!(redirect.status, 301);
        assert_eq!(
            value(&redirect, "Location").as_deref(),
            Some("https://app.test/")
        );
    }

    #[test]
    fn a_service_brings_its_own_pages() {
        let ingress: Ingress = serde_json::from_str(
            r#"{"pages":{"queue_full":{"body":"<p>busy"},"503":{"body":"<p>503"},
            "5xx":{"body":"{}","content_type":"application/json"},"4xx":{"body":"<p>4xx"}}}"#,
        )
        .unwrap();
        let with = |cause, accept: &'static str| {
            body(&Reply {
                ingress: Some(&ingress),
                accept: Some(accept.as_bytes()),
                ..reply(cause)
            })
        };
        assert_eq!(with(Cause::QueueFull, "text/html"), "<p>busy");
        assert_eq!(with(Cause::QueueFull, "*/*"), "<p>busy");
        assert!(with(Cause::QueueFull, "application/json").contains("queue_full"));
        assert_eq!(with(Cause::Paused, "text/html"), "<p>503");
        assert_eq!(with(Cause::AppTimedOut, "application/json"), "{}");
        assert!(with(Cause::AppTimedOut, "text/html").contains("<!doctype"));
        assert_eq!(with(Cause::PathDenied, "text/html"), "<p>4xx");
        assert!(with(Cause::HttpsRequired, "text/html").contains("<!doctype"));
    }

    #[test]
    fn a_response_to_head_has_the_length_and_no_body() {
        let mut out = Vec::new();
        let answer = compose(&reply(Cause::NoSuchHost));
        let asked = Asked {
            version: Version::Http11,
            head_only: true,
            keep_alive: false,
        };
        write_answer(&mut out, &answer, asked);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(
            text.contains(&format!("Content-Length: {}\r\n", answer.body.len())),
            "{text}"
        );
        assert!(
            text.contains("Connection: close\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }
}
