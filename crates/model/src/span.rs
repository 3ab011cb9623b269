//! What an edge tells of a request that is traced (W3C Trace Context).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, ServiceId};

/// Text that is not an id of a trace or a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {digits} lowercase hexadecimal digits that are not all zero")]
pub struct InvalidTraceId {
    digits: usize,
}

macro_rules! trace_id {
    ($(#[$doc:meta])* $name:ident, $bits:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name($bits);

        impl $name {
            /// Of these bits; `None` for zero, which is no id.
            #[must_use]
            pub const fn new(bits: $bits) -> Option<Self> {
                if bits == 0 { None } else { Some(Self(bits)) }
            }

            /// The bits as a number, in the order of the digits.
            #[must_use]
            pub const fn bits(self) -> $bits {
                self.0
            }

            /// Reads lowercase hexadecimal digits.
            #[must_use]
            pub fn read(digits: &[u8]) -> Option<Self> {
                if digits.len() != $digits {
                    return None;
                }
                let mut bits: $bits = 0;
                for digit in digits {
                    let value = match digit {
                        b'0'..=b'9' => digit - b'0',
                        b'a'..=b'f' => digit - b'a' + 10,
                        _ => return None,
                    };
                    bits = bits << 4 | <$bits>::from(value);
                }
                Self::new(bits)
            }

            /// As lowercase hexadecimal digits.
            #[must_use]
            pub fn digits(self) -> [u8; $digits] {
                let mut digits = [0; $digits];
                for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
                    pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
                    pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
                }
                digits
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidTraceId;

            fn from_str(text: &str) -> Result<Self, InvalidTraceId> {
                Self::read(text.as_bytes()).ok_or(InvalidTraceId { digits: $digits })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidTraceId;

            fn try_from(text: String) -> Result<Self, InvalidTraceId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

trace_id!(
    /// A trace: 32 lowercase hexadecimal digits, never all zero.
    TraceId,
    u128,
    32
);
trace_id!(
    /// A span of a trace: 16 lowercase hexadecimal digits, never all zero.
    SpanId,
    u64,
    16
);

/// A request that is over, as the edge's span of its trace. Times are in microseconds, and those
/// without a date count from `started_us`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSpan {
    /// The trace it is of.
    pub trace: TraceId,
    /// The edge's own span; the instance was told that it is its parent.
    pub span: SpanId,
    /// The client's span, if the client had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SpanId>,
    /// Whose request it was, if anybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// Where it was sent last, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The method as it was sent; cut at 32 bytes.
    pub method: String,
    /// The host name: lower case, without port.
    pub host: String,
    /// The path without its query; cut at 256 bytes.
    pub path: String,
    /// The status that the client was sent, or would have been.
    pub status: u16,
    /// The name of the cause for which the edge answered or gave up, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// When its head had been read, since the Unix epoch.
    pub started_us: u64,
    /// Its wait for an instance with room, if it waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSpan>,
    /// When it had a connection to an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_us: Option<u64>,
    /// When the first byte of the response came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// When it was over.
    pub total_us: u64,
    /// Bytes of the request's body that were passed on.
    pub request_body_bytes: u64,
    /// Bytes of the response's body that were passed on.
    pub response_body_bytes: u64,
}

/// The wait of a request for an instance with room: a child of the request's span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpan {
    /// Its own id.
    pub span: SpanId,
    /// When it began, counted from the request's `started_us`.
    pub began_us: u64,
    /// How long it took, all waits of the request together.
    pub waited_us: u64,
    /// Whether the service had no instance when the wait began.
    pub cold: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(text.parse::<TraceId>().unwrap().to_string(), text);
        let text = "00f067aa0ba902b7";
        assert_eq!(text.parse::<SpanId>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "0000000000000000",
            "00F067AA0BA902B7",
            "00f067aa0ba902b",
            "00f067aa0ba902b77",
            "+0f067aa0ba902b7",
        ] {
            assert!(text.parse::<SpanId>().is_err(), "{text}");
        }
        assert!("0".repeat(32).parse::<TraceId>().is_err());
    }
}
