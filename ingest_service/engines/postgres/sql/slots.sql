-- A slot is one transaction. `:now` is NULL but in a test, where time is frozen.

-- name: lock_pace
-- The gate: whoever holds it decides.
SELECT m.at, extract(epoch FROM m.at)::float8 AS now, pace.*,
       pg_postmaster_start_time()::text || ' ' || CASE WHEN pg_is_in_recovery() THEN 'standby'
           ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS served_by
FROM pace, LATERAL (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS at) AS m
FOR UPDATE OF pace;

-- name: depth
SELECT * FROM depth;

-- name: note_server
-- Nobody knows how much of the interval is over; of a restart there is a mark.
UPDATE pace SET server = %(server)s, last_at = %(at)s, started_at = NULL, wire_at = NULL;

-- name: note_interval
UPDATE pace SET recorded = %(interval)s;

-- name: line_up
-- Retries that are due join the line, in the old place.
WITH due AS (
    UPDATE again SET lined = true WHERE NOT lined AND due <= %(at)s RETURNING sequence
), counted AS (
    SELECT sequence, count(*)::integer AS more FROM due GROUP BY sequence
)
UPDATE ingestion
SET lined = lined + more, version = version + 1, filled_at = '-infinity'
FROM counted WHERE ingestion.sequence = counted.sequence;

-- name: next_retry
SELECT min(due) AS due FROM again WHERE NOT lined;

-- name: heads
-- Most urgent class first, which no union promises.
SELECT * FROM (
    (SELECT sequence, priority, since, id, left_ FROM ingestion
     WHERE left_ > 0 AND priority = 1 ORDER BY priority, sequence LIMIT %(most)s)
    UNION ALL
    (SELECT sequence, priority, since, id, left_ FROM ingestion
     WHERE left_ > 0 AND priority = 2 ORDER BY priority, sequence LIMIT %(most)s)
    UNION ALL
    (SELECT sequence, priority, since, id, left_ FROM ingestion
     WHERE left_ > 0 AND priority = 3 ORDER BY priority, sequence LIMIT %(most)s)
) AS head ORDER BY priority, sequence;

-- name: under_way
SELECT count(*) AS number FROM start WHERE settled_at IS NULL;

-- name: take_retry
DELETE FROM again WHERE again = (
    SELECT again FROM again WHERE sequence = %(sequence)s AND lined
    ORDER BY due, again LIMIT 1)
RETURNING again, batch, start_no, attempt, offsets, due;

-- name: lock_ingestion
SELECT * FROM ingestion WHERE sequence = %(sequence)s FOR UPDATE;

-- name: start_batch
-- The items of a batch that is sent for the first time, or for another.
INSERT INTO batch (sequence, batch, states, starts)
VALUES (%(sequence)s, %(batch)s, %(states)s, %(start_no)s)
ON CONFLICT (sequence, batch) DO UPDATE SET states = excluded.states, starts = excluded.starts;

-- name: states_of_batch
SELECT states, crashes FROM batch WHERE sequence = %(sequence)s AND batch = %(batch)s;

-- name: take_from_ingestion
UPDATE ingestion SET
    next_batch = next_batch + %(fresh)s, lined = lined - %(again)s,
    unsent = unsent - %(unsent)s, retrying = retrying - %(retrying)s,
    in_flight = in_flight + %(items)s,
    started_at = coalesce(started_at, %(at)s), version = version + 1
WHERE sequence = %(sequence)s;

-- name: add_start
INSERT INTO start (sequence, batch, start_no, attempt, offsets, items, priority, at, gap, required,
                   again, due)
SELECT %(sequence)s, %(batch)s, %(start_no)s, %(attempt)s, %(offsets)s, %(items)s, priority, %(at)s,
       %(gap)s, %(required)s, %(again)s, %(due)s
FROM ingestion WHERE sequence = %(sequence)s
RETURNING start;

-- name: take_slot
UPDATE pace SET
    start = %(start)s, stage = 0, stage_at = %(now_)s, slots = slots + 1,
    last_before = last_at, started_before = started_at,
    last_at = %(now_)s, started_at = %(now_)s, connecting_until = '-infinity';

-- name: start_to_carry
SELECT start.*, ingestion.id, ingestion.kind, ingestion.batch_size, ingestion.total
FROM start JOIN ingestion USING (sequence)
WHERE start = %(start)s AND settled_at IS NULL AND confirmed_at IS NULL;

-- name: start_under_way
SELECT start.*, ingestion.id, ingestion.kind, ingestion.batch_size, ingestion.total
FROM start JOIN ingestion USING (sequence)
WHERE start = %(start)s AND settled_at IS NULL;

-- name: confirm
-- The slot counts from here; refused if it was given back, or is older than a second, or if
-- somebody has stopped the queue meanwhile.
WITH moment AS (
    SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS at
), confirmed AS (
    UPDATE pace SET
        stage = 1, last_at = now, started_at = now
    FROM (SELECT extract(epoch FROM at)::float8 AS now FROM moment) AS instant
    WHERE start = %(start)s AND stage IN (0, 1) AND now < stage_at + %(stale)s AND paused IS NULL
      AND greatest(held_until, probe_at) <= now
    RETURNING now, started_before
)
UPDATE start SET at = moment.at, confirmed_at = confirmed.now,
    gap = confirmed.now - confirmed.started_before
FROM confirmed, moment, ingestion
WHERE start.start = %(start)s AND ingestion.sequence = start.sequence
RETURNING start.at, start.gap, start_no, items, ingestion.priority, created_at;

-- name: note_called
UPDATE start SET ends_at = extract(epoch FROM
    coalesce(%(now)s::timestamptz, clock_timestamp()))::float8 + %(ends_in)s
WHERE start = %(start)s;

-- name: slot_called
UPDATE pace SET stage = 2, connecting_until = %(connecting)s::float8 + extract(epoch FROM
    coalesce(%(now)s::timestamptz, clock_timestamp()))::float8
WHERE start = %(start)s AND stage IN (1, 2);

-- name: slot_sent
-- The pace counts from the last request of all.
WITH instant AS (
    SELECT extract(epoch FROM coalesce(%(now)s::timestamptz, clock_timestamp()))::float8
        - %(ago)s AS at
)
UPDATE pace SET
    last_at = greatest(last_at, instant.at),
    stage = CASE WHEN start = %(start)s AND stage IN (1, 2) THEN 3 ELSE stage END,
    connecting_until = CASE WHEN start = %(start)s THEN '-infinity' ELSE connecting_until END
FROM instant;

-- name: first_on_wire
-- What was sent first is judged, by when it was on the wire.
WITH instant AS (
    SELECT extract(epoch FROM coalesce(%(now)s::timestamptz, clock_timestamp()))::float8
        - %(ago)s AS at
), before AS (
    SELECT wire_at FROM pace
), noted AS (
    UPDATE pace SET wire_at = instant.at FROM instant WHERE wire_at IS NULL OR wire_at < instant.at
)
UPDATE start SET wire_gap = instant.at - before.wire_at FROM before, instant
WHERE start.start = %(start)s;

-- name: wake
SELECT pg_notify('ingest_wake', '');

-- name: hold
UPDATE pace SET held_until = greatest(held_until, %(until)s);

-- name: forget_start
DELETE FROM start WHERE start = %(start)s AND settled_at IS NULL RETURNING *;

-- name: back_to_line
INSERT INTO again (again, sequence, batch, start_no, attempt, offsets, due, lined)
VALUES (coalesce(%(again)s::bigint, nextval(pg_get_serial_sequence('again', 'again'))), %(sequence)s,
        %(batch)s, %(start_no)s, %(attempt)s, %(offsets)s, coalesce(%(due)s::double precision, '-infinity'), true);

-- name: give_back_slot
-- As if it had never been taken; of a later one nothing changes.
UPDATE pace SET start = NULL, stage = 3, slots = slots - 1, last_at = last_before,
    started_at = started_before
WHERE start = %(start)s AND stage IN (0, 1);

-- name: give_back_to_ingestion
UPDATE ingestion SET
    lined = lined + %(lined)s, unsent = unsent + %(unsent)s, retrying = retrying + %(retrying)s,
    given_up = given_up + %(given_up)s, in_flight = in_flight - %(items)s,
    started_at = CASE WHEN unsent + %(unsent)s = total THEN NULL ELSE started_at END,
    filled_at = '-infinity', version = version + 1
WHERE sequence = %(sequence)s
RETURNING *;
