//! ARNs: what is read prints as it was written.

#![no_main]

use ekiden_aws::arn::Arn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(arn) = text.parse::<Arn>() {
        assert_eq!(arn.to_string().parse::<Arn>().as_ref(), Ok(&arn));
    }
});
