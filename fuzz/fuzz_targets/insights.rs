//! Queries of CloudWatch Logs Insights: up to a zero byte a query, then messages, one a line.

#![no_main]

use ekiden_logs::insights::{EventView, LIMIT_MAX, Query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(str::from_utf8) else {
        return;
    };
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(error) => {
            assert!(!error.what.is_empty() && !error.hint.is_empty());
            let line = text
                .split('\n')
                .nth(error.line - 1)
                .expect("a line of the query");
            assert!((1..=line.chars().count() + 1).contains(&error.column));
            return;
        }
    };
    let mut evaluator = query.evaluator();
    let messages = parts
        .next()
        .unwrap_or_default()
        .split(|byte| *byte == b'\n');
    for (at, message) in messages.enumerate() {
        evaluator.take(&EventView {
            timestamp_ms: at as i64 * 1000,
            ingestion_ms: at as i64,
            log_group: "0:/group",
            stream: "stream",
            message,
            ptr: "ptr",
        });
    }
    let results = evaluator.finish();
    assert!(results.records_matched <= results.records_scanned);
    assert!(results.rows.len() as u64 <= results.records_matched.min(LIMIT_MAX as u64));
});
