//! Moments as the protocols carry them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name by which the protocols that write a moment otherwise than as a number know it.
pub(crate) const NAME: &str = "EpochSeconds";

/// Whole seconds since the Unix epoch.
///
/// In JSON a number without a fraction, which is what App Runner's published answers show
/// (specification, section 2.3); in CBOR the same under tag 1; in forms and XML ISO 8601. A
/// fraction is legal in the protocols: it is read and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochSeconds(pub u64);

impl Serialize for EpochSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(NAME, &self.0)
    }
}

impl<'de> Deserialize<'de> for EpochSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, Seconds)
    }
}

struct Seconds;

impl<'de> de::Visitor<'de> for Seconds {
    type Value = EpochSeconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds since 1970")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<EpochSeconds, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // Above 2^53 a JSON number is no longer a whole second; so far no clock goes.
        match (0.0..9_007_199_254_740_992.0).contains(&seconds) {
            true => Ok(EpochSeconds(seconds as u64)),
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
