//! Heads of requests and responses, as the front door reads them.

#![no_main]

use ekiden_edge::head::{Method, field_space, find_end, host_name, parse_request, parse_response};
use libfuzzer_sys::fuzz_target;

const TARGET_BYTES_MAX: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(end)) = find_end(data, 0) else {
        return;
    };
    let head = &data[..end];
    // However it arrived, it ends where it ends.
    for scanned in 0..end.saturating_sub(4) {
        assert_eq!(find_end(data, scanned), Ok(Some(end)));
    }
    let mut space = field_space();
    if let Ok(request) = parse_request(head, &mut space, TARGET_BYTES_MAX) {
        assert!(request.target.starts_with('/') || request.target == "*");
        let mut name = Vec::new();
        host_name(request.host, &mut name);
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase));
        for (index, field) in request.fields.iter().enumerate() {
            assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            // What frames or routes a message is written by the edge alone.
            let special = ["content-length", "transfer-encoding", "connection", "host", "upgrade", "te"];
            let name = field.name.to_ascii_lowercase().replace('_', "-");
            assert!(!special.contains(&name.as_str()) || !request.kept.contains(index), "{name}");
        }
    }
    let mut space = field_space();
    if let Ok(response) = parse_response(head, &mut space, Method::Other) {
        assert!((100..=999).contains(&response.status));
    }
});
