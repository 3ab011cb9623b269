-- Secrets and parameters. Records are JSON of the types in the `model` crate and hold no value; values
-- are sealed by the control plane before they come here.

CREATE TABLE secrets (
    id       TEXT PRIMARY KEY,
    region   TEXT NOT NULL,
    name     TEXT NOT NULL,
    record   TEXT NOT NULL,
    -- When it will be gone, if it was asked to be deleted: milliseconds since the Unix epoch.
    purge_at INTEGER
) STRICT;

-- A name is taken until its secret is gone.
CREATE UNIQUE INDEX secrets_by_name ON secrets (region, name);

CREATE TABLE secret_values (
    secret  TEXT NOT NULL REFERENCES secrets (id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (secret, version)
) STRICT;

CREATE TABLE parameters (
    id     TEXT PRIMARY KEY,
    region TEXT NOT NULL,
    name   TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX parameters_by_name ON parameters (region, name);

CREATE TABLE parameter_values (
    parameter TEXT NOT NULL REFERENCES parameters (id) ON DELETE CASCADE,
    version   INTEGER NOT NULL,
    sealed    BLOB NOT NULL,
    PRIMARY KEY (parameter, version)
) STRICT;
