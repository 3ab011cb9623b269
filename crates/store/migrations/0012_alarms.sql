-- CloudWatch's alarms on metrics, with the state each is in.

CREATE TABLE alarms (
    region  TEXT NOT NULL,
    name    TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (region, name)
) STRICT, WITHOUT ROWID;
