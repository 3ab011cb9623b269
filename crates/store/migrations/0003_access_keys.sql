-- Who may speak to the API. The secret is sealed with the installation's key, which is not in here.
CREATE TABLE access_keys (
    id        TEXT PRIMARY KEY,
    secret    BLOB NOT NULL,
    record    TEXT NOT NULL,
    last_used TEXT
) STRICT;
