-- What builds have made, and what they open repositories with.

-- What a step of a build has made, by everything that goes into it: the same again is not done again.
CREATE TABLE build_steps (
    service TEXT NOT NULL,
    key     TEXT NOT NULL,
    record  TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (service, key)
) STRICT;

-- Secrets that are sealed with the installation's key: what a connection opens repositories with, and what
-- the webhooks of a service are signed with.
CREATE TABLE source_secrets (
    owner  TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
