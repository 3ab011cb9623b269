-- What owners make beside services: connections, VPC connectors, VPC ingress connections, and the
-- revisions of auto scaling and observability configurations. One table for all kinds: they are
-- named, looked up, listed, tagged and deleted alike, and differ in their records only.

CREATE TABLE resources (
    region     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    -- Counted from 1 within the name, for kinds that have revisions; else 1.
    revision   INTEGER NOT NULL,
    id         TEXT NOT NULL,
    record     TEXT NOT NULL,
    tags       TEXT NOT NULL,
    -- The service that it is a part of, for kinds that are.
    service    TEXT,
    is_default INTEGER NOT NULL DEFAULT 0,
    -- Whether something is still to be done about it that does not wait for its owner.
    pending    INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (region, kind, id)
) STRICT;

-- A name is free again once it is deleted; a revision's number never is (see below).
CREATE UNIQUE INDEX resources_by_name ON resources (region, kind, name, revision)
    WHERE deleted_at IS NULL;

CREATE UNIQUE INDEX resources_default ON resources (region, kind) WHERE is_default;

CREATE INDEX resources_by_service ON resources (service) WHERE service IS NOT NULL;

CREATE INDEX resources_pending ON resources (kind) WHERE pending;

CREATE INDEX resources_deleted ON resources (deleted_at) WHERE deleted_at IS NOT NULL;

-- The newest number that a name was ever given. It outlives the revisions, so that no number is
-- given twice.
CREATE TABLE revision_numbers (
    region TEXT NOT NULL,
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    newest INTEGER NOT NULL,
    PRIMARY KEY (region, kind, name)
) STRICT, WITHOUT ROWID;

-- What every region has from the beginning. A region's own row is made of it when one is needed.
CREATE TABLE resources_given (
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL,
    id       TEXT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;

INSERT INTO resources_given (kind, name, revision, id, record) VALUES
    ('autoscalingconfiguration', 'DefaultConfiguration', 1, '00000000000000000000000000000001',
     '{"instances_min":1,"instances_max":25,"concurrency_per_instance":100}');

-- What services use: written with the service, read before a resource is deleted.
CREATE TABLE service_references (
    service  TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    region   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    resource TEXT NOT NULL,
    PRIMARY KEY (service, kind, resource)
) STRICT, WITHOUT ROWID;

CREATE INDEX service_references_by_resource ON service_references (region, kind, resource, service);

-- Auto scaling configurations had a table of their own. There, the first revision that an owner
-- made of `DefaultConfiguration` had the number of the built-in one; it moves up by one.
INSERT INTO resources (region, kind, name, revision, id, record, tags, created_at, deleted_at)
SELECT region, 'autoscalingconfiguration', name, revision + (name = 'DefaultConfiguration'),
       json_extract(record, '$.id'), json_extract(record, '$.scaling'),
       json_extract(record, '$.tags'), json_extract(record, '$.created_at'),
       json_extract(record, '$.deleted_at')
FROM auto_scaling_configurations;

INSERT INTO revision_numbers (region, kind, name, newest)
SELECT region, kind, name, MAX(revision) FROM resources GROUP BY region, kind, name;

DROP TABLE auto_scaling_configurations;

-- Services could use nothing else so far. The last 32 characters of the ARN are the id.
WITH configured (service, region, configuration) AS (
    SELECT id, region, json_extract(record, '$.configuration')
    FROM services WHERE deleted_at IS NULL
    UNION ALL
    SELECT s.id, s.region, json_extract(o.record, '$.change.configuration')
    FROM services s JOIN operations o ON o.id = s.operation WHERE s.deleted_at IS NULL
), named (service, region, arn) AS (
    SELECT service, region, json_extract(configuration, '$.AutoScalingConfigurationArn')
    FROM configured WHERE json_valid(configuration)
)
INSERT OR IGNORE INTO service_references (service, region, kind, resource)
SELECT service, region, 'autoscalingconfiguration', substr(arn, -32)
FROM named WHERE arn IS NOT NULL;
