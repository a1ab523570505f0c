-- Each step leads from the version before it to its own; `user_version` tells how far a file is.
-- A step that was released is never changed.

-- name: 1
-- What was accepted. Times are microseconds since 1970 in UTC, bound from our clock.
CREATE TABLE ingestion (
    sequence     INTEGER PRIMARY KEY,
    ingestion_id TEXT    NOT NULL UNIQUE,
    kind         TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    batch_size   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    -- A byte an item, once it is finished.
    item_states  BLOB
) STRICT;
CREATE INDEX ingestion_unfinished ON ingestion (sequence) WHERE finished_at IS NULL;
CREATE INDEX ingestion_finished ON ingestion (finished_at) WHERE finished_at IS NOT NULL;

-- Its items; apart, because a row is rewritten as a whole.
CREATE TABLE content (
    sequence INTEGER PRIMARY KEY,
    items    BLOB NOT NULL
) STRICT;

-- Every start of a batch, and how it ended.
CREATE TABLE start (
    sequence    INTEGER NOT NULL,
    batch       INTEGER NOT NULL,
    round       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    -- Which places of the batch were sent, two bytes each; NULL means all.
    places      BLOB,
    settled_at  INTEGER,
    -- A byte a place.
    item_states BLOB,
    -- The places whose outcome is final, as above but never NULL, and their outcomes as JSON.
    final       BLOB,
    outcomes    BLOB,
    -- When those whose outcome is not are sent again, and as which attempt.
    again_at    INTEGER,
    again_as    INTEGER,
    PRIMARY KEY (sequence, batch, round)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency_key (
    key          TEXT PRIMARY KEY,
    digest       BLOB    NOT NULL,
    ingestion_id TEXT    NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_key_created ON idempotency_key (created_at);

-- The last slot; one row.
CREATE TABLE pace (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    taken_at  INTEGER NOT NULL,
    monotonic REAL    NOT NULL,
    era       TEXT    NOT NULL
) STRICT;

-- What else has to outlive the process, by name.
CREATE TABLE remembered (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What a check of the storage writes.
CREATE TABLE probe (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    counter INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
