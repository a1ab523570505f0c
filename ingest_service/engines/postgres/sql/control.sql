-- What an operator changes; `pace` is locked first.

-- name: find_for_change
SELECT * FROM ingestion
WHERE id = %(id)s::uuid AND deleted_at IS NULL
  AND (finished_at IS NULL OR finished_at >= coalesce(%(now)s::timestamptz, clock_timestamp())
       - %(retention)s::interval)
FOR UPDATE;

-- name: give_up_retries
-- In hexadecimal digits, because bytes cannot be replaced; each of them begins with a 0.
UPDATE batch SET states =
    decode(replace(replace(encode(states, 'hex'), '00', '04'), '05', '04'), 'hex')
WHERE sequence = %(sequence)s AND batch IN (SELECT batch FROM again WHERE sequence = %(sequence)s);

-- name: forget_retries
DELETE FROM again WHERE sequence = %(sequence)s;

-- name: cancel
UPDATE ingestion SET
    cancelled = true, given_up = given_up + unsent + retrying, unsent = 0, retrying = 0,
    next_batch = batches, lined = 0, version = version + 1
WHERE sequence = %(sequence)s
RETURNING *;

-- name: move
UPDATE ingestion SET priority = %(priority)s, version = version + 1
WHERE sequence = %(sequence)s;

-- name: reopen_batches
-- Those of which something failed and nothing is open; which items, two bytes each, the low one
-- first. One start number is the decision to do it, the next one does it.
WITH failed AS (
    SELECT batch, starts + 2 AS start_no, (
        SELECT string_agg(set_byte(set_byte('\x0000', 0, at & 255), 1, at >> 8), '' ORDER BY at)
        FROM generate_series(0, octet_length(states) - 1) AS at WHERE get_byte(states, at) = 3
    ) AS offsets
    FROM batch
    WHERE sequence = %(sequence)s AND position('\x03'::bytea IN states) > 0
      AND position('\x01'::bytea IN states) = 0 AND position('\x05'::bytea IN states) = 0
), reopened AS (
    UPDATE batch SET
        states = decode(replace(encode(states, 'hex'), '03', '05'), 'hex'), crashes = 0,
        starts = failed.start_no - 1
    FROM failed WHERE sequence = %(sequence)s AND batch.batch = failed.batch
), lined AS (
    INSERT INTO again (sequence, batch, start_no, attempt, offsets, due, lined)
    SELECT %(sequence)s, batch, start_no, 1, offsets, %(due)s, true FROM failed ORDER BY batch
    RETURNING offsets
)
SELECT count(*)::integer AS batches, coalesce(sum(octet_length(offsets)) / 2, 0)::integer AS items
FROM lined;

-- name: reopen
UPDATE ingestion SET
    finished_at = NULL, status = NULL, cancelled = false, failed = failed - %(items)s,
    retrying = retrying + %(items)s, lined = lined + %(batches)s, version = version + 1,
    filled_at = %(filled_at)s
WHERE sequence = %(sequence)s;

-- name: pause
UPDATE pace SET paused = %(reason)s;

-- name: set_interval
UPDATE pace SET interval_ = %(interval)s, configured = %(configured)s, recorded = %(interval)s;

-- name: add_mark
INSERT INTO mark (at, kind, before, after, key, target, request_id)
VALUES (coalesce(%(now)s::timestamptz, clock_timestamp()), %(kind)s, %(before)s, %(after)s,
        %(key)s, %(target)s, %(request_id)s);

-- name: delete_outcomes
DELETE FROM outcome WHERE sequence = %(sequence)s;

-- name: delete_batches
DELETE FROM batch WHERE sequence = %(sequence)s;

-- name: delete_content
DELETE FROM content WHERE sequence = %(sequence)s;

-- name: delete_key
DELETE FROM idempotency_key WHERE id = %(id)s::uuid;

-- name: delete_ingestion
UPDATE ingestion SET deleted_at = finished_at, version = version + 1
WHERE sequence = %(sequence)s;

-- name: stage
SELECT pace.start, stage, last_at, start.sequence,
       extract(epoch FROM coalesce(%(now)s::timestamptz, clock_timestamp()))::float8 AS now
FROM pace LEFT JOIN start USING (start);

-- name: session_secret
UPDATE pace SET session_secret = coalesce(session_secret, %(fresh)s) RETURNING session_secret;

-- name: probe
UPDATE worker SET seen_at = seen_at WHERE false;
