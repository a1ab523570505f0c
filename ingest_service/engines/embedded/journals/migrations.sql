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

-- name: 2
-- What a list of ingestions shows, and what an operator can change.
ALTER TABLE ingestion ADD COLUMN total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ingestion ADD COLUMN status TEXT;
ALTER TABLE ingestion ADD COLUMN succeeded INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ingestion ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ingestion ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ingestion ADD COLUMN cancelled_at INTEGER;
UPDATE ingestion SET total = (
    SELECT CASE kind
        WHEN 'ids' THEN length(items) / 4
        -- Mappings are lines of text.
        ELSE 1 + length(CAST(items AS TEXT)) - length(replace(CAST(items AS TEXT), char(10), ''))
    END
    FROM content WHERE content.sequence = ingestion.sequence
);
-- A byte an item: 2 is succeeded, 3 failed, 4 cancelled.
UPDATE ingestion SET
    succeeded = length(hex(item_states)) / 2 - length(replace(hex(item_states), '02', '')) / 2,
    failed = length(hex(item_states)) / 2 - length(replace(hex(item_states), '03', '')) / 2,
    cancelled = length(hex(item_states)) / 2 - length(replace(hex(item_states), '04', '')) / 2
WHERE item_states IS NOT NULL;
UPDATE ingestion SET status = CASE
    WHEN cancelled > 0 THEN 'cancelled' WHEN failed = total THEN 'failed' ELSE 'completed'
END
WHERE finished_at IS NOT NULL;

-- How long after the slot before a batch was started, and how long it had to be, in seconds.
ALTER TABLE start ADD COLUMN gap REAL;
ALTER TABLE start ADD COLUMN required REAL;
CREATE INDEX start_started ON start (started_at) WHERE required IS NOT NULL;
ALTER TABLE pace ADD COLUMN slots INTEGER NOT NULL DEFAULT 0;

-- name: 3
-- Long columns in pieces, so that a page reads a page. The place of a piece is a single number,
-- because SQLite reads all of a row to compare a key of several columns. How a piece is packed:
-- 0 as it is, 1 deflated.
ALTER TABLE content RENAME TO whole_content;
CREATE TABLE content (
    place      INTEGER PRIMARY KEY,
    items      BLOB    NOT NULL,
    packing    INTEGER NOT NULL,
    sequence   INTEGER AS (place >> 32),
    -- Which item of the ingestion is the first in here.
    first_item INTEGER AS (place & 4294967295)
) STRICT;
INSERT INTO content (place, items, packing)
SELECT sequence << 32, items, 0 FROM whole_content ORDER BY sequence;
DROP TABLE whole_content;

-- The states of all items of a finished ingestion, a byte each, in the same way.
CREATE TABLE final_state (
    place      INTEGER PRIMARY KEY,
    states     BLOB    NOT NULL,
    packing    INTEGER NOT NULL,
    sequence   INTEGER AS (place >> 32),
    first_item INTEGER AS (place & 4294967295)
) STRICT;
INSERT INTO final_state (place, states, packing)
SELECT sequence << 32, item_states, 0 FROM ingestion
WHERE item_states IS NOT NULL ORDER BY sequence;
ALTER TABLE ingestion DROP COLUMN item_states;

-- The final outcomes of a start, as JSON, and their offsets in the batch, two bytes each. Apart
-- from the starts, which are looked through more often than outcomes are read.
CREATE TABLE result (
    result   INTEGER PRIMARY KEY,
    offsets  BLOB NOT NULL,
    outcomes BLOB NOT NULL
) STRICT;
ALTER TABLE start ADD COLUMN result INTEGER;
UPDATE start SET result = numbered.number FROM (
    SELECT sequence, batch, round, row_number() OVER (ORDER BY sequence, batch, round) AS number
    FROM start WHERE length(final) > 0
) AS numbered
WHERE (start.sequence, start.batch, start.round)
    = (numbered.sequence, numbered.batch, numbered.round);
INSERT INTO result
SELECT result, final, outcomes FROM start WHERE result IS NOT NULL ORDER BY result;
ALTER TABLE start DROP COLUMN final;
ALTER TABLE start DROP COLUMN outcomes;

-- When the last request of a start went out, and how long after that of the batch before.
ALTER TABLE start ADD COLUMN sent_at INTEGER;
ALTER TABLE start ADD COLUMN sent_gap REAL;

-- What was done to the queue; before and after are JSON.
CREATE TABLE mark (
    mark   INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    before BLOB    NOT NULL,
    after  BLOB    NOT NULL
) STRICT;
CREATE INDEX mark_at ON mark (at);

-- What the operator wants, as JSON; one row. Until now it was a text a wish.
CREATE TABLE operator (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    state TEXT NOT NULL
) STRICT;
INSERT INTO operator
SELECT 1, json_object(
    'paused', max(CASE WHEN name = 'paused' AND substr(value, 1, 4) = 'yes '
                       THEN substr(value, 5) END),
    'interval', max(CASE WHEN name = 'interval'
                         THEN CAST(substr(value, 1, instr(value, ' ') - 1) AS REAL) END),
    'configured_interval', max(CASE WHEN name = 'interval'
                                    THEN CAST(substr(value, instr(value, ' ') + 1) AS REAL) END),
    -- On the wall clock only: no reading of another clock compares with this one.
    'hold', json(max(CASE WHEN name = 'held_until'
                     THEN json_object('at', value, 'monotonic', 0.0, 'boot_id', '') END))
)
FROM remembered HAVING count(*) > 0;
DROP TABLE remembered;

-- name: 4
-- The name of the API key that submitted it, and in which request; when it was deleted: from
-- then on the row tells only that it was there, and to what its starts belong.
ALTER TABLE ingestion ADD COLUMN submitted_by TEXT;
ALTER TABLE ingestion ADD COLUMN request_id TEXT;
ALTER TABLE ingestion ADD COLUMN deleted_at INTEGER;
CREATE INDEX ingestion_created ON ingestion (created_at);

-- Who did it, to which ingestion (NULL: to the queue as a whole), and in which request.
ALTER TABLE mark ADD COLUMN key TEXT;
ALTER TABLE mark ADD COLUMN target TEXT;
ALTER TABLE mark ADD COLUMN request_id TEXT;
UPDATE mark SET
    target = CAST(before AS TEXT) ->> 'ingestion_id',
    before = CAST(json_remove(CAST(before AS TEXT), '$.ingestion_id') AS BLOB),
    after = CAST(json_remove(CAST(after AS TEXT), '$.ingestion_id') AS BLOB)
WHERE kind = 'move';

-- Idempotency keys belong to the API key that came with them; '' is nobody's.
ALTER TABLE idempotency_key RENAME TO unowned_key;
DROP INDEX idempotency_key_created;
CREATE TABLE idempotency_key (
    owner        TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    digest       BLOB    NOT NULL,
    ingestion_id TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
INSERT INTO idempotency_key SELECT '', key, digest, ingestion_id, created_at FROM unowned_key;
DROP TABLE unowned_key;
CREATE INDEX idempotency_key_created ON idempotency_key (created_at);
CREATE INDEX idempotency_key_ingestion ON idempotency_key (ingestion_id);

-- name: 5
-- What happened in a minute: counters by name, and what waited at its end, both as JSON; NULL
-- while it is the last one. Minutes are counted from 1970. Row 0 has what was forgotten.
CREATE TABLE rollup (
    minute INTEGER PRIMARY KEY,
    counts BLOB NOT NULL,
    depth  BLOB
) STRICT;
-- The same of an hour that is over, so that days are not read minute by minute.
CREATE TABLE rollup_hour (
    hour   INTEGER PRIMARY KEY,
    counts BLOB NOT NULL,
    depth  BLOB NOT NULL
) STRICT;
CREATE INDEX mark_of_queue ON mark (kind, at) WHERE target IS NULL;

-- name: 6
-- What its hour had counted by the end of a minute, of what steps tell, so that any part of an hour
-- is the difference of two; NULL while the minute, or one before it in the hour, is counted in.
ALTER TABLE rollup ADD COLUMN so_far BLOB;
CREATE INDEX rollup_in_no_sum ON rollup (minute) WHERE so_far IS NULL AND minute > 0;
WITH RECURSIVE sum (minute, so_far) AS (
    SELECT 0, '{}'
    UNION ALL
    SELECT next.minute, (
        SELECT json_group_object(key, count) FROM (
            SELECT key, sum(value) AS count FROM (
                SELECT key, value FROM json_each(next.counts)
                WHERE substr(key, 1, instr(key, '.'))
                    IN ('accepted.', 'started.', 'settled.', 'wait.', 'upstream.')
                UNION ALL
                SELECT key, value FROM json_each(sum.so_far) WHERE sum.minute / 60 = next.minute / 60
            ) GROUP BY key
        )
    ) FROM sum JOIN rollup AS next
    ON next.minute = (SELECT min(minute) FROM rollup WHERE minute > sum.minute)
)
UPDATE rollup SET so_far = CAST(sum.so_far AS BLOB) FROM sum
WHERE sum.minute = rollup.minute AND sum.minute / 60 IN (SELECT hour FROM rollup_hour);
