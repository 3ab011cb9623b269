//! Headers of the PROXY protocol: one is within what was read, and does not depend on what follows.

#![no_main]

use ekiden_edge::proxy_protocol::{HEADER_BYTES_MAX, Parsed, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Parsed::Header { len, .. } => {
            assert!(len <= bytes.len() && len <= HEADER_BYTES_MAX);
            assert_eq!(parse(&bytes[..len]), parse(bytes));
        }
        Parsed::More => assert!(bytes.len() < HEADER_BYTES_MAX),
        Parsed::Not => {}
    }
});
