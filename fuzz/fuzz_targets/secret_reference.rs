//! References to secrets: what is read prints as it was written.

#![no_main]

use ekiden_model::secret_reference::SecretReference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<SecretReference>() {
        assert_eq!(reference.to_string(), text);
        let _ = reference.target();
    }
});
