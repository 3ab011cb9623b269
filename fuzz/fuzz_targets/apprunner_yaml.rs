//! `apprunner.yaml`: whatever it is, it is read or refused, and what is read prints as what says the same.

#![no_main]

use ekiden_build::apprunner_yaml::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(parsed) => {
            let printed = parsed.file.to_string();
            // What aliases repeat may be printed as more than a file may have.
            match parse(printed.as_bytes()) {
                Ok(again) => assert_eq!(again.file, parsed.file),
                Err(invalid) => assert!(printed.len() > data.len(), "{invalid}"),
            }
        }
        Err(invalid) => {
            assert!(!invalid.0.is_empty());
            let _ = invalid.to_string();
        }
    }
});
