//! Names for requests.

use std::{
    cell::Cell,
    hash::{BuildHasher, Hasher, RandomState},
};

/// The longest id of a client's that is kept, in bytes.
const KEPT_BYTES_MAX: usize = 64;

/// A request's name: made by the edge, or kept. It is made of letters, digits and `-_.~+=:`, which
/// mean nothing in a header, JSON or HTML.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId {
    bytes: [u8; KEPT_BYTES_MAX],
    length: u8,
}

impl RequestId {
    /// The id that a client sent, if it can be one.
    pub(crate) fn kept(value: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+=:".contains(byte);
        if !(1..=KEPT_BYTES_MAX).contains(&value.len()) || !value.iter().all(plain) {
            return None;
        }
        let mut bytes = [0; KEPT_BYTES_MAX];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self {
            bytes,
            length: value.len() as u8,
        })
    }

    /// As it is written.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Draws request ids: 32 lowercase hexadecimal digits, unlike any other with all but certainty.
/// They identify, they are no secret.
#[derive(Debug)]
pub(crate) struct RequestIds {
    /// This worker's share of the id, random.
    prefix: u64,
    state: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        // The standard library seeds its hashers from the operating system.
        let draw = || RandomState::new().build_hasher().finish();
        Self {
            prefix: draw(),
            state: Cell::new(draw()),
        }
    }

    /// The next id.
    pub(crate) fn next(&self) -> RequestId {
        // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a
        // counter, scattered by a permutation, so that no value comes twice in 2^64.
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let id = u128::from(self.prefix) << 64 | u128::from(mixed);
        let mut bytes = [0; KEPT_BYTES_MAX];
        for (index, digit) in bytes[..32].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(id >> (124 - 4 * index)) as usize & 15];
        }
        RequestId { bytes, length: 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_digits_and_differ() {
        let (ids, others) = (RequestIds::new(), RequestIds::new());
        let (first, second, other) = (ids.next(), ids.next(), others.next());
        assert_eq!(first.as_bytes().len(), 32);
        assert!(
            first
                .as_bytes()
                .iter()
                .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit))
        );
        assert_ne!(first.as_bytes(), second.as_bytes());
        assert_ne!(second.as_bytes()[..16], other.as_bytes()[..16]);
    }

    #[test]
    fn an_id_is_kept_when_it_can_be_one() {
        let longest = "x".repeat(KEPT_BYTES_MAX);
        for id in [
            "a",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "Root=1-67891233",
            &longest,
        ] {
            assert_eq!(
                RequestId::kept(id.as_bytes()).unwrap().as_bytes(),
                id.as_bytes()
            );
        }
        let too_long = "x".repeat(KEPT_BYTES_MAX + 1);
        for id in ["", " ", "a b", "<a>", "a\"b", "a,b", "\u{e4}", &too_long] {
            assert!(RequestId::kept(id.as_bytes()).is_none(), "{id}");
        }
    }
}
