-- Rules: which events, of a region, are for whom.
CREATE TABLE event_rules (
    region  TEXT NOT NULL,
    name    TEXT NOT NULL,
    record  TEXT NOT NULL,
    tags    TEXT NOT NULL,
    PRIMARY KEY (region, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_targets (
    region  TEXT NOT NULL,
    rule    TEXT NOT NULL,
    id      TEXT NOT NULL,
    arn     TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (region, rule, id),
    FOREIGN KEY (region, rule) REFERENCES event_rules (region, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Addresses that events are sent to. What is secret of one is sealed.
CREATE TABLE event_webhooks (
    region  TEXT NOT NULL,
    name    TEXT NOT NULL,
    record  TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (region, name)
) STRICT, WITHOUT ROWID;

-- Events on their way. Those of one lane of a destination are sent one after another.
CREATE TABLE event_deliveries (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    destination  TEXT NOT NULL,
    lane         TEXT NOT NULL,
    record       TEXT NOT NULL,
    body         TEXT NOT NULL,
    bytes        INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX event_deliveries_by_lane ON event_deliveries (destination, lane, number);

-- What became of those that are not on their way any more.
CREATE TABLE event_destinations (
    destination  TEXT PRIMARY KEY,
    delivered    INTEGER NOT NULL DEFAULT 0,
    lost         INTEGER NOT NULL DEFAULT 0,
    problem      TEXT
) STRICT, WITHOUT ROWID;

-- Alerts that are raised.
CREATE TABLE alerts (
    key     TEXT PRIMARY KEY,
    record  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
