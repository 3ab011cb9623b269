-- Certificates and what is needed to get them. Private keys are sealed by the control plane before
-- they come here.

CREATE TABLE certificates (
    id     TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    -- PEM, the certificate's own first.
    chain  TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

-- How it goes with a certificate that is wanted, by its names. The key of one that was ordered is
-- here before it is: the authority may have signed it when nobody was there to fetch it.
CREATE TABLE certificate_attempts (
    names  TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    sealed BLOB
) STRICT;

-- The installation's own authority (`local`: its certificate, and its key sealed), and its accounts
-- with others, by the URL of their directories.
CREATE TABLE certificate_authorities (
    name   TEXT PRIMARY KEY,
    chain  TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
