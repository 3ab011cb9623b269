-- Drains: where lines of logs are sent, and how far each has come.

CREATE TABLE drains (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    -- The secrets of its target, sealed with the installation's key.
    sealed BLOB NOT NULL,
    -- Whether a receiver has ever taken anything from it as it is now.
    proven INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE drain_positions (
    drain      TEXT NOT NULL REFERENCES drains (name) ON DELETE CASCADE,
    log_group  TEXT NOT NULL,
    -- The sequence up to which every line was sent.
    sent       INTEGER NOT NULL,
    -- The sequence up to which the batch goes that is on its way.
    on_its_way INTEGER,
    PRIMARY KEY (drain, log_group)
) STRICT, WITHOUT ROWID;
