//! Math expressions of GetMetricData: read, and calculated over time series.
//!
//! As CloudWatch does it: a missing value of one of two time series is 0, a division by zero drops the datapoint, and
//! functions are written in capitals. `SEARCH` and what needs CloudWatch's other services is refused by name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    str::FromStr,
};

/// Parentheses, functions and arrays within each other.
const DEPTH_MAX: usize = 32;
/// Datapoints that a filled or constant time series may have.
const FILLED_MAX: u32 = 100_800;
/// CloudWatch's functions that are not here.
const NOT_HERE: [&str; 19] = [
    "SEARCH",
    "ANOMALY_DETECTION_BAND",
    "INSIGHT_RULE_METRIC",
    "SERVICE_QUOTA",
    "LAMBDA",
    "DB_PERF_INSIGHTS",
    "SELECT",
    "SORT",
    "SLICE",
    "FIRST",
    "LAST",
    "REMOVE_EMPTY",
    "MINUTE",
    "HOUR",
    "DAY",
    "DATE",
    "MONTH",
    "YEAR",
    "EPOCH",
];

/// Values by the minute their period begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimeSeries {
    pub(crate) label: String,
    pub(crate) period_minutes: u32,
    pub(crate) points: BTreeMap<u32, f64>,
}

/// What an expression makes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Series(TimeSeries),
    Array(Vec<TimeSeries>),
}

/// A metric of the request.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) id: String,
    pub(crate) series: TimeSeries,
}

/// The time of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) start_minute: u32,
    pub(crate) end_minute: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    Number(f64),
    Text(String),
    Id(String),
    /// A function, or a word such as `REPEAT`, which has no arguments.
    Call(String, Vec<Expression>),
    Array(Vec<Expression>),
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
}

impl Expression {
    /// The queries that it names.
    pub(crate) fn ids(&self) -> Vec<&str> {
        match self {
            Self::Number(_) | Self::Text(_) => Vec::new(),
            Self::Id(id) => vec![id],
            Self::Call(_, parts) | Self::Array(parts) => parts.iter().flat_map(Self::ids).collect(),
            Self::Negative(part) => part.ids(),
            Self::Binary(_, one, two) => [one.ids(), two.ids()].concat(),
        }
    }

    /// Its value. `known` are the other expressions that it names.
    pub(crate) fn calculate(
        &self,
        inputs: &[Input],
        known: &HashMap<&str, Value>,
        grid: Grid,
    ) -> Result<Value, String> {
        Calculator {
            inputs,
            known,
            grid,
        }
        .value(self)
    }
}

impl FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            rest: text,
            depth: 0,
        };
        let expression = parser.or()?;
        parser.space();
        match parser.rest.chars().next() {
            None => Ok(expression),
            Some(_) => Err(parser.unexpected()),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn unexpected(&self) -> String {
        match self.rest.chars().next() {
            None => "it ends too early".to_owned(),
            Some(_) => {
                let near: String = self.rest.chars().take(20).collect();
                format!("`{near}` was not expected there")
            }
        }
    }

    /// Operators of one precedence, from the left.
    fn left(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Expression, String>,
    ) -> Result<Expression, String> {
        let mut one = operand(self)?;
        while let Some(operator) = self.operator(operators) {
            let two = operand(self)?;
            one = Expression::Binary(operator, Box::new(one), Box::new(two));
        }
        Ok(one)
    }

    fn operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let (_, operator) = operators.iter().find(|(token, _)| self.take(token))?;
        Some(*operator)
    }

    fn or(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        let or = self.left(&[("||", Operator::Or), ("OR", Operator::Or)], Self::and);
        self.depth -= 1;
        or
    }

    fn and(&mut self) -> Result<Expression, String> {
        self.left(
            &[("&&", Operator::And), ("AND", Operator::And)],
            Self::comparison,
        )
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let operators = [
            ("==", Equal),
            ("!=", NotEqual),
            ("<=", LessOrEqual),
            (">=", GreaterOrEqual),
            ("<", Less),
            (">", Greater),
        ];
        self.left(&operators, Self::sum)
    }

    fn sum(&mut self) -> Result<Expression, String> {
        self.left(
            &[("+", Operator::Add), ("-", Operator::Subtract)],
            Self::product,
        )
    }

    fn product(&mut self) -> Result<Expression, String> {
        self.left(
            &[("*", Operator::Multiply), ("/", Operator::Divide)],
            Self::negative,
        )
    }

    fn negative(&mut self) -> Result<Expression, String> {
        let negative = self.minuses();
        let power = self.left(&[("^", Operator::Power)], Self::exponent)?;
        Ok(negated(negative, power))
    }

    fn exponent(&mut self) -> Result<Expression, String> {
        let negative = self.minuses();
        Ok(negated(negative, self.operand()?))
    }

    /// Whether there is an odd number of them.
    fn minuses(&mut self) -> bool {
        let mut negative = false;
        while self.take("-") {
            negative = !negative;
        }
        negative
    }

    fn operand(&mut self) -> Result<Expression, String> {
        if self.take("(") {
            let inner = self.or()?;
            return match self.take(")") {
                true => Ok(inner),
                false => Err(self.unexpected()),
            };
        }
        if self.take("[") {
            return Ok(Expression::Array(self.list("]")?));
        }
        self.space();
        match self.rest.chars().next() {
            Some('"' | '\'') => self.text(),
            Some('0'..='9' | '.') => self.number(),
            Some(first) if first.is_ascii_alphabetic() => self.word(),
            _ => Err(self.unexpected()),
        }
    }

    fn list(&mut self, end: &str) -> Result<Vec<Expression>, String> {
        let mut parts = Vec::new();
        if self.take(end) {
            return Ok(parts);
        }
        loop {
            parts.push(self.or()?);
            if self.take(end) {
                return Ok(parts);
            }
            if !self.take(",") {
                return Err(self.unexpected());
            }
        }
    }

    fn text(&mut self) -> Result<Expression, String> {
        let quote = if self.rest.starts_with('"') {
            '"'
        } else {
            '\''
        };
        let (text, rest) = self.rest[1..]
            .split_once(quote)
            .ok_or("a quotation mark is not closed")?;
        self.rest = rest;
        Ok(Expression::Text(text.to_owned()))
    }

    fn number(&mut self) -> Result<Expression, String> {
        let is_part = |character: char| character.is_ascii_digit() || character == '.';
        let end = self
            .rest
            .find(|character| !is_part(character))
            .unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let number = number
            .parse()
            .map_err(|_| format!("`{number}` is not a number"))?;
        self.rest = rest;
        Ok(Expression::Number(number))
    }

    fn word(&mut self) -> Result<Expression, String> {
        let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let end = self
            .rest
            .find(|character| !is_part(character))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Ok(Expression::Id(word.to_owned()));
        }
        if NOT_HERE.contains(&word) {
            return Err(format!("the function {word} is not supported here"));
        }
        let arguments = match self.take("(") {
            true => self.list(")")?,
            false if ["REPEAT", "LINEAR"].contains(&word) => Vec::new(),
            false => return Err(self.unexpected()),
        };
        Ok(Expression::Call(word.to_owned(), arguments))
    }
}

fn negated(negative: bool, expression: Expression) -> Expression {
    match negative {
        true => Expression::Negative(Box::new(expression)),
        false => expression,
    }
}

/// What a missing value of a time series becomes.
type Filler = Box<dyn Fn(&TimeSeries, u32) -> Option<f64>>;

struct Calculator<'a> {
    inputs: &'a [Input],
    known: &'a HashMap<&'a str, Value>,
    grid: Grid,
}

impl Calculator<'_> {
    fn value(&self, expression: &Expression) -> Result<Value, String> {
        match expression {
            Expression::Number(number) => Ok(Value::Number(*number)),
            Expression::Text(text) => {
                Err(format!("`{text}` in quotation marks is only for METRICS"))
            }
            Expression::Id(id) => {
                let input = self.inputs.iter().find(|input| input.id == *id);
                let metric = input.map(|input| Value::Series(input.series.clone()));
                metric
                    .or_else(|| self.known.get(&**id).cloned())
                    .ok_or_else(|| format!("there is no query with the id `{id}`"))
            }
            Expression::Array(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    match self.value(part)? {
                        Value::Series(series) => all.push(series),
                        Value::Array(more) => all.extend(more),
                        Value::Number(_) => {
                            return Err("an array must be of time series, not numbers".to_owned());
                        }
                    }
                }
                Ok(Value::Array(all))
            }
            Expression::Negative(part) => map(self.value(part)?, |value| Some(-value)),
            Expression::Binary(..) => self.chain(expression),
            Expression::Call(function, arguments) => self.call(function, arguments),
        }
    }

    /// Operators, whose left operands may be operators in turn, many times.
    fn chain(&self, expression: &Expression) -> Result<Value, String> {
        let (mut left, mut rights) = (expression, Vec::new());
        while let Expression::Binary(operator, one, two) = left {
            rights.push((*operator, two));
            left = one;
        }
        let mut value = self.value(left)?;
        while let Some((operator, right)) = rights.pop() {
            let right = self.value(right)?;
            value = binary(value, right, |one, two| operate(operator, one, two))?;
        }
        Ok(value)
    }

    fn call(&self, function: &str, arguments: &[Expression]) -> Result<Value, String> {
        let one = || match arguments {
            [argument] => self.value(argument),
            _ => Err(format!(
                "{function} takes one argument, not {}",
                arguments.len()
            )),
        };
        match function {
            "SUM" => aggregate(one()?, |values, _| values.iter().sum()),
            "AVG" => aggregate(one()?, |values, of| values.iter().sum::<f64>() / of as f64),
            "MIN" => aggregate(one()?, |values, _| {
                values.iter().copied().fold(f64::INFINITY, f64::min)
            }),
            "MAX" => aggregate(one()?, |values, _| {
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            }),
            "STDDEV" => aggregate(one()?, |values, _| {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
                (squares / values.len() as f64).sqrt()
            }),
            "DATAPOINT_COUNT" => aggregate(one()?, |values, _| values.len() as f64),
            "METRIC_COUNT" => match one()? {
                Value::Array(all) => Ok(Value::Number(all.len() as f64)),
                _ => Err("METRIC_COUNT takes an array of time series".to_owned()),
            },
            "METRICS" => self.metrics(arguments),
            "ABS" => map(one()?, |value| Some(value.abs())),
            "CEIL" => map(one()?, |value| Some(value.ceil())),
            "FLOOR" => map(one()?, |value| Some(value.floor())),
            "LOG" => map(one()?, |value| Some(value.ln())),
            "LOG10" => map(one()?, |value| Some(value.log10())),
            "DIFF" => steps(one()?, |_, before, value| value - before),
            "RATE" => steps(one()?, |seconds, before, value| (value - before) / seconds),
            "DIFF_TIME" => steps(one()?, |seconds, _, _| seconds),
            "RUNNING_SUM" => each(one()?, |mut series| {
                let mut sum = 0.0;
                for value in series.points.values_mut() {
                    sum += *value;
                    *value = sum;
                }
                series
            }),
            "PERIOD" => match one()? {
                Value::Series(series) => Ok(Value::Number(f64::from(series.period_minutes) * 60.0)),
                _ => Err("PERIOD takes one metric".to_owned()),
            },
            "TIME_SERIES" => match one()? {
                Value::Number(number) => self.constant(number),
                _ => Err("TIME_SERIES takes a number".to_owned()),
            },
            "FILL" => self.fill(arguments),
            "IF" => self.condition(arguments),
            _ => Err(format!("there is no function {function}")),
        }
    }

    fn metrics(&self, arguments: &[Expression]) -> Result<Value, String> {
        let part = match arguments {
            [] => "",
            [Expression::Text(text)] => text,
            _ => {
                return Err("METRICS takes nothing, or a part of ids in quotation marks".to_owned());
            }
        };
        let inputs = self.inputs.iter().filter(|input| input.id.contains(part));
        Ok(Value::Array(
            inputs.map(|input| input.series.clone()).collect(),
        ))
    }

    /// The smallest period of the request, in minutes.
    fn period(&self) -> u32 {
        let periods = self.inputs.iter().map(|input| input.series.period_minutes);
        periods.min().unwrap_or(1).max(1)
    }

    /// The periods of the request, in minutes since 1970.
    fn times(&self, period: u32) -> Result<impl Iterator<Item = u32>, String> {
        let Grid {
            start_minute,
            end_minute,
        } = self.grid;
        let start = start_minute - start_minute % period;
        if end_minute.saturating_sub(start) / period > FILLED_MAX {
            return Err(format!(
                "a time series may have {FILLED_MAX} datapoints; increase Period"
            ));
        }
        Ok((start..end_minute).step_by(period as usize))
    }

    fn constant(&self, number: f64) -> Result<Value, String> {
        let period_minutes = self.period();
        Ok(Value::Series(TimeSeries {
            label: String::new(),
            period_minutes,
            points: self.times(period_minutes)?.map(|at| (at, number)).collect(),
        }))
    }

    fn fill(&self, arguments: &[Expression]) -> Result<Value, String> {
        let [what, with] = arguments else {
            return Err(
                "FILL takes a time series and a number, a time series, REPEAT or LINEAR".to_owned(),
            );
        };
        let what = self.value(what)?;
        let filler: Filler = match with {
            Expression::Call(word, none) if word == "REPEAT" && none.is_empty() => {
                Box::new(|series, at| {
                    series
                        .points
                        .range(..at)
                        .next_back()
                        .map(|(_, value)| *value)
                })
            }
            Expression::Call(word, none) if word == "LINEAR" && none.is_empty() => {
                Box::new(|series, at| {
                    let (from, before) = series.points.range(..at).next_back()?;
                    let (to, after) = series.points.range(at..).next()?;
                    let part = f64::from(at - from) / f64::from(to - from);
                    Some(before + (after - before) * part)
                })
            }
            with => match self.value(with)? {
                Value::Number(number) => Box::new(move |_, _| Some(number)),
                Value::Series(other) => Box::new(move |_, at| other.points.get(&at).copied()),
                Value::Array(_) => return Err("FILL cannot fill with an array".to_owned()),
            },
        };
        let fill = |series: TimeSeries| {
            let mut filled = series.clone();
            for at in self.times(series.period_minutes)? {
                if !series.points.contains_key(&at)
                    && let Some(value) = filler(&series, at)
                {
                    filled.points.insert(at, value);
                }
            }
            Ok::<_, String>(filled)
        };
        match what {
            Value::Number(_) => Err("FILL takes a time series, not a number".to_owned()),
            Value::Series(series) => fill(series).map(Value::Series),
            Value::Array(all) => all
                .into_iter()
                .map(fill)
                .collect::<Result<_, _>>()
                .map(Value::Array),
        }
    }

    fn condition(&self, arguments: &[Expression]) -> Result<Value, String> {
        let (condition, yes, no) = match arguments {
            [condition, yes] => (condition, yes, None),
            [condition, yes, no] => (condition, yes, Some(no)),
            _ => return Err("IF takes a condition, a value and perhaps another".to_owned()),
        };
        let (condition, yes) = (self.value(condition)?, self.value(yes)?);
        let no = no.map(|no| self.value(no)).transpose()?;
        if [Some(&condition), Some(&yes), no.as_ref()]
            .iter()
            .flatten()
            .any(|v| matches!(v, Value::Array(_)))
        {
            return Err("IF takes numbers and single time series, not arrays".to_owned());
        }
        let condition = match condition {
            Value::Series(condition) => condition,
            Value::Number(number) => {
                let chosen = if number != 0.0 { Some(yes) } else { no };
                return Ok(chosen.unwrap_or_else(|| {
                    Value::Series(TimeSeries {
                        label: String::new(),
                        period_minutes: self.period(),
                        points: BTreeMap::new(),
                    })
                }));
            }
            Value::Array(_) => return Err("IF takes a single condition".to_owned()),
        };
        let at = |value: &Value, at: u32| match value {
            Value::Number(number) => Some(*number),
            Value::Series(series) => series.points.get(&at).copied(),
            Value::Array(_) => None,
        };
        let choose = |(time, condition): (&u32, &f64)| {
            let chosen = match *condition != 0.0 {
                // What is missing is 0 here, and dropped otherwise.
                true => Some(at(&yes, *time).unwrap_or(0.0)),
                false => no.as_ref().and_then(|no| at(no, *time)),
            };
            chosen.map(|value| (*time, value))
        };
        Ok(Value::Series(TimeSeries {
            points: condition.points.iter().filter_map(choose).collect(),
            ..condition.clone()
        }))
    }
}

fn operate(operator: Operator, one: f64, two: f64) -> Option<f64> {
    let truth = |truth: bool| Some(f64::from(u8::from(truth)));
    match operator {
        Operator::Add => Some(one + two),
        Operator::Subtract => Some(one - two),
        Operator::Multiply => Some(one * two),
        Operator::Divide => (two != 0.0).then(|| one / two),
        Operator::Power => Some(one.powf(two)),
        Operator::Equal => truth(one == two),
        Operator::NotEqual => truth(one != two),
        Operator::Less => truth(one < two),
        Operator::LessOrEqual => truth(one <= two),
        Operator::Greater => truth(one > two),
        Operator::GreaterOrEqual => truth(one >= two),
        Operator::And => truth(one != 0.0 && two != 0.0),
        Operator::Or => truth(one != 0.0 || two != 0.0),
    }
}

fn each(value: Value, of: impl Fn(TimeSeries) -> TimeSeries) -> Result<Value, String> {
    match value {
        Value::Number(_) => Err("a time series was expected, not a number".to_owned()),
        Value::Series(series) => Ok(Value::Series(of(series))),
        Value::Array(all) => Ok(Value::Array(all.into_iter().map(of).collect())),
    }
}

/// Each value; what is no number is dropped.
fn map(value: Value, of: impl Fn(f64) -> Option<f64>) -> Result<Value, String> {
    let of = |value: f64| of(value).filter(|value| value.is_finite());
    match value {
        Value::Number(number) => of(number)
            .map(Value::Number)
            .ok_or_else(|| "the result is not a number".to_owned()),
        series => each(series, |mut series| {
            let points = series.points.into_iter();
            series.points = points
                .filter_map(|(at, value)| Some((at, of(value)?)))
                .collect();
            series
        }),
    }
}

/// Each value with the one before it and the seconds between them.
fn steps(value: Value, of: impl Fn(f64, f64, f64) -> f64) -> Result<Value, String> {
    each(value, |mut series| {
        let points: Vec<(u32, f64)> = series.points.into_iter().collect();
        let step = |two: &[(u32, f64)]| {
            let seconds = f64::from(two[1].0 - two[0].0) * 60.0;
            (two[1].0, of(seconds, two[0].1, two[1].1))
        };
        series.points = points.windows(2).map(step).collect();
        series
    })
}

/// A number of a time series, or a time series of an array: of the values at a time and how many series there are.
fn aggregate(value: Value, of: impl Fn(&[f64], usize) -> f64) -> Result<Value, String> {
    match value {
        Value::Number(number) => Ok(Value::Number(number)),
        Value::Series(series) if series.points.is_empty() => Ok(Value::Number(0.0)),
        Value::Series(series) => {
            let values: Vec<f64> = series.points.into_values().collect();
            Ok(Value::Number(of(&values, values.len())))
        }
        Value::Array(all) => {
            let times: BTreeSet<u32> = all
                .iter()
                .flat_map(|series| series.points.keys().copied())
                .collect();
            let at = |time: u32| {
                let values: Vec<f64> = all
                    .iter()
                    .filter_map(|series| series.points.get(&time).copied())
                    .collect();
                (time, of(&values, all.len()))
            };
            Ok(Value::Series(TimeSeries {
                label: String::new(),
                period_minutes: all
                    .iter()
                    .map(|series| series.period_minutes)
                    .max()
                    .unwrap_or(1),
                points: times.into_iter().map(at).collect(),
            }))
        }
    }
}

fn binary(
    one: Value,
    two: Value,
    of: impl Fn(f64, f64) -> Option<f64> + Copy,
) -> Result<Value, String> {
    let pair = |one: TimeSeries, two: &TimeSeries| {
        let times: BTreeSet<u32> = one
            .points
            .keys()
            .chain(two.points.keys())
            .copied()
            .collect();
        let value = |at: u32| {
            let value = |series: &TimeSeries| series.points.get(&at).copied().unwrap_or(0.0);
            Some((
                at,
                of(value(&one), value(two)).filter(|value| value.is_finite())?,
            ))
        };
        TimeSeries {
            points: times.into_iter().filter_map(value).collect(),
            period_minutes: one.period_minutes.max(two.period_minutes),
            label: one.label,
        }
    };
    match (one, two) {
        (one, Value::Number(two)) => map(one, |one| of(one, two)),
        (Value::Number(one), two) => map(two, |two| of(one, two)),
        (Value::Series(one), Value::Series(two)) => Ok(Value::Series(pair(one, &two))),
        (Value::Array(all), Value::Series(two)) => Ok(Value::Array(
            all.into_iter().map(|one| pair(one, &two)).collect(),
        )),
        (Value::Series(one), Value::Array(all)) => {
            let each = all.into_iter().map(|two| TimeSeries {
                label: two.label.clone(),
                ..pair(one.clone(), &two)
            });
            Ok(Value::Array(each.collect()))
        }
        (Value::Array(_), Value::Array(_)) => {
            Err("two arrays cannot be put together by an operator".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of five minutes from minute 10 on; `-` is missing.
    fn series(label: &str, values: &str) -> TimeSeries {
        let values = values.split(' ').enumerate();
        let points = values.filter(|(_, value)| *value != "-");
        TimeSeries {
            label: label.to_owned(),
            period_minutes: 1,
            points: points
                .map(|(n, value)| (10 + n as u32, value.parse().unwrap()))
                .collect(),
        }
    }

    fn calculate(expression: &str) -> Result<Value, String> {
        let input = |id: &str, values| Input {
            id: id.to_owned(),
            series: series(id, values),
        };
        let inputs = [
            input("m1", "30 20 0 0 -"),
            input("m2", "20 - 20 - 5"),
            input("errors4", "1 1 0 0 -"),
            input("gaps", "- 1 - - 4"),
        ];
        let grid = Grid {
            start_minute: 10,
            end_minute: 15,
        };
        expression
            .parse::<Expression>()?
            .calculate(&inputs, &HashMap::new(), grid)
    }

    #[track_caller]
    fn check(expression: &str, want: &str) {
        let value = calculate(expression).unwrap();
        let Value::Series(got) = value else {
            panic!("{expression} is {value:?}");
        };
        assert_eq!(got.points, series("", want).points, "{expression}");
    }

    #[test]
    fn operators_take_missing_values_as_0_and_drop_divisions_by_it() {
        check("m1 + m2", "50 20 20 0 5");
        check("m1 - 1", "29 19 -1 -1 -");
        check("2 * m1 / m2", "3 - 0 - 0");
        check("-m1 ^ 2", "-900 -400 0 0 -");
        check("2 ^ 3 ^ 1 + m1 * 0", "8 8 8 8 -");
        check("100 - (10 + 5) * errors4", "85 85 100 100 -");
        // The table of "Comparison and logical operators".
        check("m1 < m2", "0 0 1 0 1");
        check("m1 >= 30", "1 0 0 0 -");
        check("m1 > 15 AND m2 > 15", "1 0 0 0 0");
        check("m1 > 15 || m2 > 15", "1 1 1 0 0");
    }

    #[test]
    fn functions_of_arrays_make_series_and_of_series_numbers() {
        check("SUM([m1, m2])", "50 20 20 0 5");
        check("AVG([m1, m2])", "25 10 10 0 2.5");
        check("MIN([m1, m2])", "20 20 0 0 5");
        check("MAX(METRICS(\"m\"))", "30 20 20 0 5");
        check("SUM(METRICS(\"error\")) / 2", "0.5 0.5 0 0 -");
        check("m1 - AVG(m1)", "17.5 7.5 -12.5 -12.5 -");
        check("m1 / MAX(m1) * SUM(m2)", "45 30 0 0 -");
        check(
            "m1 * 0 + DATAPOINT_COUNT(gaps) + METRIC_COUNT(METRICS())",
            "6 6 6 6 -",
        );
        check("SUM(100/[m1, m2]) * 0", "0 0 0 - 0");
        assert_eq!(calculate("SUM(m1)"), Ok(Value::Number(50.0)));
        let Ok(Value::Array(all)) = calculate("METRICS() * 2") else {
            panic!();
        };
        assert_eq!((all.len(), all[1].label.as_str()), (4, "m2"));
    }

    #[test]
    fn functions_of_values_and_steps() {
        check("ABS(m1 - 25)", "5 5 25 25 -");
        check("CEIL(m1 / 7)", "5 3 0 0 -");
        check("FLOOR(m1 / 7)", "4 2 0 0 -");
        check("DIFF(m1)", "- -10 -20 0 -");
        check("DIFF(gaps)", "- - - - 3");
        check("RATE(gaps) * 60", "- - - - 1");
        check("RUNNING_SUM(m1)", "30 50 50 50 -");
        check("m1 / PERIOD(m1)", "0.5 0.3333333333333333 0 0 -");
        check("TIME_SERIES(3)", "3 3 3 3 3");
    }

    #[test]
    fn missing_values_are_filled() {
        check("FILL(gaps, 0)", "0 1 0 0 4");
        check("FILL(gaps, -1.5)", "-1.5 1 -1.5 -1.5 4");
        check("FILL(gaps, REPEAT)", "- 1 1 1 4");
        check("FILL(gaps, LINEAR)", "- 1 2 3 4");
        check("FILL(gaps, m1)", "30 1 0 0 4");
    }

    /// The tables of "Using IF expressions".
    #[test]
    fn conditions_choose() {
        check("IF(errors4, m2, m1)", "20 0 0 0 -");
        check("IF(errors4, 5, gaps)", "5 5 - - -");
        check("IF(errors4, m2, 5)", "20 0 5 5 -");
        check("IF(m1 < 25, m1)", "- 20 0 0 -");
        check("IF(m1 < 25, 10, 2)", "2 10 10 10 -");
        check("IF(1, m1)", "30 20 0 0 -");
        check("IF(0, m1)", "- - - - -");
    }

    #[test]
    fn what_is_not_here_or_wrong_is_told() {
        #[track_caller]
        fn refused(expression: &str, want: &str) {
            let problem = calculate(expression).unwrap_err();
            assert!(problem.contains(want), "{expression}: {problem}");
        }
        refused("SEARCH('{AWS/EC2}', 'Sum')", "SEARCH is not supported here");
        refused(
            "ANOMALY_DETECTION_BAND(m1)",
            "ANOMALY_DETECTION_BAND is not supported here",
        );
        refused("FOO(m1)", "no function FOO");
        refused("m9 + 1", "no query with the id `m9`");
        refused("m1 +", "ends too early");
        refused("m1 m2", "`m2` was not expected");
        refused("(m1", "ends too early");
        refused("[m1, 2]", "not numbers");
        refused("METRICS() + METRICS()", "two arrays");
        refused("SUM(m1, m2)", "takes one argument, not 2");
        refused("METRICS(\"x", "not closed");
        refused("1.2.3", "not a number");
        refused("", "ends too early");
        refused(&"(".repeat(2000), "nested");
        assert!(calculate(&("m1".to_owned() + &"+1".repeat(1000))).is_ok());
        assert!(calculate(&("2^".to_owned() + &"-".repeat(2000) + "1")).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn nonsense_is_refused_and_no_more(text in "[-m1()\\[\\],+*/^ A-Z\"'<>=&|.]{0,60}") {
            let _ = calculate(&text);
        }
    }
}
