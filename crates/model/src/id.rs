//! Identifiers: 128 random bits, written as 32 lowercase hexadecimal digits.
//!
//! One newtype per kind of thing, so that an instance cannot be taken for a service. The form is
//! the one App Runner gives its ids; the bits come from the caller, because this crate draws no
//! random numbers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Text that is not 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: expected 32 lowercase hexadecimal digits")]
pub struct InvalidId {
    text: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(u128);

        impl $name {
            /// Makes an id of 16 random bytes that the caller drew.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The bits as a number, in the order of the digits.
            pub const fn bits(&self) -> u128 {
                self.0
            }

            /// The first eight digits: enough for a person to tell a few apart, never an identity.
            pub fn short(&self) -> String {
                format!("{:08x}", self.0 >> 96)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // By nibbles: the formatter of 128-bit numbers is five times slower, and ids are in
                // every answer.
                let mut digits = [0; 32];
                for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
                    pair[0] = HEX[usize::from(byte >> 4)];
                    pair[1] = HEX[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
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

hex_id!(
    /// A service, for its whole life; also the last segment of its ARN.
    ServiceId
);
hex_id!(
    /// One recorded, asynchronous request on a service.
    OperationId
);
hex_id!(
    /// One running copy of a revision, on whatever engine runs it.
    InstanceId
);
hex_id!(
    /// What an owner made beside services, such as a connection or one revision of an auto scaling
    /// configuration; also the last segment of its ARN.
    ResourceId
);

hex_id!(
    /// A certificate with its key, from wherever it came; a renewed one is another.
    CertificateId
);

fn parse_hex(text: &str) -> Result<u128, InvalidId> {
    let well_formed = text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !well_formed {
        return Err(InvalidId {
            text: text.chars().take(64).collect(),
        });
    }
    u128::from_str_radix(text, 16).map_err(|_| InvalidId {
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_reads_back_what_it_prints() {
        let id = InstanceId::from_bytes([7; 16]);
        assert_eq!(id.to_string(), "07070707070707070707070707070707");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "07070707");
    }

    #[test]
    fn id_refuses_everything_but_32_lowercase_digits() {
        for text in ["", "07", &"A".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
            assert!(text.parse::<ServiceId>().is_err(), "{text}");
        }
    }
}
