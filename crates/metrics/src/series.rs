//! What is measured: a namespace, a name, dimensions and a unit.

use std::{fmt, str::FromStr};

use crate::error::Error;

/// Dimensions that a series may have.
pub const DIMENSIONS_MAX: usize = 30;
/// Characters of a namespace, a metric's name or a dimension's name.
pub const NAME_CHARS_MAX: usize = 255;
/// Characters of a dimension's value.
pub const DIMENSION_VALUE_CHARS_MAX: usize = 1024;

/// CloudWatch's units, in its order.
const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// One of CloudWatch's units. Series that differ only in it are different ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(u8);

impl Unit {
    /// Time.
    pub const SECONDS: Self = Self(0);
    /// Time.
    pub const MICROSECONDS: Self = Self(1);
    /// Time.
    pub const MILLISECONDS: Self = Self(2);
    /// Size.
    pub const BYTES: Self = Self(3);
    /// 0 to 100, mostly.
    pub const PERCENT: Self = Self(13);
    /// How many.
    pub const COUNT: Self = Self(14);
    /// What is meant when none is given.
    pub const NONE: Self = Self(26);

    /// As CloudWatch writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        UNITS[usize::from(self.0)]
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < UNITS.len()).then_some(Self(number))
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = UNITS.iter().position(|unit| *unit == text);
        found.map(|number| Self(number as u8)).ok_or_else(|| {
            Error::value(format!(
                "the parameter Unit is `{text}`, which is not a unit; it must be one of {}",
                UNITS.join(", ")
            ))
        })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A metric: what series that differ only in their unit have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric {
    namespace: String,
    name: String,
    dimensions: Vec<(String, String)>,
}

impl Metric {
    /// Checks the parts and sorts the dimensions by name.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`] when a part is empty or too long, a namespace begins with a colon, there
    /// are too many dimensions or two of a name.
    pub fn new<N: Into<String>, V: Into<String>>(
        namespace: impl Into<String>,
        name: impl Into<String>,
        dimensions: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let (namespace, name) = (namespace.into(), name.into());
        check("Namespace", &namespace, NAME_CHARS_MAX)?;
        if namespace.starts_with(':') {
            return Err(Error::value(format!(
                "the parameter Namespace is `{namespace}`; it must not begin with a colon"
            )));
        }
        check("MetricName", &name, NAME_CHARS_MAX)?;
        let mut dimensions: Vec<(String, String)> = dimensions
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        if dimensions.len() > DIMENSIONS_MAX {
            return Err(Error::value(format!(
                "the parameter Dimensions has {} members; it may have {DIMENSIONS_MAX}",
                dimensions.len()
            )));
        }
        for (name, value) in &dimensions {
            check("Dimensions.Name", name, NAME_CHARS_MAX)?;
            check("Dimensions.Value", value, DIMENSION_VALUE_CHARS_MAX)?;
        }
        dimensions.sort();
        if let Some(two) = dimensions.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(Error::value(format!(
                "the parameter Dimensions has `{}` twice; names of dimensions must differ",
                two[0].0
            )));
        }
        Ok(Self {
            namespace,
            name,
            dimensions,
        })
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its dimensions, sorted by name.
    #[must_use]
    pub fn dimensions(&self) -> &[(String, String)] {
        &self.dimensions
    }

    /// It, in a unit.
    #[must_use]
    pub fn in_unit(self, unit: Unit) -> Series {
        Series { metric: self, unit }
    }
}

/// A metric in a unit: what has data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// Everything but the unit.
    pub metric: Metric,
    /// The unit.
    pub unit: Unit,
}

fn check(parameter: &str, text: &str, chars_max: usize) -> Result<(), Error> {
    let chars = text.chars().count();
    if chars == 0 {
        return Err(Error::value(format!(
            "the parameter {parameter} is empty; it must have 1 to {chars_max} characters"
        )));
    }
    if chars > chars_max {
        return Err(Error::value(format!(
            "the parameter {parameter} has {chars} characters; it may have {chars_max}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_sorted_and_must_differ() {
        let metric = Metric::new("N", "m", [("b", "2"), ("a", "1\n\"ü")]).unwrap();
        assert_eq!(metric.dimensions()[0], ("a".into(), "1\n\"ü".into()));
        let twice = Metric::new("N", "m", [("b", "2"), ("b", "1")]).unwrap_err();
        assert!(twice.to_string().contains("`b` twice"), "{twice}");
    }

    #[test]
    fn parts_have_bounds() {
        let none: [(&str, &str); 0] = [];
        for (namespace, name) in [("", "m"), (":n", "m"), ("n", "")] {
            assert!(Metric::new(namespace, name, none).is_err());
        }
        let long = "ü".repeat(255);
        assert!(Metric::new(long.clone(), long.clone(), none).is_ok());
        assert!(Metric::new("n", format!("{long}x"), none).is_err());
        assert!(Metric::new("n", "m", [("d", "v".repeat(1024))]).is_ok());
        assert!(Metric::new("n", "m", [("d", "v".repeat(1025))]).is_err());
        assert!(Metric::new("n", "m", (0..31).map(|n| (n.to_string(), "v"))).is_err());
    }

    #[test]
    fn units_are_cloudwatchs() {
        assert_eq!("Milliseconds".parse::<Unit>().unwrap(), Unit::MILLISECONDS);
        assert_eq!("Percent".parse::<Unit>().unwrap(), Unit::PERCENT);
        assert_eq!("Count".parse::<Unit>().unwrap(), Unit::COUNT);
        assert_eq!(Unit::NONE.as_str(), "None");
        assert!("percent".parse::<Unit>().is_err());
    }
}
