//! A body in every protocol: the first byte chooses, the second which input it is read as.

#![no_main]

use ekiden_aws::{apprunner::shapes::Operation, decode, protocol::Protocol};
use ekiden_fuzz::read_input;
use libfuzzer_sys::fuzz_target;

const PROTOCOLS: [Protocol; 4] = [
    Protocol::AwsJson10,
    Protocol::AwsJson11,
    Protocol::AwsQuery,
    Protocol::RpcV2Cbor,
];

fuzz_target!(|data: &[u8]| {
    let [protocol, operation, body @ ..] = data else {
        return;
    };
    // Letters, so that seeds are text: `A` is the first.
    let protocol = PROTOCOLS[usize::from(protocol.wrapping_sub(b'A')) % PROTOCOLS.len()];
    let operations = Operation::ALL;
    let operation = operations[usize::from(operation.wrapping_sub(b'A')) % operations.len()];
    let tree = decode::parse(protocol, body);
    if matches!(protocol, Protocol::AwsJson10) && !body.trim_ascii().is_empty() && tree.is_ok() {
        // Stricter than serde, never laxer.
        serde_json::from_slice::<serde_json::Value>(body).expect("what was taken is JSON");
    }
    if let Ok(tree) = tree {
        let _ = read_input(operation, tree);
    }
});
