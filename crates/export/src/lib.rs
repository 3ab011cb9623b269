//! Sends logs, metrics and spans to other systems.
