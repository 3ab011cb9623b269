//! Page tokens: none is good but the one that was made, and that for its own list.

#![no_main]

use std::sync::LazyLock;

use ekiden_control::fuzzing::PageTokens;
use libfuzzer_sys::fuzz_target;

static TOKENS: LazyLock<PageTokens> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    PageTokens::new(&directory.path().join("key")).expect("a key")
});

fuzz_target!(|text: &str| {
    let tokens = &*TOKENS;
    let own = tokens.one();
    assert!(tokens.accepts(&own));
    if text != own {
        assert!(!tokens.accepts(text));
    }
    // Near the right one: one byte of it changed, or cut short.
    if let [place, byte, ..] = text.as_bytes() {
        let mut near = own.clone().into_bytes();
        let place = usize::from(*place) % near.len();
        near[place] = *byte;
        if let Ok(near) = String::from_utf8(near) {
            assert_eq!(tokens.accepts(&near), near == own);
        }
        assert!(!tokens.accepts(&own[..place]));
    }
});
