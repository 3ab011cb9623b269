-- What a control plane must not forget. Records are JSON of the types in the `model` crate; columns
-- beside them are what is searched by.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

INSERT INTO counters (name, value) VALUES ('epoch', 0), ('generation', 0);

CREATE TABLE services (
    id         TEXT PRIMARY KEY,
    region     TEXT NOT NULL,
    name       TEXT NOT NULL,
    record     TEXT NOT NULL,
    tags       TEXT NOT NULL,
    operation  TEXT REFERENCES operations (id),
    created_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

-- A name is free again once its service is deleted.
CREATE UNIQUE INDEX services_by_name ON services (region, name) WHERE deleted_at IS NULL;

CREATE TABLE operations (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    service  TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    record   TEXT NOT NULL
) STRICT;

CREATE INDEX operations_by_service ON operations (service, sequence);

CREATE TABLE revisions (
    service TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    image   TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (service, number)
) STRICT;

-- What the edge was last told, per service; written before it is told.
CREATE TABLE routes (
    service TEXT PRIMARY KEY REFERENCES services (id) ON DELETE CASCADE,
    record  TEXT NOT NULL
) STRICT;

-- Numbers to scale by. A revision never changes; a deleted one stays so that its number is not
-- given again.
CREATE TABLE auto_scaling_configurations (
    region   TEXT NOT NULL,
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL,
    deleted  INTEGER NOT NULL DEFAULT 0,
    record   TEXT NOT NULL,
    PRIMARY KEY (region, name, revision)
) STRICT;
