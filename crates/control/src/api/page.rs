//! Pagination tokens: where a list goes on. Opaque to clients; a token of one list is refused by
//! every other.

use ekiden_aws::error::ApiError;
use ekiden_model::{id::ServiceId, time::Timestamp};
use ekiden_store::StoredService;

/// After this service.
pub(super) fn service(last: &StoredService) -> String {
    format!(
        "s1-{:x}-{}",
        last.service.created_at.as_millis(),
        last.service.id
    )
}

/// Reads back what [`service`] made.
pub(super) fn parse_service(token: &str) -> Result<(Timestamp, ServiceId), ApiError> {
    let parse = || {
        let (at, id) = token.strip_prefix("s1-")?.split_once('-')?;
        let at = u64::from_str_radix(at, 16).ok()?;
        Some((Timestamp::from_millis(at), id.parse().ok()?))
    };
    parse().ok_or_else(bad_token)
}

/// Before this place in a service's operations.
pub(super) fn operation(service: ServiceId, place: i64) -> String {
    format!("o1-{place:x}-{service}")
}

/// Reads back what [`operation`] made, for the same service.
pub(super) fn parse_operation(service: ServiceId, token: &str) -> Result<i64, ApiError> {
    let parse = || {
        let (place, id) = token.strip_prefix("o1-")?.split_once('-')?;
        let id: ServiceId = id.parse().ok()?;
        (id == service).then(|| i64::from_str_radix(place, 16).ok())?
    };
    parse().ok_or_else(bad_token)
}

fn bad_token() -> ApiError {
    ApiError::invalid_request(
        "NextToken is not valid. Give back the token of the page before, with the same other \
         parameters.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let one = ServiceId::from_bytes([1; 16]);
        let two = ServiceId::from_bytes([2; 16]);
        let token = operation(one, 77);
        assert_eq!(parse_operation(one, &token).ok(), Some(77));
        assert!(parse_operation(two, &token).is_err());
        assert!(parse_service(&token).is_err());
        assert!(parse_service("s1-zz-1").is_err());
    }
}
