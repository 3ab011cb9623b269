-- Custom domains of services. A domain, and each of its names, belongs to one service of the whole
-- installation while the association is not gone: the `Host` field of a request routes globally.
CREATE TABLE custom_domains (
    domain     TEXT PRIMARY KEY,
    service    TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    status     TEXT NOT NULL,
    record     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX custom_domains_by_service ON custom_domains (service, created_at, domain);

-- What is to be moved: few, among many that rest.
CREATE INDEX custom_domains_unsettled ON custom_domains (created_at)
    WHERE status NOT IN ('active', 'create_failed', 'delete_failed');

-- The host names of each: itself, and its www name if it has one.
CREATE TABLE custom_domain_names (
    name   TEXT PRIMARY KEY,
    domain TEXT NOT NULL REFERENCES custom_domains (domain) ON DELETE CASCADE
) STRICT;

CREATE INDEX custom_domain_names_by_domain ON custom_domain_names (domain);

-- A deleted service has no domains: in the same transaction that makes it a tombstone, after its
-- route was taken from the edges.
CREATE TRIGGER custom_domains_go_with_their_service
    AFTER UPDATE OF deleted_at ON services
    WHEN NEW.deleted_at IS NOT NULL
BEGIN
    DELETE FROM custom_domains WHERE service = NEW.id;
END;
