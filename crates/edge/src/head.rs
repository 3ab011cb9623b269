//! Strict reading of HTTP/1 heads: pure functions from bytes to what they mean.
//!
//! `httparse` splits a head into its parts; this module first refuses what `httparse` is lenient
//! about (bare line feeds) and then what could be read in two ways by the edge and the
//! application behind it: ambiguous lengths, more than one or an odd `Host`, targets that
//! contradict it. What is refused here is never forwarded in any form.
//!
//! Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1); section numbers are at the rules.

use std::mem::MaybeUninit;

use httparse::Header;

use crate::cause::Cause;

/// The most fields a head may have.
pub const FIELDS_MAX: usize = 100;

/// The longest host name, in bytes, without port (DNS allows 253 and a dot).
pub const HOST_BYTES_MAX: usize = 255;

/// Room for the fields of one head; reused by its owner, never initialised.
pub type FieldSpace<'a> = [MaybeUninit<Header<'a>>; FIELDS_MAX];

/// An empty [`FieldSpace`].
pub const fn field_space<'a>() -> FieldSpace<'a> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// A line feed without a carriage return before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line ends with a bare line feed")]
pub struct BareLineFeed;

/// Where the head at the start of `bytes` ends: the index after its empty line.
///
/// `scanned` is how much of `bytes` an earlier call has seen, so that a head that arrives byte by
/// byte is not read from the start each time.
///
/// # Errors
/// [`BareLineFeed`] as soon as there is one: RFC 9112 section 2.2 lets a recipient take it for a
/// line's end, and not all do.
pub fn find_end(bytes: &[u8], scanned: usize) -> Result<Option<usize>, BareLineFeed> {
    for found in memchr::memchr_iter(b'\n', &bytes[scanned..]) {
        let at = scanned + found;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(BareLineFeed);
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// HTTP/1.0 or HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, no informational responses, closes unless asked not to.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How a message's body is delimited (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

/// What of a request's method matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `HEAD`: its response has no body.
    Head,
    /// `GET`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`: idempotent (RFC 9110, section 9.2.2).
    Idempotent,
    /// Anything else.
    Other,
}

impl Method {
    /// Whether sending the request twice is the same as sending it once.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Head | Self::Idempotent)
    }
}

/// A request's head, read and found good.
#[derive(Debug)]
pub struct RequestHead<'b, 's> {
    /// The method as sent.
    pub method_name: &'b str,
    /// What of it matters.
    pub method: Method,
    /// The target in the form the application gets it: a path and query, or `*`.
    pub target: &'b str,
    /// The client's version.
    pub version: Version,
    /// The `Host` field's value as sent, with its port if it has one.
    pub host: &'b [u8],
    /// How the body is delimited.
    pub framing: Framing,
    /// What `Content-Length` said; also where there is no body, as in a response to `HEAD`.
    pub content_length: Option<u64>,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// What the client wants to change the connection's protocol to (RFC 9110, section 7.8).
    pub upgrade: Option<&'b [u8]>,
    /// Whether the client has said that it takes trailers (`TE: trailers`).
    pub takes_trailers: bool,
    /// The fields that are the application's to see, among those of `fields`.
    pub kept: FieldSet,
    /// The fields that tell of the trace that the request is of, which are not among those.
    pub trace: FieldSet,
    /// Every field, in order.
    pub fields: &'s [Header<'b>],
}

impl<'b> RequestHead<'b, '_> {
    /// The fields of `trace`, in their order.
    pub fn trace_fields(&self) -> impl Iterator<Item = &Header<'b>> {
        let fields = self.fields.iter().enumerate();
        let found = fields.filter(|(index, _)| self.trace.contains(*index));
        found.map(|(_, field)| field)
    }
}

/// A response's head, read and found good.
#[derive(Debug)]
pub struct ResponseHead<'b, 's> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: &'b str,
    /// How the body is delimited.
    pub framing: Framing,
    /// What `Content-Length` said; also where there is no body, as in a response to `HEAD`.
    pub content_length: Option<u64>,
    /// Whether the application keeps the connection.
    pub keep_alive: bool,
    /// The fields that are the client's to see, among those of `fields`.
    pub kept: FieldSet,
    /// Every field, in order.
    pub fields: &'s [Header<'b>],
}

/// A set of indices below [`FIELDS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldSet(u128);

impl FieldSet {
    pub(crate) fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    fn remove(&mut self, index: usize) {
        self.0 &= !(1 << index);
    }

    /// Whether nothing is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the index is in the set.
    pub fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }
}

/// Reads a complete request head: `head` ends with its empty line, as [`find_end`] found it.
///
/// # Errors
/// The cause with which the request is refused; the connection cannot be used after it.
pub fn parse_request<'b, 's>(
    head: &'b [u8],
    space: &'s mut FieldSpace<'b>,
    target_bytes_max: usize,
) -> Result<RequestHead<'b, 's>, Cause> {
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, space) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Cause::BadRequest),
        Err(httparse::Error::TooManyHeaders) => return Err(Cause::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(version_refusal(head)),
        Err(_) => return Err(Cause::BadRequest),
    }
    let (Some(method_name), Some(target), Some(minor)) =
        (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Cause::BadRequest);
    };
    if target.len() > target_bytes_max {
        return Err(Cause::TargetTooLong);
    }
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let fields: &'s [Header<'b>] = parsed.headers;
    let read = RequestFields::read(fields)?;
    // RFC 9112 section 3.2: exactly one Host. HTTP/1.0 may lack it, but then nothing says whose
    // request this is.
    let host = read.host.ok_or(Cause::BadRequest)?;
    if !is_host(host) {
        return Err(Cause::BadRequest);
    }
    let method = match method_name {
        "CONNECT" => return Err(Cause::MethodNotSupported),
        "HEAD" => Method::Head,
        "GET" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Method::Idempotent,
        _ => Method::Other,
    };
    let target = origin_form(method_name, target, host)?;
    if read.expects_other {
        return Err(Cause::ExpectationFailed);
    }
    let framing = read.common.request_framing(version)?;
    let mut kept = read.common.kept;
    if version == Version::Http10 {
        // RFC 9110 section 10.1.1: an expectation in an HTTP/1.0 request is ignored.
        read.expect.into_iter().for_each(|index| kept.remove(index));
    }
    // RFC 9110 section 7.8: without `Connection: upgrade`, or in HTTP/1.0, the field means nothing.
    let upgrade = read.upgrade.filter(|protocols| {
        version == Version::Http11
            && framing == Framing::Empty
            && read.common.connection.upgrade
            && tokens(protocols).all(may_be_tunnelled)
    });
    Ok(RequestHead {
        method_name,
        method,
        target,
        version,
        host,
        framing,
        content_length: read.common.content_length,
        keep_alive: read.common.connection.keep_alive(version),
        upgrade,
        takes_trailers: read.takes_trailers,
        kept,
        trace: read.common.trace,
        fields,
    })
}

/// Whether a protocol may be spoken through the edge without the edge reading it. Not HTTP in any
/// form: requests that nobody checks would reach the application as if they had been checked.
fn may_be_tunnelled(protocol: &[u8]) -> bool {
    let name = protocol
        .split(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    !["http", "h2c", "h2", "tls"]
        .iter()
        .any(|http| name.eq_ignore_ascii_case(http.as_bytes()))
}

/// Whether a field may stand in a trailer section: one that frames, routes, authenticates or
/// describes its message may not (RFC 9110, section 6.5.1).
pub fn may_trail(name: &str) -> bool {
    let describes = [
        "age",
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "expires",
        "location",
        "max-forwards",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "vary",
        "warning",
        "www-authenticate",
    ];
    let starts = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    classify(name) == (Name::Other, true)
        && !name.eq_ignore_ascii_case("trailer")
        && !starts("content-")
        && !starts("if-")
        && !describes
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

/// The protocol that a response to a request for an upgrade has changed to.
pub fn upgraded_to<'b>(head: &ResponseHead<'b, '_>) -> Option<&'b [u8]> {
    let mut fields = head.fields.iter();
    let found = fields.find(|field| classify(field.name) == (Name::Upgrade, true));
    found.map(|field| field.value)
}

/// Reads a complete response head: `head` ends with its empty line, as [`find_end`] found it.
///
/// # Errors
/// [`Cause::AppBadResponse`].
pub fn parse_response<'b, 's>(
    head: &'b [u8],
    space: &'s mut FieldSpace<'b>,
    method: Method,
) -> Result<ResponseHead<'b, 's>, Cause> {
    let mut parsed = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        space,
    ) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        _ => return Err(Cause::AppBadResponse),
    }
    let (Some(status @ 100..), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Cause::AppBadResponse);
    };
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let fields: &'s [Header<'b>] = parsed.headers;
    let mut common = CommonFields::default();
    for (index, field) in fields.iter().enumerate() {
        let (name, exact) = classify(field.name);
        match name {
            // These mean something in requests only.
            Name::Host | Name::Expect | Name::Forwarding | Name::Trace => {
                common.kept.insert(index);
            }
            _ => common
                .read(index, name, exact, field.value)
                .map_err(|_| Cause::AppBadResponse)?,
        }
    }
    common.drop_nominated(fields);
    let framing = common
        .response_framing(status, version, method)
        .map_err(|_| Cause::AppBadResponse)?;
    Ok(ResponseHead {
        status,
        reason: parsed.reason.unwrap_or_default(),
        framing,
        content_length: common.content_length,
        keep_alive: common.connection.keep_alive(version) && framing != Framing::UntilClose,
        kept: common.kept,
        fields,
    })
}

/// The host name of a `Host` value, lower case, without port and trailing dot, written to `name`.
pub fn host_name(host: &[u8], name: &mut Vec<u8>) {
    name.clear();
    let end = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).map_or(host.len(), |at| at + 1),
        _ => memchr::memchr(b':', host).unwrap_or(host.len()),
    };
    let host = host[..end].strip_suffix(b".").unwrap_or(&host[..end]);
    name.extend(host.iter().map(u8::to_ascii_lowercase));
}

/// Which field this is, as far as the edge cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Upgrade,
    Te,
    /// Describes this connection only, or is written anew for the next: never passed on.
    HopByHop,
    /// Tells the application who asked; the client's word is not taken for it.
    Forwarding,
    /// Tells of the trace that a request is of; read, and written anew.
    Trace,
    ProxyAuthenticate,
    Cause,
    Other,
}

/// The name, and whether it is spelt exactly so.
///
/// Many application servers turn `-` and `_` into the same character, so that `X_Forwarded_For`
/// becomes `X-Forwarded-For`: a name that is special only by its underscores is recognised and
/// never passed on.
fn classify(name: &str) -> (Name, bool) {
    let bytes = name.as_bytes();
    let found = match bytes.len() {
        2 if is(bytes, b"te") => Name::Te,
        4 if is(bytes, b"host") => Name::Host,
        // `Proxy` becomes HTTP_PROXY in CGI-like environments (CVE-2016-5385 and its kin).
        5 if is(bytes, b"proxy") => Name::Forwarding,
        6 if is(bytes, b"expect") => Name::Expect,
        7 if is(bytes, b"upgrade") => Name::Upgrade,
        9 if is(bytes, b"forwarded") || is(bytes, b"x-real-ip") => Name::Forwarding,
        10 if is(bytes, b"connection") => Name::Connection,
        10 if is(bytes, b"keep-alive") => Name::HopByHop,
        10 if is(bytes, b"tracestate") => Name::Trace,
        11 if is(bytes, b"traceparent") => Name::Trace,
        12 if is(bytes, b"x-request-id") => Name::Forwarding,
        14 if is(bytes, b"content-length") => Name::ContentLength,
        14 if is(bytes, b"x-ekiden-cause") => Name::Cause,
        14 if is(bytes, b"http2-settings") => Name::HopByHop,
        15 if is(bytes, b"x-amzn-trace-id") => Name::Trace,
        16 if is(bytes, b"proxy-connection") => Name::HopByHop,
        17 if is(bytes, b"transfer-encoding") => Name::TransferEncoding,
        18 if is(bytes, b"proxy-authenticate") => Name::ProxyAuthenticate,
        19 if is(bytes, b"proxy-authorization") => Name::HopByHop,
        12.. if is(&bytes[..12], b"x-forwarded-") => Name::Forwarding,
        _ => return (Name::Other, true),
    };
    (found, memchr::memchr(b'_', bytes).is_none())
}

/// Whether a field name is this one, `-` and `_` and cases being the same. `wanted` is lower case.
fn is(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(have, want)| match have {
            b'_' => *want == b'-',
            _ => have.to_ascii_lowercase() == *want,
        })
}

/// What requests and responses have in common.
#[derive(Debug, Default)]
struct CommonFields {
    kept: FieldSet,
    trace: FieldSet,
    content_length: Option<u64>,
    chunked: bool,
    connection: Connection,
}

impl CommonFields {
    /// Takes one field in.
    fn read(&mut self, index: usize, name: Name, exact: bool, value: &[u8]) -> Result<(), Cause> {
        match name {
            Name::Other => self.kept.insert(index),
            _ if !exact => {}
            Name::ContentLength => {
                // RFC 9112 section 6.3 lets equal lengths pass as one; refusing all is simpler to
                // reason about, and nobody honest sends two.
                if self.content_length.is_some() {
                    return Err(Cause::BadRequest);
                }
                self.content_length = Some(parse_length(value).ok_or(Cause::BadRequest)?);
            }
            Name::TransferEncoding => {
                if self.chunked {
                    return Err(Cause::BadRequest);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Cause::TransferCodingNotSupported);
                }
                self.chunked = true;
            }
            Name::Connection => self.connection.read(value),
            Name::Trace => self.trace.insert(index),
            Name::Host
            | Name::Expect
            | Name::Upgrade
            | Name::Te
            | Name::HopByHop
            | Name::Forwarding
            | Name::ProxyAuthenticate
            | Name::Cause => {}
        }
        Ok(())
    }

    /// Drops the fields that `Connection` names (RFC 9110, section 7.6.1). Only fields that are
    /// passed on as they are can be named: `Host` and the lengths are the edge's to write.
    fn drop_nominated(&mut self, fields: &[Header<'_>]) {
        if !self.connection.nominates {
            return;
        }
        for nominating in fields
            .iter()
            .filter(|field| classify(field.name) == (Name::Connection, true))
        {
            for token in tokens(nominating.value) {
                for (index, field) in fields.iter().enumerate() {
                    if field.name.as_bytes().eq_ignore_ascii_case(token) {
                        self.kept.remove(index);
                        self.trace.remove(index);
                    }
                }
            }
        }
    }

    fn request_framing(&self, version: Version) -> Result<Framing, Cause> {
        match (self.chunked, self.content_length) {
            // RFC 9112 section 6.1: a client must not send both, and must not send a transfer
            // coding in HTTP/1.0.
            (true, Some(_)) => Err(Cause::BadRequest),
            (true, None) if version == Version::Http10 => Err(Cause::BadRequest),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(0) | None) => Ok(Framing::Empty),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }

    fn response_framing(
        &self,
        status: u16,
        version: Version,
        method: Method,
    ) -> Result<Framing, Cause> {
        if self.chunked && (self.content_length.is_some() || version == Version::Http10) {
            return Err(Cause::AppBadResponse);
        }
        if method == Method::Head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Framing::Empty);
        }
        Ok(match (self.chunked, self.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::Empty,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        })
    }
}

/// What only requests have.
#[derive(Debug, Default)]
struct RequestFields<'b> {
    common: CommonFields,
    host: Option<&'b [u8]>,
    expect: Option<usize>,
    expects_other: bool,
    upgrade: Option<&'b [u8]>,
    takes_trailers: bool,
}

impl<'b> RequestFields<'b> {
    fn read(fields: &[Header<'b>]) -> Result<Self, Cause> {
        let mut read = Self::default();
        let mut upgrades = 0;
        for (index, field) in fields.iter().enumerate() {
            let (name, exact) = classify(field.name);
            match name {
                Name::Host if exact => {
                    if read.host.replace(field.value).is_some() {
                        return Err(Cause::BadRequest);
                    }
                }
                Name::Expect if exact => {
                    if field.value.eq_ignore_ascii_case(b"100-continue") {
                        read.common.kept.insert(index);
                        read.expect = Some(index);
                    } else {
                        read.expects_other = true;
                    }
                }
                // Of several, which one counts is anybody's guess: none does.
                Name::Upgrade if exact => {
                    read.upgrade = match upgrades {
                        0 => Some(field.value),
                        _ => None,
                    };
                    upgrades += 1;
                }
                Name::Te if exact => {
                    read.takes_trailers |=
                        tokens(field.value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
                }
                Name::Cause | Name::ProxyAuthenticate => read.common.kept.insert(index),
                _ => read.common.read(index, name, exact, field.value)?,
            }
        }
        read.common.drop_nominated(fields);
        Ok(read)
    }
}

/// What `Connection` said.
#[derive(Debug, Default)]
struct Connection {
    close: bool,
    keep: bool,
    upgrade: bool,
    nominates: bool,
}

impl Connection {
    fn read(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates = true;
            }
        }
    }

    /// RFC 9112, section 9.3.
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep)
    }
}

/// The members of a comma-separated list, without the space around them and without empty ones.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// `1*DIGIT` and nothing else; 18 digits at most, so that it cannot overflow anywhere.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0, |length, byte| {
        byte.is_ascii_digit()
            .then(|| length * 10 + u64::from(byte - b'0'))
    })
}

/// A version other than 1.x is refused as such; anything else that stands there is no HTTP at all.
fn version_refusal(head: &[u8]) -> Cause {
    let line = head
        .split(|byte| *byte == b'\r')
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit()
                && minor.is_ascii_digit()
                && !matches!((major, minor), (b'1', b'0' | b'1')) =>
        {
            Cause::VersionNotSupported
        }
        _ => Cause::BadRequest,
    }
}

/// Whether a `Host` value is `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else {
                return false;
            };
            let (address, after) = (&rest[..end], &rest[end + 1..]);
            let hex = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if address.is_empty() || !address.iter().all(hex) {
                return false;
            }
            match after {
                [] => (address, None),
                [b':', port @ ..] => (address, Some(port)),
                _ => return false,
            }
        }
        _ => {
            let end = memchr::memchr(b':', host);
            let name = &host[..end.unwrap_or(host.len())];
            if !name.iter().all(|byte| is_reg_name(*byte)) {
                return false;
            }
            (name, end.map(|end| &host[end + 1..]))
        }
    };
    let port_is_good =
        port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    !name.is_empty() && name.len() <= HOST_BYTES_MAX && port_is_good
}

fn is_reg_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// The target as the application gets it (RFC 9112, section 3.2).
fn origin_form<'b>(method: &str, target: &'b str, host: &[u8]) -> Result<&'b str, Cause> {
    // Neither spaces and controls nor anything beyond ASCII, and no fragment.
    if !target
        .bytes()
        .all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#')
    {
        return Err(Cause::BadRequest);
    }
    if target.starts_with('/') {
        return Ok(target);
    }
    if target == "*" {
        return if method == "OPTIONS" {
            Ok(target)
        } else {
            Err(Cause::BadRequest)
        };
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        })
        .ok_or(Cause::BadRequest)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if !rest.as_bytes()[..end].eq_ignore_ascii_case(host) {
        return Err(Cause::BadRequest);
    }
    match &rest[end..] {
        "" => Ok("/"),
        // `http://host?query` has no path to stand before the query; too rare to rewrite.
        query if query.starts_with('?') => Err(Cause::BadRequest),
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_heads_end_is_found_however_it_arrives() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for scanned in 0..head.len() - 6 {
            assert_eq!(
                find_end(head, scanned),
                Ok(Some(head.len() - 4)),
                "{scanned}"
            );
        }
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r", 0), Ok(None));
        assert_eq!(find_end(b"", 0), Ok(None));
        for bare in ["\n", "a\n", "GET / HTTP/1.1\r\n\n", "a\r\nb\n\r\n"] {
            assert_eq!(find_end(bare.as_bytes(), 0), Err(BareLineFeed), "{bare:?}");
        }
    }

    #[test]
    fn host_names_are_compared_without_port_case_and_trailing_dot() {
        for (host, want) in [
            ("App.Test", "app.test"),
            ("app.test:80", "app.test"),
            ("app.test.", "app.test"),
            ("app.test.:80", "app.test"),
            ("[::1]:80", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            let mut name = Vec::new();
            host_name(host.as_bytes(), &mut name);
            assert_eq!(name, want.as_bytes());
        }
    }

    fn parse(head: &[u8]) -> Result<(), Cause> {
        parse_request(head, &mut field_space(), 1024).map(drop)
    }

    /// Bytes that look like a head, more or less.
    fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Just(b"Host: a\r\n".to_vec()),
            Just(b"Content-Length: 1\r\n".to_vec()),
            Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
            Just(b"Connection: x, close\r\n".to_vec()),
            Just(b"x: y\r\n".to_vec()),
            Just(b": ".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in nearly_a_head()) {
            let _ = find_end(&bytes, 0);
            bytes.extend_from_slice(b"\r\n\r\n");
            if let Ok(Some(end)) = find_end(&bytes, 0) {
                let _ = parse(&bytes[..end]);
                let _ = parse_response(&bytes[..end], &mut field_space(), Method::Other);
            }
        }

        /// What is accepted here, `httparse` accepts, with the same parts; what is kept is no
        /// field of the connection.
        #[test]
        fn what_is_accepted_is_what_httparse_reads(bytes in nearly_a_head()) {
            let head = [b"GET /path HTTP/1.1\r\nHost: a\r\n".as_slice(), &bytes, b"\r\n"].concat();
            let Ok(Some(end)) = find_end(&head, 0) else { return Ok(()) };
            let mut space = field_space();
            let Ok(read) = parse_request(&head[..end], &mut space, 1024) else { return Ok(()) };
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut parsed = httparse::Request::new(&mut fields);
            prop_assert_eq!(parsed.parse(&head), Ok(httparse::Status::Complete(end)));
            prop_assert_eq!(parsed.headers.len(), read.fields.len());
            for (index, field) in read.fields.iter().enumerate() {
                prop_assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                let framing = ["content-length", "transfer-encoding", "connection", "host"];
                if framing.contains(&field.name.to_ascii_lowercase().as_str()) {
                    prop_assert!(!read.kept.contains(index));
                }
            }
        }
    }
}
