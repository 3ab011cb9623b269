//! Moments as awsJson carries them.

use serde::{Deserialize, Deserializer, Serialize, de};

/// Whole seconds since the Unix epoch.
///
/// Written as a number without a fraction, which is what App Runner's published answers show
/// (specification, section 2.3). A fraction is legal in the protocol: it is read and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct EpochSeconds(pub u64);

impl<'de> Deserialize<'de> for EpochSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // Above 2^53 a JSON number is no longer a whole second; so far no clock goes.
        match (0.0..9_007_199_254_740_992.0).contains(&seconds) {
            true => Ok(Self(seconds as u64)),
            false => Err(de::Error::custom("not a time after 1970")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_a_whole_number_out_and_any_number_in() {
        assert_eq!(
            serde_json::to_string(&EpochSeconds(1_606_156_217)).unwrap(),
            "1606156217"
        );
        for text in ["1606156217", "1606156217.0", "1.606156217999e9"] {
            assert_eq!(
                serde_json::from_str::<EpochSeconds>(text).unwrap().0,
                1_606_156_217
            );
        }
        for text in ["-1", "1e300", "\"1606156217\"", "null"] {
            assert!(
                serde_json::from_str::<EpochSeconds>(text).is_err(),
                "{text}"
            );
        }
    }
}
