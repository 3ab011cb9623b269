//! The log store: groups, streams, segments, retention and search.
