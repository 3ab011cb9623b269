//! The tokens that lead from page to page in the lists of secrets and parameters.
//!
//! A token holds where to go on, and a signature for its own list and region: one that was made up,
//! changed, or taken from another list is refused.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::Api;
use crate::keyring::Keyring;

/// Bytes of the signature that a token carries.
const SIGNATURE_BYTES: usize = 16;

impl<E> Api<E> {
    /// The token that leads on from `place` in `list` of `region`.
    pub(super) fn page_token(&self, list: &str, region: &str, place: &str) -> String {
        let mut token = signature(&self.keyring, list, region, place).to_vec();
        token.extend_from_slice(place.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// Where a token leads; `None` when it is not one of ours for that list.
    pub(super) fn page_place(&self, list: &str, region: &str, token: &str) -> Option<String> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, place) = bytes.split_at_checked(SIGNATURE_BYTES)?;
        let place = std::str::from_utf8(place).ok()?;
        let wanted = signature(&self.keyring, list, region, place);
        aws_lc_rs::constant_time::verify_slices_are_equal(signed, &wanted).ok()?;
        Some(place.to_owned())
    }
}

fn signature(keyring: &Keyring, list: &str, region: &str, place: &str) -> [u8; SIGNATURE_BYTES] {
    let whole = keyring.sign(&format!("page of {list} in {region}"), place.as_bytes());
    let mut part = [0; SIGNATURE_BYTES];
    part.copy_from_slice(&whole[..SIGNATURE_BYTES]);
    part
}
