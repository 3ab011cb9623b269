//! A request from its head to its input, in every protocol, and the answer to it.

#![no_main]

use ekiden_aws::{
    apprunner::shapes::Operation,
    decode,
    error::ApiError,
    protocol::{self, APIS, RequestId, Service},
};
use ekiden_fuzz::{read_input, request};
use http::request::Parts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((parts, body)) = request(data) else {
        return;
    };
    let looks_like = protocol::looks_like(&parts.headers);
    if let Err(error) = understood(&parts, body) {
        let answer = protocol::failure(looks_like, RequestId::random(), &error);
        assert!(answer.status().as_u16() >= 400);
        assert!(!answer.body().is_empty());
    }
});

fn understood(parts: &Parts, body: &[u8]) -> Result<(), ApiError> {
    let route = protocol::route(parts, body, APIS)?;
    let tree = decode::parse(route.protocol, body)?;
    match (route.api.service, Operation::from_name(&route.operation)) {
        (Service::AppRunner, Some(operation)) => read_input(operation, tree),
        _ => Err(route.unknown_operation()),
    }
}
