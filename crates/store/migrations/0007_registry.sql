-- The registry: repositories, what was pushed to them, and which blobs there are. Records are JSON of the
-- types in the `model` crate; the bytes of blobs are files of the registry.

CREATE TABLE repositories (
    name       TEXT PRIMARY KEY,
    record     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Blobs whose files are whole.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    size   INTEGER NOT NULL
) STRICT;

-- Which repository may be asked for which blob.
CREATE TABLE repository_blobs (
    repository TEXT NOT NULL REFERENCES repositories (name) ON DELETE CASCADE,
    digest     TEXT NOT NULL REFERENCES blobs (digest),
    linked_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT;

CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

CREATE TABLE manifests (
    repository TEXT NOT NULL REFERENCES repositories (name) ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    record     TEXT NOT NULL,
    content    BLOB NOT NULL,
    -- The manifest that this one is about.
    subject    TEXT,
    pushed_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT;

CREATE INDEX manifests_by_subject ON manifests (repository, subject) WHERE subject IS NOT NULL;

-- The blobs and manifests that a manifest names.
CREATE TABLE manifest_references (
    repository TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) STRICT;

CREATE INDEX manifest_references_by_digest ON manifest_references (repository, digest);

CREATE TABLE repository_tags (
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    tagged_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) STRICT;

CREATE INDEX repository_tags_by_digest ON repository_tags (repository, digest);
