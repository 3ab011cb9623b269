-- What is said of services as they move, until everybody who is to know has been told.

CREATE TABLE news (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    region  TEXT NOT NULL,
    record  TEXT NOT NULL
) STRICT;

-- How far readers have come.
CREATE TABLE news_readers (
    name TEXT PRIMARY KEY,
    news INTEGER NOT NULL
) STRICT;
