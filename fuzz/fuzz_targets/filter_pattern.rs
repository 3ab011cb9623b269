//! Filter patterns: the first line is a pattern, every other one a message. What a pattern says must be
//! in a message is in each that matches.

#![no_main]

use ekiden_logs::pattern::Pattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(text)) = lines.next().map(str::from_utf8) else {
        return;
    };
    let pattern = match Pattern::parse(text) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(!error.what.is_empty() && !error.hint.is_empty());
            assert!((1..=text.chars().count() + 1).contains(&error.column));
            return;
        }
    };
    for message in lines {
        let is_match = pattern.matches(message);
        assert!(is_match || !pattern.matches_everything());
        if let (true, Some(literal)) = (is_match, pattern.required_literal()) {
            assert!(!literal.is_empty());
            assert!(message.windows(literal.len()).any(|part| part == literal));
        }
    }
});
