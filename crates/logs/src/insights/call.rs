//! Functions of `stats`.

use super::{
    QueryError,
    cursor::Cursor,
    field::Field,
    parser::Scope,
    stats::{Aggregate, Bin},
};

const FUNCTIONS: &str = "there are count, sum, avg, min, max, pct and count_distinct";
const UNITS: &str = "write a number and ms, s, m, h, d, w, mo, q or y, as in `bin(5m)`";

/// Reads what is counted: `count(*)`, `pct(latency, 95)`.
pub(super) fn aggregate(cursor: &mut Cursor<'_>, scope: &Scope) -> Result<Aggregate, QueryError> {
    cursor.skip_space();
    let begin = cursor.clone();
    let function = cursor.name("function after `stats`")?;
    if !cursor.eat("(") {
        return Err(begin.error(format!("`{function}` is no function of `stats`"), FUNCTIONS));
    }
    let name = function.to_ascii_lowercase();
    if name == "count" && (cursor.eat("*") || cursor.peek() == Some(')')) {
        close(cursor, &name)?;
        return Ok(Aggregate::CountAll);
    }
    let of: fn(Field) -> Aggregate = match name.as_str() {
        "count" => Aggregate::Count,
        "sum" => Aggregate::Sum,
        "avg" => Aggregate::Avg,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "count_distinct" => Aggregate::CountDistinct,
        "pct" => {
            let field = scope.field(cursor)?;
            if !cursor.eat(",") {
                return Err(cursor.unexpected(
                    "`pct` has no percentage",
                    "write it after the field, as in `pct(latency, 95)`",
                ));
            }
            let percent = percentage(cursor)?;
            close(cursor, &name)?;
            return Ok(Aggregate::Pct(field, percent));
        }
        _ => {
            return Err(begin.error(
                format!("`{function}` is no function of `stats` that is supported"),
                FUNCTIONS,
            ));
        }
    };
    let field = scope.field(cursor)?;
    close(cursor, &name)?;
    Ok(of(field))
}

fn percentage(cursor: &mut Cursor<'_>) -> Result<f64, QueryError> {
    cursor.skip_space();
    let begin = cursor.clone();
    match cursor
        .take_while(|next| next.is_ascii_digit() || next == '.')
        .parse()
    {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(begin.error("a percentage is none", "write a number from 0 to 100")),
    }
}

/// Reads the span of `bin`, whose name was read.
pub(super) fn bin(cursor: &mut Cursor<'_>) -> Result<Bin, QueryError> {
    if !cursor.eat("(") {
        return Err(cursor.unexpected("`bin` has no span", UNITS));
    }
    cursor.skip_space();
    let begin = cursor.clone();
    let count: i64 = cursor
        .take_while(|next| next.is_ascii_digit())
        .parse()
        .unwrap_or(0);
    cursor.skip_space();
    let unit = cursor
        .take_while(|next| next.is_ascii_alphabetic())
        .to_ascii_lowercase();
    let singular = match unit.len() {
        0..=2 => &unit,
        _ => unit.strip_suffix('s').unwrap_or(&unit),
    };
    /// So that no span overflows.
    const COUNT_MAX: i64 = 1_000_000;
    let bin = match singular {
        _ if !(1..=COUNT_MAX).contains(&count) => None,
        "ms" | "msec" | "millisecond" => Some(Bin::Milliseconds(count)),
        "s" | "sec" | "second" => Some(Bin::Milliseconds(count * 1000)),
        "m" | "min" | "minute" => Some(Bin::Milliseconds(count * 60_000)),
        "h" | "hr" | "hour" => Some(Bin::Milliseconds(count * 3_600_000)),
        "d" | "day" => Some(Bin::Milliseconds(count * 86_400_000)),
        "w" | "week" => Some(Bin::Weeks(count)),
        "mo" | "mon" | "month" => Some(Bin::Months(count)),
        "q" | "qtr" | "quarter" => Some(Bin::Months(count * 3)),
        "y" | "yr" | "year" => Some(Bin::Months(count * 12)),
        _ => None,
    };
    let bin = bin.ok_or_else(|| begin.error("the span of `bin` cannot be read", UNITS))?;
    close(cursor, "bin")?;
    Ok(bin)
}

fn close(cursor: &mut Cursor<'_>, function: &str) -> Result<(), QueryError> {
    match cursor.eat(")") {
        true => Ok(()),
        false => Err(cursor.unexpected(
            format!("`{function}` does not end here"),
            "write `)`; what is within functions are names of fields, not calculations",
        )),
    }
}
