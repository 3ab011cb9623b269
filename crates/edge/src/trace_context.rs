//! Which trace a request is of: the client's, or a new one.
//!
//! Sources: W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/>; section numbers
//! are at the rules), and AWS X-Ray's tracing header. `traceparent` comes first: if there is one,
//! whatever it says, `X-Amzn-Trace-Id` is not read. The instance gets both, written anew.

use ekiden_model::span::{SpanId, TraceId};

use crate::head::RequestHead;

/// The flag that says that a request is sampled (section 3.2.2.5.1).
const SAMPLED: u8 = 1;

/// A request's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: TraceId,
    /// The edge's own span, the parent of what the instance makes.
    pub(crate) span: SpanId,
    /// The client's span, if it has one.
    pub(crate) parent: Option<SpanId>,
    pub(crate) sampled: bool,
    /// Whether `tracestate` goes along: it is worth something beside its `traceparent` only.
    pub(crate) keeps_state: bool,
}

/// What a client says of the trace that it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) trace: TraceId,
    pub(crate) parent: Option<SpanId>,
    /// `None` when it leaves that to others.
    pub(crate) sampled: Option<bool>,
    /// Whether it is the W3C's header that says so.
    pub(crate) has_state: bool,
}

/// The trace that a request's client has begun, if it says so and nothing is wrong with it.
pub(crate) fn begun(head: &RequestHead<'_, '_>) -> Option<Begun> {
    if head.trace.is_empty() {
        return None;
    }
    let values = |name: &'static str| {
        head.trace_fields()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    };
    let mut parents = values("traceparent");
    if let Some(value) = parents.next() {
        // Of several none can be told to be the right one (section 4.3).
        return match parents.next() {
            None => traceparent(value),
            Some(_) => None,
        };
    }
    let mut roots = values("x-amzn-trace-id");
    match (roots.next(), roots.next()) {
        (Some(value), None) => amazon(value),
        _ => None,
    }
}

/// Reads `traceparent` (section 3.2).
fn traceparent(value: &[u8]) -> Option<Begun> {
    let (known, more) = value.split_at_checked(55)?;
    let [v0, v1, b'-', rest @ ..] = known else {
        return None;
    };
    let version = byte(&[*v0, *v1])?;
    // A version to come may have more behind another dash (section 3.2.4); 255 is none.
    match (version, more.first()) {
        (0xff, _) => return None,
        (0, Some(_)) => return None,
        (_, None | Some(b'-')) => {}
        (_, Some(_)) => return None,
    }
    let (trace, rest) = rest.split_at_checked(32)?;
    let (parent, flags) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
    let flags = byte(flags.strip_prefix(b"-")?)?;
    Some(Begun {
        trace: TraceId::read(trace)?,
        parent: Some(SpanId::read(parent)?),
        sampled: Some(flags & SAMPLED != 0),
        has_state: true,
    })
}

/// Reads `X-Amzn-Trace-Id`: `Root=1-<8 digits>-<24 digits>`, and maybe `Parent=<16 digits>` and
/// `Sampled=` with `0`, `1` or `?`, in any order and between semicolons. Other members mean nothing
/// here.
fn amazon(value: &[u8]) -> Option<Begun> {
    let (mut root, mut parent, mut sampled) = (None, None, None);
    for member in value.split(|byte| *byte == b';') {
        let mut halves = member.trim_ascii().splitn(2, |byte| *byte == b'=');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            return None;
        };
        let before = match name {
            b"Root" => root.replace(value),
            b"Parent" => parent.replace(value),
            b"Sampled" => sampled.replace(value),
            _ => None,
        };
        if before.is_some() {
            return None;
        }
    }
    let (seconds, rest) = root?.strip_prefix(b"1-")?.split_at_checked(8)?;
    let rest = rest.strip_prefix(b"-")?;
    let mut digits = [0; 32];
    digits[..8].copy_from_slice(seconds);
    if rest.len() != 24 {
        return None;
    }
    digits[8..].copy_from_slice(rest);
    Some(Begun {
        trace: TraceId::read(&digits)?,
        parent: match parent {
            Some(parent) => Some(SpanId::read(parent)?),
            None => None,
        },
        sampled: match sampled {
            Some(b"1") => Some(true),
            Some(b"0") => Some(false),
            Some(b"?") | None => None,
            Some(_) => return None,
        },
        has_state: false,
    })
}

/// Two lowercase hexadecimal digits.
fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    match digits {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

impl TraceContext {
    /// Appends the fields that tell the instance of it; `tracestate` is the client's.
    pub(crate) fn write(&self, head: &RequestHead<'_, '_>, out: &mut Vec<u8>) {
        let (trace, span) = (self.trace.digits(), self.span.digits());
        let flag = b'0' + u8::from(self.sampled);
        // Built in one piece: appending costs more than the bytes do.
        let mut line = *b"traceparent: 00-................................-................-0.\r\n";
        line[16..48].copy_from_slice(&trace);
        line[49..65].copy_from_slice(&span);
        line[67] = flag;
        out.extend_from_slice(&line);
        if self.keeps_state {
            for field in head.trace_fields() {
                if field.name.eq_ignore_ascii_case("tracestate") {
                    out.extend_from_slice(b"tracestate: ");
                    out.extend_from_slice(field.value);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        let mut line = *b"X-Amzn-Trace-Id: Root=1-........-........................;Parent=................;Sampled=.\r\n";
        line[24..32].copy_from_slice(&trace[..8]);
        line[33..57].copy_from_slice(&trace[8..]);
        line[65..81].copy_from_slice(&span);
        line[90] = flag;
        out.extend_from_slice(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{field_space, parse_request};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn of(fields: &str) -> Option<Begun> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut space = field_space();
        begun(&parse_request(head.as_bytes(), &mut space, 100).unwrap())
    }

    fn want(parent: bool, sampled: Option<bool>, has_state: bool) -> Option<Begun> {
        Some(Begun {
            trace: TRACE.parse().unwrap(),
            parent: parent.then(|| PARENT.parse().unwrap()),
            sampled,
            has_state,
        })
    }

    #[test]
    fn a_valid_traceparent_is_continued() {
        for (version, flags, more, sampled) in [
            ("00", "00", "", false),
            ("00", "01", "", true),
            ("00", "ff", "", true),
            ("00", "fe", "", false),
            ("cc", "01", "", true),
            ("cc", "01", "-what-the-future-will-be", true),
            ("01", "01", "-", true),
        ] {
            let field = format!("TraceParent: {version}-{TRACE}-{PARENT}-{flags}{more}\r\n");
            assert_eq!(of(&field), want(true, Some(sampled), true), "{field}");
        }
    }

    #[test]
    fn a_traceparent_that_is_not_valid_is_as_none_and_hides_amazons() {
        let upper = TRACE.to_uppercase();
        let (no_trace, no_parent) = ("0".repeat(32), "0".repeat(16));
        for value in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{TRACE}-{PARENT}-001"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("cc-{TRACE}-{PARENT}-01.more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("0-{TRACE}-{PARENT}-01x"),
            format!("0G-{TRACE}-{PARENT}-01"),
            format!("CC-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-0A"),
            format!("00-{upper}-{PARENT}-01"),
            format!("00-{TRACE}-{}-01", PARENT.to_uppercase()),
            format!("00-{no_trace}-{PARENT}-01"),
            format!("00-{TRACE}-{no_parent}-01"),
            format!("00_{TRACE}_{PARENT}_01"),
            format!("00-{}-{PARENT}-01", "-".repeat(32)),
            format!("00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01"),
        ] {
            let fields = format!(
                "traceparent: {value}\r\nX-Amzn-Trace-Id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736\r\n"
            );
            assert_eq!(of(&fields), None, "{value}");
        }
        let good = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
        assert_eq!(of(&format!("{good}{good}")), None);
        assert_eq!(of(&format!("Connection: traceparent\r\n{good}")), None);
    }

    #[test]
    fn amazons_header_is_continued_when_it_is_alone_and_well_formed() {
        let root = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
        for (value, parent, sampled) in [
            (root.to_owned(), false, None),
            (format!("{root};Sampled=?"), false, None),
            (
                format!("{root};Parent={PARENT};Sampled=1"),
                true,
                Some(true),
            ),
            (
                format!("Self=1-2-3; {root}; Sampled=0; Lineage=a:b|c:0"),
                false,
                Some(false),
            ),
        ] {
            let field = format!("x-amzn-trace-id: {value}\r\n");
            assert_eq!(of(&field), want(parent, sampled, false), "{value}");
        }
        for value in [
            String::new(),
            "Root=".to_owned(),
            "Root=2-4bf92f35-77b34da6a3ce929d0e0e4736".to_owned(),
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e473".to_owned(),
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e47366".to_owned(),
            "Root=1-4bf92f3-577b34da6a3ce929d0e0e47366".to_owned(),
            "Root=1-00000000-000000000000000000000000".to_owned(),
            format!("{root};Parent=1"),
            format!("{root};Sampled=yes"),
            format!("{root};{root}"),
            format!("{root};"),
            format!("Parent={PARENT};Sampled=1"),
        ] {
            assert_eq!(
                of(&format!("X-Amzn-Trace-Id: {value}\r\n")),
                None,
                "{value}"
            );
        }
        let field = format!("X-Amzn-Trace-Id: {root}\r\n");
        assert_eq!(of(&format!("{field}{field}")), None);
        assert_eq!(of(&format!("X_Amzn_Trace_Id: {root}\r\n")), None);
    }

    #[test]
    fn the_instance_is_told_of_the_edges_span_in_both_forms() {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n\
             tracestate: a=1\r\nTraceState: b=2\r\n\r\n"
        );
        let mut space = field_space();
        let head = parse_request(head.as_bytes(), &mut space, 100).unwrap();
        let mut context = TraceContext {
            trace: TRACE.parse().unwrap(),
            span: "b7ad6b7169203331".parse().unwrap(),
            parent: None,
            sampled: true,
            keeps_state: true,
        };
        let mut out = Vec::new();
        context.write(&head, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01\r\n\
             tracestate: a=1\r\ntracestate: b=2\r\n\
             X-Amzn-Trace-Id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=b7ad6b7169203331;Sampled=1\r\n"
        );
        (context.sampled, context.keeps_state) = (false, false);
        let mut out = Vec::new();
        context.write(&head, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("-00\r\n") && text.ends_with(";Sampled=0\r\n"),
            "{text}"
        );
        assert!(!text.contains("tracestate"));
    }
}
