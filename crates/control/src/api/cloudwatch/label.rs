//! Labels of time series that say something of what they are and have: `Sum of ${PROP('MetricName')}: ${SUM}`.
//!
//! What is not known here, times among it, stays as it is written. What is said of values is of those in the answer.

use ekiden_metrics::series::Metric;

/// What of a query `${PROP('...')}` can name.
#[derive(Debug, Default)]
pub(super) struct Properties {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) metric: Option<Metric>,
    pub(super) stat: Option<String>,
    pub(super) period: Option<String>,
    pub(super) expression: Option<String>,
}

impl Properties {
    fn get(&self, name: &str) -> Option<&str> {
        if let Some(dimension) = name.strip_prefix("Dim.") {
            let dimensions = self.metric.as_ref()?.dimensions();
            let found = dimensions.iter().find(|(name, _)| name == dimension);
            return found.map(|(_, value)| &**value);
        }
        match name {
            "AccountId" => Some(&self.account),
            "Region" => Some(&self.region),
            "MetricName" => self.metric.as_ref().map(Metric::name),
            "Namespace" => self.metric.as_ref().map(Metric::namespace),
            "Stat" => self.stat.as_deref(),
            "Period" => self.period.as_deref(),
            "Expression" => self.expression.as_deref(),
            _ => None,
        }
    }
}

/// A piece of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What the series is called without a label.
    Default,
    Value(Which),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Last,
    Min,
    Max,
    Avg,
    Sum,
}

/// A label that was read.
#[derive(Debug, Clone)]
pub(super) struct Label(Vec<Piece>);

impl Label {
    /// Reads a label.
    pub(super) fn new(text: &str, properties: &Properties) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inner, behind)) = after.split_once('}') else {
                break;
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(piece(inner, properties));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    /// It, of a series that is called `default` and has these values, the oldest first.
    pub(super) fn of(&self, default: &str, values: impl Iterator<Item = f64> + Clone) -> String {
        let mut label = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => label.push_str(text),
                Piece::Default => label.push_str(default),
                Piece::Value(which) => match which.of(values.clone()) {
                    Some(value) => label.push_str(&value.to_string()),
                    None => label.push_str("--"),
                },
            }
        }
        label
    }
}

impl Which {
    fn of(self, mut values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
        let sum = |values: &mut dyn Iterator<Item = f64>| values.reduce(|all, value| all + value);
        match self {
            Self::First => values.next(),
            Self::Last => values.last(),
            Self::Min => values.reduce(f64::min),
            Self::Max => values.reduce(f64::max),
            Self::Sum => sum(&mut values),
            Self::Avg => {
                let count = values.clone().count() as f64;
                sum(&mut values).map(|sum| sum / count)
            }
        }
    }
}

/// What stands between `${` and `}`.
fn piece(inner: &str, properties: &Properties) -> Piece {
    let value = match inner.trim() {
        "LABEL" => return Piece::Default,
        "FIRST" => Some(Which::First),
        "LAST" => Some(Which::Last),
        "MIN" => Some(Which::Min),
        "MAX" => Some(Which::Max),
        "AVG" => Some(Which::Avg),
        "SUM" => Some(Which::Sum),
        _ => None,
    };
    if let Some(which) = value {
        return Piece::Value(which);
    }
    let property = inner.trim().strip_prefix("PROP(");
    let property = property.and_then(|rest| rest.strip_suffix(')'));
    let property = property.map(|name| name.trim().trim_matches(['\'', '"']));
    let known = property.and_then(|name| properties.get(name));
    Piece::Text(known.map_or_else(|| format!("${{{inner}}}"), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(label: &str, want: &str) {
        let properties = Properties {
            account: "100000000001".to_owned(),
            region: "us-east-1".to_owned(),
            metric: Some(Metric::new("Shop", "Orders", [("Till", "7")]).unwrap()),
            stat: Some("Sum".to_owned()),
            period: Some("60".to_owned()),
            expression: None,
        };
        let label = Label::new(label, &properties);
        assert_eq!(label.of("default", [2.0, 0.5, 5.0].into_iter()), want);
    }

    #[test]
    fn labels_say_what_a_series_is_and_has() {
        check("plain", "plain");
        check("${PROP('Dim.Till')}/${PROP('MetricName')}", "7/Orders");
        check(
            "${PROP(\"Stat\")} ${PROP('Period')} ${PROP('Region')}",
            "Sum 60 us-east-1",
        );
        check(
            "${FIRST} ${LAST} ${MIN} ${MAX} ${AVG} ${SUM}",
            "2 5 0.5 5 2.5 7.5",
        );
        check("a ${LABEL}", "a default");
    }

    #[test]
    fn what_is_not_known_stays() {
        check(
            "${LAST_TIME} ${PROP('Dim.No')}",
            "${LAST_TIME} ${PROP('Dim.No')}",
        );
        check("${ ${", "${ ${");
        check("$} ${", "$} ${");
        let none = Label::new("${MAX}", &Properties::default());
        assert_eq!(none.of("", std::iter::empty()), "--");
    }
}
