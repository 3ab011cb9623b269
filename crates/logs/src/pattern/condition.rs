//! Conditions with `&&`, `||` and parentheses.

use super::{CONDITIONS_MAX, DEPTH_MAX, PatternError, cursor::Cursor, literal::Literals};

/// Tests, and how they are combined.
#[derive(Debug, Clone)]
pub(super) enum Condition<T> {
    Test(T),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl<T> Condition<T> {
    /// Reads alternatives; `&&` binds closer than `||`. `test` reads one test, whose number is counted
    /// in `tests`.
    pub(super) fn parse<'a>(
        cursor: &mut Cursor<'a>,
        test: &mut impl FnMut(&mut Cursor<'a>) -> Result<T, PatternError>,
        tests: &mut usize,
    ) -> Result<Self, PatternError> {
        Self::any(cursor, test, tests, 0)
    }

    fn any<'a>(
        cursor: &mut Cursor<'a>,
        test: &mut impl FnMut(&mut Cursor<'a>) -> Result<T, PatternError>,
        tests: &mut usize,
        depth: usize,
    ) -> Result<Self, PatternError> {
        let first = Self::all(cursor, test, tests, depth)?;
        let mut all = vec![first];
        while cursor.eat("||") {
            all.push(Self::all(cursor, test, tests, depth)?);
        }
        Ok(Self::one_or(all, Self::Any))
    }

    fn all<'a>(
        cursor: &mut Cursor<'a>,
        test: &mut impl FnMut(&mut Cursor<'a>) -> Result<T, PatternError>,
        tests: &mut usize,
        depth: usize,
    ) -> Result<Self, PatternError> {
        let mut all = vec![Self::primary(cursor, test, tests, depth)?];
        while cursor.eat("&&") {
            all.push(Self::primary(cursor, test, tests, depth)?);
        }
        Ok(Self::one_or(all, Self::All))
    }

    /// Spaces after it are gone over as well.
    fn primary<'a>(
        cursor: &mut Cursor<'a>,
        test: &mut impl FnMut(&mut Cursor<'a>) -> Result<T, PatternError>,
        tests: &mut usize,
        depth: usize,
    ) -> Result<Self, PatternError> {
        cursor.skip_space();
        let begin = cursor.clone();
        let condition = if cursor.eat("(") {
            if depth == DEPTH_MAX {
                let hint = format!("use at most {DEPTH_MAX} within each other");
                return Err(begin.error("there are too many parentheses", hint));
            }
            let inner = Self::any(cursor, test, tests, depth + 1)?;
            if !cursor.eat(")") {
                return Err(cursor.error(
                    "a parenthesis is not closed",
                    "write `)`, or `&&` or `||` and another condition",
                ));
            }
            inner
        } else {
            *tests += 1;
            if *tests > CONDITIONS_MAX {
                let hint = format!("use at most {CONDITIONS_MAX}");
                return Err(begin.error("there are too many conditions", hint));
            }
            Self::Test(test(cursor)?)
        };
        cursor.skip_space();
        Ok(condition)
    }

    fn one_or(mut all: Vec<Self>, many: fn(Vec<Self>) -> Self) -> Self {
        match all.len() {
            1 => all.remove(0),
            _ => many(all),
        }
    }

    pub(super) fn holds(&self, test: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Test(one) => test(one),
            Self::All(all) => all.iter().all(|one| one.holds(test)),
            Self::Any(any) => any.iter().any(|one| one.holds(test)),
        }
    }

    pub(super) fn literals(&self, of: &impl Fn(&T) -> Literals) -> Literals {
        match self {
            Self::Test(one) => of(one),
            Self::All(all) => all
                .iter()
                .map(|one| one.literals(of))
                .fold(Literals::none(), Literals::and),
            Self::Any(any) => any
                .iter()
                .map(|one| one.literals(of))
                .reduce(|all, one| all.or(&one))
                .unwrap_or_default(),
        }
    }
}
