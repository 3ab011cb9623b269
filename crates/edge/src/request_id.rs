//! Names for requests.

use std::{
    cell::Cell,
    hash::{BuildHasher, Hasher, RandomState},
};

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
    pub(crate) fn next(&self) -> [u8; 32] {
        // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a
        // counter, scattered by a permutation, so that no value comes twice in 2^64.
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let id = u128::from(self.prefix) << 64 | u128::from(mixed);
        let mut digits = [0; 32];
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(id >> (124 - 4 * index)) as usize & 15];
        }
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_digits_and_differ() {
        let (ids, others) = (RequestIds::new(), RequestIds::new());
        let first = ids.next();
        assert!(
            first
                .iter()
                .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit))
        );
        assert_ne!(first, ids.next());
        assert_ne!(ids.next()[..16], others.next()[..16]);
    }
}
