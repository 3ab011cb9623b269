//! Signature Version 4, in the `Authorization` header: verifying and making.
//!
//! A signature is an HMAC over a canonical form of the request, with a key derived from the secret,
//! the day, the region and the service (AWS IAM user guide, "Create a signed AWS API request"). The
//! verifier works in two steps, so that looking up the secret may take any form, waiting included:
//! [`claim::Claim::read`] reads who claims to ask and checks everything that needs no secret, and
//! [`claim::Claim::verify`] turns the claim into an [`claim::Identity`]. Nothing about a claim may
//! be believed before.
//!
//! What is deliberately refused, because every SDK signs more: a body that is not signed
//! (`UNSIGNED-PAYLOAD` and the streaming forms; the endpoint may be plain HTTP), presigned
//! addresses, and a request whose operation, time, session token or host is not under the
//! signature. Within the window of [`claim::SKEW_MAX`] a request can be replayed, as it can with
//! AWS: it is the transport that keeps it from being overheard.

mod authorization;
mod canonical;
pub mod claim;
pub mod credentials;
pub mod date_time;
pub mod signer;

#[cfg(test)]
mod vectors;

/// The one algorithm there is.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What ends every scope.
const TERMINATOR: &str = "aws4_request";
