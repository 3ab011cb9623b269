//! References to images: what is read prints as something that is read as the same.

#![no_main]

use ekiden_model::image::ImageReference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ImageReference>() {
        assert_eq!(reference.to_string().parse().ok(), Some(reference));
    }
});
