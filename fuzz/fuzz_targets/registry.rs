//! What a registry is sent: paths and manifests. What is taken names only what can be asked for again.

#![no_main]

use ekiden_model::{lifecycle::Policy, time::Timestamp};
use ekiden_registry::{Parsed, manifest};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(parsed) = Parsed::read(text) {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            if let Some(name) = parsed.wanted(&method).repository {
                // No way out of the registry, and none around a permission.
                assert!(!name.contains("..") && !name.starts_with('/') && !name.contains("//"));
                let again = Parsed::read(&format!("/v2/{name}/tags/list")).expect("a good name");
                assert_eq!(again.wanted(&method).repository, Some(name));
            }
        }
    }
    let now = Timestamp::from_millis(0);
    let read = manifest::read(None, text.as_bytes(), now);
    if let Ok(read) = read {
        assert_eq!(read.content, text.as_bytes());
        let media_type = read.record.media_type.clone();
        assert_eq!(manifest::read(Some(&media_type), text.as_bytes(), now), Ok(read));
    }
    let _ = serde_json::from_str::<Policy>(text);
});
