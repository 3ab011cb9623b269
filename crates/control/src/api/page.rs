//! Pages of lists, and the tokens that lead from one to the next.
//!
//! A token is the place of the last item that was listed, signed together with everything that says
//! which list it is a place in: the operation, the region, and every other parameter of the request.
//! So it cannot be made up, and one of another list, or of this list asked for differently, is
//! refused. The place is that of an item, not a number of items: a list goes on behind it whatever
//! was made or deleted in the meantime, and a token never leads back to itself.

#[doc(hidden)]
pub mod fuzzing;

use std::{marker::PhantomData, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ekiden_aws::error::ApiError;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::keyring::Keyring;

/// Characters of the longest token that is read; those made here are far shorter.
const TOKEN_LEN_MAX: usize = 1024;

/// What signatures of tokens are for.
const PURPOSE: &str = "page";

/// Bytes of a signature.
const SIGNATURE_LEN: usize = 32;

/// One page of a list whose items have places of type `P`.
pub(super) struct Page<P> {
    keyring: Arc<Keyring>,
    /// Which list it is.
    list: Vec<u8>,
    count: Option<u32>,
    after: Option<P>,
    place: PhantomData<P>,
}

impl<P: Serialize + DeserializeOwned> Page<P> {
    /// The page that `request` asks for by its members `NextToken` and `MaxResults`, as all lists
    /// call them. Without `MaxResults` it is the rest of the list.
    ///
    /// # Errors
    /// `InvalidRequestException`: the token is not one of this list.
    pub(super) fn asked(
        keyring: &Arc<Keyring>,
        operation: &str,
        region: &str,
        request: &impl Serialize,
    ) -> Result<Self, ApiError> {
        let mut parameters = serde_json::to_value(request)
            .map_err(|error| ApiError::internal_service_error(format!("a request: {error}")))?;
        let token = parameters
            .as_object_mut()
            .and_then(|members| members.remove("NextToken"));
        let count = parameters.get("MaxResults").and_then(Value::as_u64);
        let list = format!("{operation}\0{region}\0{parameters}\0");
        let mut page = Self {
            keyring: Arc::clone(keyring),
            list: list.into_bytes(),
            count: count.map(|count| u32::try_from(count.max(1)).unwrap_or(u32::MAX - 1)),
            after: None,
            place: PhantomData,
        };
        if let Some(token) = token {
            let place = token.as_str().and_then(|token| page.read(token));
            page.after = Some(place.ok_or_else(bad_token)?);
        }
        Ok(page)
    }

    /// The place behind which the page begins, unless it is the first.
    pub(super) fn after(&self) -> Option<&P> {
        self.after.as_ref()
    }

    /// How many items to look for: one more than the page has shows whether another one follows.
    pub(super) fn look_for(&self) -> u32 {
        self.count.map_or(u32::MAX, |count| count.saturating_add(1))
    }

    /// Cuts what was found to the page, and makes the token of the next one, if there is one.
    pub(super) fn cut<T>(
        &self,
        mut found: Vec<T>,
        place: impl FnOnce(&T) -> P,
    ) -> (Vec<T>, Option<String>) {
        let count = self.count.map_or(usize::MAX, |count| count as usize);
        let more = found.len() > count;
        found.truncate(count);
        let token = found
            .last()
            .filter(|_| more)
            .and_then(|last| self.token(&place(last)));
        (found, token)
    }

    fn token(&self, place: &P) -> Option<String> {
        let place = serde_json::to_vec(place).ok()?;
        let mut token = self.sign(&place).to_vec();
        token.extend_from_slice(&place);
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    fn read(&self, token: &str) -> Option<P> {
        if token.len() > TOKEN_LEN_MAX {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signature, place) = token.split_at_checked(SIGNATURE_LEN)?;
        verify_slices_are_equal(signature, &self.sign(place)).ok()?;
        serde_json::from_slice(place).ok()
    }

    fn sign(&self, place: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.keyring.sign(PURPOSE, &[&self.list, place].concat())
    }
}

fn bad_token() -> ApiError {
    ApiError::invalid_request(
        "NextToken is not valid. Give back the token of the page before, with the same other \
         parameters.",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keyring() -> Arc<Keyring> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Keyring::load_or_make(&dir.path().join("key")).unwrap())
    }

    fn asked(
        keyring: &Arc<Keyring>,
        operation: &str,
        region: &str,
        request: &Value,
    ) -> Result<Page<u32>, ApiError> {
        Page::asked(keyring, operation, region, request)
    }

    fn with_token(request: &Value, token: &str) -> Value {
        let mut request = request.clone();
        request["NextToken"] = token.into();
        request
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let keyring = keyring();
        let request = json!({ "MaxResults": 2 });
        let first = asked(&keyring, "ListServices", "r", &request).unwrap();
        assert_eq!((first.after(), first.look_for()), (None, 3));
        let (items, token) = first.cut(vec![1, 2, 3], |item| *item);
        assert_eq!(items, [1, 2]);
        let token = token.unwrap();
        let again = with_token(&request, &token);
        let next = asked(&keyring, "ListServices", "r", &again).unwrap();
        assert_eq!(next.after(), Some(&2));
        assert_eq!(next.cut(vec![3, 4], |item| *item), (vec![3, 4], None));
        let all = asked(&keyring, "ListServices", "r", &json!({})).unwrap();
        assert_eq!(all.cut(vec![1, 2, 3], |item| *item).1, None);
    }

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let keys = keyring();
        let request = json!({ "MaxResults": 1, "ConnectionName": "main" });
        let page = asked(&keys, "ListConnections", "r", &request).unwrap();
        let token = page.cut(vec![1, 2], |item| *item).1.unwrap();
        let again = with_token(&request, &token);
        assert!(asked(&keys, "ListConnections", "r", &again).is_ok());
        assert!(asked(&keys, "ListVpcConnectors", "r", &again).is_err());
        assert!(asked(&keys, "ListConnections", "s", &again).is_err());
        assert!(asked(&keyring(), "ListConnections", "r", &again).is_err());
        for other in [
            json!({ "MaxResults": 2, "ConnectionName": "main" }),
            json!({ "MaxResults": 1, "ConnectionName": "other" }),
            json!({ "MaxResults": 1 }),
        ] {
            let other = with_token(&other, &token);
            assert!(asked(&keys, "ListConnections", "r", &other).is_err());
        }
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let keyring = keyring();
        let request = json!({ "MaxResults": 1 });
        let page = asked(&keyring, "ListServices", "r", &request).unwrap();
        let token = page.cut(vec![70_000, 2], |item| *item).1.unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let again = with_token(&request, &changed);
            assert!(asked(&keyring, "ListServices", "r", &again).is_err());
        }
        for token in ["", "x", "####", &token[1..], &"A".repeat(5000)] {
            let again = with_token(&request, token);
            assert!(asked(&keyring, "ListServices", "r", &again).is_err());
        }
    }
}
