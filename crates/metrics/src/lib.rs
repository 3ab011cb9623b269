//! The metric store: series per minute, roll-ups, statistics and percentiles.
