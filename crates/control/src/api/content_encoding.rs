//! Bodies that clients compressed: boto3 and the SDKs do so with large inputs of `PutMetricData`.
//!
//! What is signed is the body as it was sent, so the signature is checked against that and everything
//! else goes by what is made of it here.

use std::io::Read as _;

use bytes::Bytes;
use ekiden_aws::{error::ApiError, protocol::REQUEST_BODY_BYTES_MAX};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_ENCODING};

/// The body without the compression that its head declares. Bounded by [`REQUEST_BODY_BYTES_MAX`],
/// as one that came uncompressed is; never more than that is unpacked.
///
/// # Errors
/// `RequestEntityTooLargeException` above the bound, `MalformedHttpRequestException` when the body is
/// not what the head declares.
pub(super) fn unpacked(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, ApiError> {
    if !is_gzip(headers) {
        return Ok(body.clone());
    }
    let mut plain = Vec::new();
    // One byte more than there may be shows that there is more.
    MultiGzDecoder::new(&**body)
        .take(REQUEST_BODY_BYTES_MAX as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| {
            ApiError::malformed_http_request(
                "the body is not gzip, which its `Content-Encoding` says it is",
            )
        })?;
    match plain.len() > REQUEST_BODY_BYTES_MAX {
        true => Err(ApiError::request_entity_too_large(format!(
            "a request's body may have {REQUEST_BODY_BYTES_MAX} bytes when it is decompressed"
        ))),
        false => Ok(plain.into()),
    }
}

/// Other encodings are left alone: some old clients declare `amz-1.0`, which changes nothing.
fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|declared| declared.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn headers(encoding: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(encoding.map(|encoding| (CONTENT_ENCODING, encoding.parse().unwrap())));
        headers
    }

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn only_a_body_that_is_declared_to_be_gzip_is_unpacked() {
        let packed = gzip(b"Action=PutMetricData");
        for encoding in ["gzip", "GZIP"] {
            let plain = unpacked(&headers(Some(encoding)), &packed).unwrap();
            assert_eq!(plain, "Action=PutMetricData");
        }
        for encoding in [None, Some("identity"), Some("amz-1.0")] {
            assert_eq!(unpacked(&headers(encoding), &packed).unwrap(), packed);
        }
    }

    #[test]
    fn what_is_not_gzip_or_cut_off_is_refused() {
        let packed = gzip(b"Action=PutMetricData");
        let followed = Bytes::from([&packed[..], b"more"].concat());
        let cut = packed.slice(..packed.len() - 1);
        for body in [Bytes::from_static(b"{}"), Bytes::new(), cut, followed] {
            let refusal = unpacked(&headers(Some("gzip")), &body).unwrap_err();
            assert_eq!(refusal.code(), "MalformedHttpRequestException");
        }
    }

    #[test]
    fn a_body_that_grows_over_the_bound_is_refused() {
        let most = vec![b' '; REQUEST_BODY_BYTES_MAX];
        let plain = unpacked(&headers(Some("gzip")), &gzip(&most)).unwrap();
        assert_eq!(plain, most);
        let bomb = gzip(&vec![b' '; 64 * REQUEST_BODY_BYTES_MAX]);
        assert!(bomb.len() < REQUEST_BODY_BYTES_MAX);
        let refusal = unpacked(&headers(Some("gzip")), &bomb).unwrap_err();
        assert_eq!(refusal.code(), "RequestEntityTooLargeException");
    }
}
