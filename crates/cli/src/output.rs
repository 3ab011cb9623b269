//! What commands print: tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

/// In which form to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OutputFormat {
    /// Tables and sentences.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Prints `value` as JSON, or else what `text` makes of it.
///
/// # Errors
/// Standard output cannot be written; a reader that has gone is no error.
pub fn print<T: Serialize>(
    format: OutputFormat,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> io::Result<()> {
    match format {
        OutputFormat::Text => print_line(&text(value)),
        OutputFormat::Json => print_line(&serde_json::to_string_pretty(value)?),
    }
}

/// Prints one line or several.
///
/// # Errors
/// As [`print()`].
pub fn print_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A table without lines: columns are told by their place.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let columns = table.column_iter_mut();
    for column in columns {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// How long ago something was, in one unit: `45s`, `12m`, `3h`, `9d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Seconds since the Unix epoch.
pub fn unix_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_lines() {
        let rows = [
            vec!["web".to_owned(), "RUNNING".to_owned()],
            vec!["a-long-name".to_owned(), "PAUSED".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "STATUS"], rows),
            "NAME         STATUS\nweb          RUNNING\na-long-name  PAUSED"
        );
    }

    #[test]
    fn ages_have_one_unit() {
        assert_eq!(
            [0, 119, 120, 7200, 172_800].map(age),
            ["0s", "119s", "2m", "2h", "2d"]
        );
    }
}
