//! Paths as ingress rules compare them: what surely is below a prefix may be below it, and another
//! spelling of a denied path is denied too.

#![no_main]

use ekiden_model::ingress_path::{PathPrefix, Reading};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &[u8]| {
    let prefix: PathPrefix = "/a/b".parse().expect("a prefix");
    let Some(reading) = Reading::of(target) else {
        return;
    };
    let may = reading.may_be_below(&prefix);
    assert!(may || !reading.is_surely_below(&prefix));
    // Every byte of the path as its digits is the same path.
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let path = &target[..end.unwrap_or(target.len())];
    if !path.contains(&b'%') {
        let coded: String = path.iter().map(|byte| format!("%{byte:02x}")).collect();
        let coded = Reading::of(coded.as_bytes()).expect("it can be read as well as the other");
        assert_eq!(coded.may_be_below(&prefix), may);
    }
});
