//! Reads queries, and finds out what their names stand for.

use std::collections::HashMap;

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

use super::{
    COLUMNS_MAX, COMMANDS_MAX, CONDITIONS_MAX, DEPTH_MAX, LIMIT_MAX, PARSED_MAX, QUERY_CHARS_MAX,
    QueryError, REGEX_BYTES_MAX, REGEXES_MAX, call,
    cursor::Cursor,
    expression::{Comparison, Expression, Like, Operand},
    extract::{Extract, How},
    field::Field,
    plan::{Column, Direction, Key, Plan, Step},
    stats::{By, Stats},
    value::Literal,
};
use crate::pattern::number::Number;

const COMMANDS: &str = "there are fields, display, filter, parse, stats, sort, dedup and limit";
const CALCULATION: &str = "only names of fields are supported here, no functions or calculations";

/// What names stand for at a place of a query.
#[derive(Debug, Default)]
pub(super) struct Scope {
    names: HashMap<String, Field>,
    /// After `stats` there is nothing but its columns.
    is_after_stats: bool,
}

/// How far a query is. What comes later is at the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Events,
    Sorted,
    Distinct,
    Limited,
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    scope: Scope,
    plan: Plan,
    stage: Stage,
    /// What `fields`, `parse` and `stats` show.
    shown: Vec<Column>,
    /// Whether there was a `fields`.
    has_fields: bool,
    /// What the last `display` shows.
    displayed: Option<Vec<Column>>,
    conditions: usize,
    regexes: usize,
}

/// Reads a query.
pub(super) fn parse(text: &str) -> Result<Plan, QueryError> {
    let mut cursor = Cursor::new(text);
    if text.chars().count() > QUERY_CHARS_MAX {
        return Err(cursor.unexpected(
            "the query is too long",
            format!("use at most {QUERY_CHARS_MAX} characters"),
        ));
    }
    let mut parser = Parser {
        cursor,
        scope: Scope::default(),
        plan: Plan::new(),
        stage: Stage::Events,
        shown: Vec::new(),
        has_fields: false,
        displayed: None,
        conditions: 0,
        regexes: 0,
    };
    parser.commands()?;
    Ok(parser.finish())
}

impl Scope {
    /// Reads a name and says what it stands for.
    pub(super) fn field(&self, cursor: &mut Cursor<'_>) -> Result<Field, QueryError> {
        self.column(cursor).map(|column| column.field)
    }

    /// Reads a name, which a column is to have.
    fn column(&self, cursor: &mut Cursor<'_>) -> Result<Column, QueryError> {
        cursor.skip_space();
        let begin = cursor.clone();
        let name = cursor.name("field")?;
        if cursor.peek() == Some('(') {
            return Err(begin.error(
                format!("`{name}` is no function that is supported here"),
                CALCULATION,
            ));
        }
        match self.named(&name) {
            Some(field) => Ok(Column { name, field }),
            None => Err(self.unknown(&name, &begin)),
        }
    }

    fn named(&self, name: &str) -> Option<Field> {
        if self.is_after_stats {
            return self.names.get(&compact(name)).cloned();
        }
        if let Some(field) = self.names.get(name) {
            return Some(field.clone());
        }
        // CloudWatch puts an `@` before names of JSON fields that begin with one.
        let path = name.strip_prefix('@');
        match (path, Field::of_every_event(name)) {
            (_, Some(field)) => Some(field),
            (Some(path), None) if !path.starts_with('@') => None,
            (path, None) => {
                let path = path.unwrap_or(name).split('.').map(str::to_owned);
                Some(Field::Json(path.collect()))
            }
        }
    }

    fn unknown(&self, name: &str, begin: &Cursor<'_>) -> QueryError {
        match self.is_after_stats {
            true => begin.error(
                format!("there is no `{name}` after `stats`"),
                "name one of its columns, or what `as` calls it",
            ),
            false => begin.error(
                format!("there is no field `{name}`"),
                "there are @timestamp, @ingestionTime, @message, @log, @logStream and @ptr, and what `parse` makes; \
                 a JSON field `@x` is written `@@x`",
            ),
        }
    }
}

/// The name of a column without its spaces: `pct(x, 95)` and `pct(x,95)` are the same.
fn compact(name: &str) -> String {
    name.split_whitespace().collect()
}

impl Parser<'_> {
    fn commands(&mut self) -> Result<(), QueryError> {
        let mut count = 0;
        loop {
            self.cursor.skip_space();
            let begin = self.cursor.clone();
            count += 1;
            if count > COMMANDS_MAX {
                return Err(begin.error(
                    "there are too many commands",
                    format!("use at most {COMMANDS_MAX}"),
                ));
            }
            let Some(command) = self.cursor.take_name()? else {
                return Err(begin.error("there is no command", COMMANDS));
            };
            match command.to_ascii_lowercase().as_str() {
                "fields" => self.fields(&begin)?,
                "display" => self.displayed = Some(self.columns()?),
                "filter" => self.filter(&begin)?,
                "parse" => self.parse(&begin)?,
                "stats" => self.stats(&begin)?,
                "sort" => self.sort(&begin)?,
                "dedup" => self.dedup(&begin)?,
                "limit" => self.limit()?,
                _ => {
                    return Err(begin.error(
                        format!("`{command}` is no command that is supported"),
                        COMMANDS,
                    ));
                }
            }
            if self.cursor.peek().is_none() {
                return Ok(());
            }
            if !self.cursor.eat("|") {
                return Err(self.cursor.unexpected(
                    format!("`{command}` does not end here"),
                    format!("write `|` before the next command; {CALCULATION}"),
                ));
            }
        }
    }

    fn finish(mut self) -> Plan {
        if !self.has_fields && self.plan.stats.is_none() {
            let standard = [
                ("@timestamp", Field::Timestamp),
                ("@message", Field::Message),
            ];
            let standard = standard.map(|(name, field)| Column {
                name: name.to_owned(),
                field,
            });
            self.shown.splice(0..0, standard);
        }
        if self.plan.stats.is_none() {
            // Without `sort`, and between what it holds equal, the newest come first.
            let (field, direction) = (Field::Timestamp, Direction::Down);
            if !self.plan.order.iter().any(|key| key.field == field) {
                self.plan.order.push(Key { field, direction });
            }
        }
        self.plan.columns = self.displayed.unwrap_or(self.shown);
        self.plan
    }

    fn refuse_after(
        &self,
        begin: &Cursor<'_>,
        command: &str,
        last: Stage,
    ) -> Result<(), QueryError> {
        if self.stage <= last {
            return Ok(());
        }
        let before = match self.stage {
            Stage::Events => "what comes before",
            Stage::Sorted => "sort",
            Stage::Distinct => "dedup",
            Stage::Limited => "limit",
        };
        Err(begin.error(
            format!("`{command}` after `{before}` is not supported"),
            format!("write it before `{before}`"),
        ))
    }

    fn refuse_after_stats(
        &self,
        begin: &Cursor<'_>,
        command: &str,
        hint: &str,
    ) -> Result<(), QueryError> {
        match self.scope.is_after_stats {
            true => Err(begin.error(format!("`{command}` after `stats` is not supported"), hint)),
            false => Ok(()),
        }
    }

    fn fields(&mut self, begin: &Cursor<'_>) -> Result<(), QueryError> {
        self.refuse_after_stats(begin, "fields", "use `display` for columns of `stats`")?;
        self.has_fields = true;
        for column in self.columns()? {
            self.show(column)?;
        }
        Ok(())
    }

    /// Names with commas between them, each maybe with another name that it has from here on.
    fn columns(&mut self) -> Result<Vec<Column>, QueryError> {
        let mut columns: Vec<Column> = Vec::new();
        loop {
            self.cursor.skip_space();
            let begin = self.cursor.clone();
            let Column { mut name, field } = self.scope.column(&mut self.cursor)?;
            if self.cursor.eat_word("as") {
                name = self.cursor.name("name after `as`")?;
                self.scope.names.insert(name.clone(), field.clone());
            }
            if columns.len() == COLUMNS_MAX {
                return Err(begin.error(
                    "there are too many fields",
                    format!("use at most {COLUMNS_MAX}"),
                ));
            }
            columns.retain(|column| column.name != name);
            columns.push(Column { name, field });
            if !self.cursor.eat(",") {
                return Ok(columns);
            }
        }
    }

    fn show(&mut self, column: Column) -> Result<(), QueryError> {
        if let Some(same) = self.shown.iter_mut().find(|same| same.name == column.name) {
            *same = column;
            return Ok(());
        }
        if self.shown.len() == COLUMNS_MAX {
            let hint = format!("show at most {COLUMNS_MAX}");
            return Err(self.cursor.unexpected("there are too many fields", hint));
        }
        self.shown.push(column);
        Ok(())
    }

    fn filter(&mut self, begin: &Cursor<'_>) -> Result<(), QueryError> {
        self.refuse_after(begin, "filter", Stage::Sorted)?;
        let condition = self.any(0)?;
        match self.scope.is_after_stats {
            true => self.plan.having.push(condition),
            false => self.plan.steps.push(Step::Filter(condition)),
        }
        Ok(())
    }

    fn any(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let mut any = vec![self.all(depth)?];
        while self.cursor.eat_word("or") {
            any.push(self.all(depth)?);
        }
        Ok(if any.len() == 1 {
            any.remove(0)
        } else {
            Expression::Any(any)
        })
    }

    fn all(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let mut all = vec![self.one(depth)?];
        while self.cursor.eat_word("and") {
            all.push(self.one(depth)?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Expression::All(all)
        })
    }

    fn one(&mut self, depth: usize) -> Result<Expression, QueryError> {
        self.cursor.skip_space();
        let begin = self.cursor.clone();
        if depth == DEPTH_MAX {
            let hint = format!("use at most {DEPTH_MAX} within each other");
            return Err(begin.error("there are too many parentheses", hint));
        }
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(begin.error(
                "there are too many conditions",
                format!("use at most {CONDITIONS_MAX}"),
            ));
        }
        if self.cursor.eat_word("not") {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.cursor.eat("(") {
            let inner = self.any(depth + 1)?;
            return match self.cursor.eat(")") {
                true => Ok(inner),
                false => Err(self.cursor.unexpected(
                    "a parenthesis is not closed",
                    "write `)`, or `and` or `or` and another condition",
                )),
            };
        }
        if self.cursor.eat_word("ispresent") && self.cursor.eat("(") {
            let field = self.scope.field(&mut self.cursor)?;
            return match self.cursor.eat(")") {
                true => Ok(Expression::Present(field)),
                false => Err(self
                    .cursor
                    .unexpected("`ispresent` does not end here", "write `)` after the field")),
            };
        }
        self.cursor = begin;
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let field = self.scope.field(&mut self.cursor)?;
        let cursor = &mut self.cursor;
        if cursor.eat("!=") {
            let operand = self.operand()?;
            let equal = Expression::Compare(field, Comparison::Equal, operand);
            return Ok(Expression::Not(Box::new(equal)));
        }
        if cursor.eat("=~") || cursor.eat_word("like") {
            return Ok(Expression::Like(field, self.like()?));
        }
        if cursor.eat_word("in") {
            return Ok(Expression::In(field, self.list()?));
        }
        if cursor.eat_word("not") {
            let inner = if cursor.eat_word("like") {
                Expression::Like(field, self.like()?)
            } else if cursor.eat_word("in") {
                Expression::In(field, self.list()?)
            } else {
                return Err(cursor.unexpected(
                    "`not` stands before something else",
                    "there are `not like` and `not in`",
                ));
            };
            return Ok(Expression::Not(Box::new(inner)));
        }
        let comparison = if cursor.eat("<=") {
            Comparison::LessOrEqual
        } else if cursor.eat("<") {
            Comparison::Less
        } else if cursor.eat(">=") {
            Comparison::GreaterOrEqual
        } else if cursor.eat(">") {
            Comparison::Greater
        } else if cursor.eat("=") {
            if cursor.rest().starts_with('=') {
                return Err(cursor.error("`==` is no operator", "write `=`"));
            }
            Comparison::Equal
        } else {
            return Err(cursor.unexpected(
                "there is no operator after a field",
                format!(
                    "there are =, !=, <, <=, >, >=, like, not like, in and not in; {CALCULATION}"
                ),
            ));
        };
        Ok(Expression::Compare(field, comparison, self.operand()?))
    }

    /// A text, a number or a field.
    fn operand(&mut self) -> Result<Operand, QueryError> {
        if let Some(literal) = self.literal()? {
            return Ok(Operand::Literal(literal));
        }
        self.scope.field(&mut self.cursor).map(Operand::Field)
    }

    /// A text, a number, `true` or `false`, if one is next.
    fn literal(&mut self) -> Result<Option<Literal>, QueryError> {
        if let Some(text) = self.cursor.take_text()? {
            let number = Number::parse(&text);
            return Ok(Some(Literal {
                text,
                number,
                is_quoted: true,
            }));
        }
        for word in ["true", "false"] {
            if self.cursor.eat_word(word) {
                let (text, number) = (word.to_owned(), None);
                return Ok(Some(Literal {
                    text,
                    number,
                    is_quoted: false,
                }));
            }
        }
        self.cursor.skip_space();
        let begin = self.cursor.clone();
        if !self
            .cursor
            .rest()
            .starts_with(|next: char| next.is_ascii_digit() || "+-.".contains(next))
        {
            return Ok(None);
        }
        let text = self
            .cursor
            .take_while(|next| next.is_ascii_alphanumeric() || "+-._".contains(next));
        match Number::parse(text) {
            Some(number) => Ok(Some(Literal {
                text: text.to_owned(),
                number: Some(number),
                is_quoted: false,
            })),
            None => Err(begin.error(
                format!("`{text}` is no number"),
                "write a number such as 5, -1.5 or 1e3, or put a text in quotes",
            )),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, QueryError> {
        if !self.cursor.eat("[") {
            return Err(self.cursor.unexpected(
                "there is no list after `in`",
                "write one, as in `in [200, \"x\"]`",
            ));
        }
        let mut list = Vec::new();
        loop {
            self.conditions += 1;
            match self.literal()? {
                Some(literal) if self.conditions <= CONDITIONS_MAX => list.push(literal),
                Some(_) => {
                    let hint = format!("use at most {CONDITIONS_MAX}");
                    return Err(self
                        .cursor
                        .unexpected("there are too many conditions", hint));
                }
                None => {
                    return Err(self.cursor.unexpected(
                        "there is no value in a list",
                        "write texts in quotes and numbers",
                    ));
                }
            }
            if self.cursor.eat("]") {
                return Ok(list);
            }
            if !self.cursor.eat(",") {
                return Err(self.cursor.unexpected(
                    "a list does not end here",
                    "write `,` before the next value, or `]`",
                ));
            }
        }
    }

    fn like(&mut self) -> Result<Like, QueryError> {
        if let Some(text) = self.cursor.take_text()? {
            return Ok(Like::Text(Box::new(
                Finder::new(text.as_bytes()).into_owned(),
            )));
        }
        match self.regex()? {
            Some(regex) => Ok(Like::Regex(regex)),
            None => Err(self.cursor.unexpected(
                "`like` is followed by nothing to look for",
                "write `\"a text\"` or `/a regular expression/`",
            )),
        }
    }

    /// A regular expression between slashes, if one is next. Classes such as `\d` and `(?i)` are about
    /// ASCII.
    fn regex(&mut self) -> Result<Option<Regex>, QueryError> {
        self.cursor.skip_space();
        let begin = self.cursor.clone();
        let Some(text) = self.cursor.take_slashed()? else {
            return Ok(None);
        };
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return Err(begin.error(
                "there are too many regular expressions",
                format!("use at most {REGEXES_MAX}"),
            ));
        }
        let build = |unicode| {
            RegexBuilder::new(&text)
                .unicode(unicode)
                .size_limit(REGEX_BYTES_MAX)
                .dfa_size_limit(REGEX_BYTES_MAX)
                .build()
        };
        build(false)
            .or_else(|error| build(true).map_err(|_| error))
            .map(Some)
            .map_err(|error| {
                let why = match &error {
                    regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                    other => {
                        let text = other.to_string();
                        text.lines()
                            .last()
                            .unwrap_or_default()
                            .trim_start_matches("error: ")
                            .to_owned()
                    }
                };
                begin.error(
                    format!("a regular expression cannot be read ({why})"),
                    "write it as for RE2, which has no look-around and no back-references",
                )
            })
    }

    fn parse(&mut self, begin: &Cursor<'_>) -> Result<(), QueryError> {
        self.refuse_after_stats(begin, "parse", "write it before `stats`")?;
        let from = match self.cursor.peek() {
            Some('"' | '\'' | '/') => Field::Message,
            _ => self.scope.field(&mut self.cursor)?,
        };
        self.cursor.skip_space();
        let here = self.cursor.clone();
        let (how, names) = match self.cursor.take_text()? {
            Some(glob) => self.parse_glob(&glob, &here)?,
            None => self.parse_regex(&here)?,
        };
        let slots = self.plan.slots..self.plan.slots + names.len();
        if slots.end > PARSED_MAX {
            let hint = format!("make at most {PARSED_MAX}");
            return Err(here.error("`parse` makes too many fields", hint));
        }
        self.plan.slots = slots.end;
        for (slot, name) in slots.clone().zip(names) {
            let field = Field::Slot(slot);
            self.scope.names.insert(name.clone(), field.clone());
            self.show(Column { name, field })?;
        }
        let slots = slots.collect();
        self.plan
            .steps
            .push(Step::Extract(Extract { from, how, slots }));
        Ok(())
    }

    fn parse_glob(
        &mut self,
        glob: &str,
        begin: &Cursor<'_>,
    ) -> Result<(How, Vec<String>), QueryError> {
        let pieces: Vec<String> = glob.split('*').map(str::to_owned).collect();
        let mut names = Vec::new();
        if self.cursor.eat_word("as") {
            loop {
                names.push(self.cursor.name("name after `as`")?);
                if !self.cursor.eat(",") {
                    break;
                }
            }
        }
        let stars = pieces.len() - 1;
        match stars > 0 && stars == names.len() {
            true => Ok((How::Glob(pieces), names)),
            false => Err(begin.error(
                format!("there are {stars} `*` and {} names", names.len()),
                "write a `*` for every field and `as` with as many names",
            )),
        }
    }

    fn parse_regex(&mut self, begin: &Cursor<'_>) -> Result<(How, Vec<String>), QueryError> {
        let Some(regex) = self.regex()? else {
            let hint = "write `\"a glob with *\" as name` or `/a regex with (?<name>.*)/`";
            return Err(begin.error("`parse` has no pattern", hint));
        };
        let named = regex.capture_names().enumerate();
        let (groups, names): (Vec<usize>, Vec<String>) = named
            .filter_map(|(group, name)| Some((group, name?.to_owned())))
            .unzip();
        match names.is_empty() {
            true => Err(begin.error(
                "a regular expression of `parse` names no group",
                "write `(?<name>.*)` for a field",
            )),
            false => Ok((How::Regex(regex, groups), names)),
        }
    }

    fn stats(&mut self, begin: &Cursor<'_>) -> Result<(), QueryError> {
        self.refuse_after_stats(begin, "stats", "use one `stats` in a query")?;
        self.refuse_after(begin, "stats", Stage::Events)?;
        let (mut aggregates, mut aggregate_names) = (Vec::new(), Vec::new());
        loop {
            self.cursor.skip_space();
            let here = self.cursor.clone();
            aggregates.push(call::aggregate(&mut self.cursor, &self.scope)?);
            let name = self.cursor.since(&here).to_owned();
            aggregate_names.push((self.alias_or(name)?, here));
            if aggregates.len() > COLUMNS_MAX {
                return Err(begin.error(
                    "`stats` has too many columns",
                    format!("use at most {COLUMNS_MAX}"),
                ));
            }
            if !self.cursor.eat(",") {
                break;
            }
        }
        let (mut by, mut names) = (Vec::new(), Vec::new());
        if self.cursor.eat_word("by") {
            loop {
                self.cursor.skip_space();
                let here = self.cursor.clone();
                let name = if self.cursor.eat_word("bin") {
                    by.push(By::Bin(call::bin(&mut self.cursor)?));
                    self.cursor.since(&here).to_owned()
                } else {
                    let column = self.scope.column(&mut self.cursor)?;
                    by.push(By::Field(column.field));
                    column.name
                };
                names.push((self.alias_or(name)?, here));
                if by.len() > COLUMNS_MAX {
                    return Err(begin.error(
                        "`stats` has too many columns",
                        format!("use at most {COLUMNS_MAX}"),
                    ));
                }
                if !self.cursor.eat(",") {
                    break;
                }
            }
        }
        names.extend(aggregate_names);
        self.shown.clear();
        self.displayed = None;
        self.scope = Scope {
            names: HashMap::new(),
            is_after_stats: true,
        };
        for (column, (name, here)) in names.into_iter().enumerate() {
            let field = Field::Column(column);
            if self
                .scope
                .names
                .insert(compact(&name), field.clone())
                .is_some()
            {
                return Err(here.error(
                    format!("`stats` has two columns `{name}`"),
                    "give one of them another name with `as`",
                ));
            }
            self.shown.push(Column { name, field });
        }
        self.plan.stats = Some(Stats { by, aggregates });
        Ok(())
    }

    fn alias_or(&mut self, name: String) -> Result<String, QueryError> {
        match self.cursor.eat_word("as") {
            true => self.cursor.name("name after `as`"),
            false => Ok(name),
        }
    }

    fn sort(&mut self, begin: &Cursor<'_>) -> Result<(), QueryError> {
        let is_late = self.stage == Stage::Limited;
        if !is_late {
            self.refuse_after(begin, "sort", Stage::Sorted)?;
            self.stage = Stage::Sorted;
        }
        let mut keys = Vec::new();
        loop {
            let field = self.sort_field()?;
            let direction = if self.cursor.eat_word("desc") {
                Direction::Down
            } else {
                self.cursor.eat_word("asc");
                Direction::Up
            };
            keys.push(Key { field, direction });
            if keys.len() > COLUMNS_MAX {
                return Err(begin.error(
                    "`sort` has too many fields",
                    format!("use at most {COLUMNS_MAX}"),
                ));
            }
            if !self.cursor.eat(",") {
                break;
            }
        }
        // A later `sort` leaves what it holds equal as it was.
        let order = if is_late {
            &mut self.plan.last_order
        } else {
            &mut self.plan.order
        };
        order.splice(0..0, keys);
        order.truncate(COLUMNS_MAX);
        Ok(())
    }

    /// A field; after `stats` also a column as it was written, such as `count(*)`.
    fn sort_field(&mut self) -> Result<Field, QueryError> {
        if self.scope.is_after_stats {
            self.cursor.skip_space();
            let begin = self.cursor.clone();
            self.cursor.take_name()?;
            if self.cursor.eat("(") {
                self.cursor.take_while(|next| next != ')' && next != '|');
                self.cursor.eat(")");
                let name = self.cursor.since(&begin);
                return self
                    .scope
                    .named(name)
                    .ok_or_else(|| self.scope.unknown(name, &begin));
            }
            self.cursor = begin;
        }
        self.scope.field(&mut self.cursor)
    }

    fn dedup(&mut self, begin: &Cursor<'_>) -> Result<(), QueryError> {
        self.refuse_after_stats(begin, "dedup", "its rows differ already")?;
        self.refuse_after(begin, "dedup", Stage::Sorted)?;
        self.stage = Stage::Distinct;
        let columns = self.columns()?;
        self.plan.dedup = Some(columns.into_iter().map(|column| column.field).collect());
        Ok(())
    }

    fn limit(&mut self) -> Result<(), QueryError> {
        self.cursor.skip_space();
        let begin = self.cursor.clone();
        let digits = self.cursor.take_while(|next| next.is_ascii_digit());
        match digits.parse::<usize>() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => {
                self.stage = Stage::Limited;
                self.plan.limit = self.plan.limit.min(limit);
                Ok(())
            }
            _ => Err(begin.error(
                "`limit` has no number of rows",
                format!("write one from 1 to {LIMIT_MAX}"),
            )),
        }
    }
}
