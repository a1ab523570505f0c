-- A journal as a whole: read to be moved, and written where it arrives. Times are microseconds.

-- name: exported_ingestions
SELECT sequence, id::text, kind, priority, batch_size, total,
       (extract(epoch FROM created_at) * 1000000)::bigint,
       (extract(epoch FROM started_at) * 1000000)::bigint,
       (extract(epoch FROM finished_at) * 1000000)::bigint,
       cancelled, deleted_at IS NOT NULL, succeeded, failed, given_up, submitted_by, request_id
FROM ingestion ORDER BY sequence;

-- name: exported_content
SELECT sequence, first_item, items, packing FROM content ORDER BY sequence, first_item;

-- name: exported_starts
-- One that was not confirmed was not sent. What ended without an outcome and without a duration
-- was lost.
SELECT start.sequence, batch, start_no, attempt, start.offsets,
       (extract(epoch FROM start.at) * 1000000)::bigint AS at, gap, wire_gap,
       nullif(required, 'NaN') AS required,
       CASE WHEN duration IS NOT NULL OR outcomes IS NOT NULL
            THEN (extract(epoch FROM settled_at) * 1000000)::bigint END AS ended_at,
       outcome.offsets AS final, outcomes, settled_at IS NULL AS is_under_way,
       CASE WHEN cancelled THEN states END AS states
FROM start JOIN ingestion USING (sequence)
    LEFT JOIN outcome USING (sequence, batch, start_no)
    LEFT JOIN batch USING (sequence, batch)
WHERE settled_at IS NOT NULL OR confirmed_at IS NOT NULL
ORDER BY start.sequence, batch, start_no;

-- name: exported_retries
-- With what was taken and not sent. A batch that was never sent is none, if nothing after it was.
SELECT sequence, batch, start_no, attempt, offsets, due FROM (
    SELECT sequence, batch, start_no, attempt, offsets, due FROM again
    UNION ALL
    SELECT sequence, batch, start_no, attempt, offsets, due FROM start
    WHERE settled_at IS NULL AND confirmed_at IS NULL
) AS retry
WHERE start_no > 1 OR EXISTS (
    SELECT 1 FROM start AS later WHERE later.sequence = retry.sequence
    AND later.batch > retry.batch AND (settled_at IS NOT NULL OR confirmed_at IS NOT NULL))
ORDER BY sequence, batch;

-- name: exported_keys
SELECT owner, key, encode(digest, 'hex'), id::text,
       (extract(epoch FROM created_at) * 1000000)::bigint
FROM idempotency_key ORDER BY owner COLLATE "C", key COLLATE "C";

-- name: exported_marks
SELECT (extract(epoch FROM at) * 1000000)::bigint, kind, before, after, key, target, request_id
FROM mark ORDER BY mark;

-- name: exported_minutes
-- What was counted, and what waited; several rows a minute.
SELECT minute, counts, NULL::bigint[] AS batches, NULL::bigint[] AS items FROM rollup
WHERE minute > 0
UNION ALL
SELECT minute, counts, NULL, NULL FROM counted
UNION ALL
SELECT minute, '{}', batches, items FROM depth_at
ORDER BY minute;

-- name: exported_queue
-- A slot whose batch was not sent yet is none.
SELECT CASE WHEN stage = 0 THEN slots - 1 ELSE slots END AS slots,
       CASE WHEN stage = 0 THEN last_before ELSE last_at END AS last_at,
       paused, interval_, configured, held_until
FROM pace;

-- name: is_filled
SELECT EXISTS (SELECT 1 FROM ingestion) OR EXISTS (SELECT 1 FROM idempotency_key)
    OR EXISTS (SELECT 1 FROM mark WHERE kind <> 'restart') AS filled;

-- name: others
-- Who else is connected, and workers that were seen a moment ago.
SELECT (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'ingest_service'
          AND pid <> pg_backend_pid())
    + (SELECT count(*) FROM worker
       WHERE seen_at >= extract(epoch FROM clock_timestamp())::float8 - %(seen_within)s) AS number;

-- name: lock_everything
LOCK TABLE pace, ingestion, idempotency_key, mark, worker IN EXCLUSIVE MODE NOWAIT;

-- name: count_later
-- Row by row, everything would be counted through one row; it is counted at the end.
ALTER TABLE ingestion DISABLE TRIGGER count_ingestion;

-- name: count_again
ALTER TABLE ingestion ENABLE TRIGGER count_ingestion;

-- name: stage_starts
-- Starts are numbered in the order of their times, and come in that of their ingestions.
CREATE TEMPORARY TABLE arriving (
    sequence bigint, batch integer, start_no integer, attempt integer, offsets bytea,
    items integer, succeeded integer, failed integer, retried integer, at bigint,
    gap double precision, wire_gap double precision, required double precision, ended_at bigint
) ON COMMIT DROP;

-- name: forget_beginnings
-- That it was started once, with nothing to do.
DELETE FROM mark;

-- name: forget_counted
DELETE FROM counted;

-- name: forget_minutes
DELETE FROM rollup WHERE minute > 0;

-- name: forget_depth
DELETE FROM depth_at;

-- name: progress
-- Of an ingestion that was too long to be read before it was written.
UPDATE ingestion SET
    next_batch = %(next_batch)s, lined = %(lined)s, unsent = %(unsent)s,
    succeeded = %(succeeded)s, failed = %(failed)s, given_up = %(given_up)s,
    retrying = %(retrying)s, finished_at = %(finished_at)s, status = %(status)s
WHERE sequence = %(sequence)s;

-- name: add_starts
INSERT INTO start (sequence, batch, start_no, attempt, offsets, items, priority, succeeded, failed,
                   retried, at, gap, wire_gap, required, confirmed_at, settled_at, duration)
SELECT sequence, batch, start_no, attempt, offsets, items, priority, arriving.succeeded,
       arriving.failed, retried, to_timestamp(0) + at * interval '1 microsecond', gap, wire_gap,
       coalesce(required, 'NaN'), at / 1e6,
       to_timestamp(0) + coalesce(ended_at, at) * interval '1 microsecond',
       CASE WHEN ended_at IS NOT NULL THEN greatest(0, (ended_at - at) / 1e6) END
FROM arriving JOIN ingestion USING (sequence)
ORDER BY at, sequence, batch, start_no;

-- name: sum_up
UPDATE depth SET
    batches = sums.batches, ready = sums.ready, items = sums.items, ingestions = sums.ingestions,
    unfinished = sums.unfinished, filled_at = '-infinity', version = depth.version + 1
FROM (
    SELECT array_agg(batches ORDER BY class) AS batches, array_agg(ready ORDER BY class) AS ready,
           array_agg(items ORDER BY class) AS items,
           array_agg(ingestions ORDER BY class) AS ingestions,
           sum(unfinished)::bigint AS unfinished
    FROM (
        SELECT class, coalesce(sum(left_), 0)::bigint AS batches,
               count(*) FILTER (WHERE left_ > 0) AS ready,
               coalesce(sum(queued), 0)::bigint AS items,
               count(*) FILTER (WHERE queued > 0) AS ingestions,
               count(*) FILTER (WHERE sequence IS NOT NULL AND finished_at IS NULL) AS unfinished
        FROM (VALUES (1), (2), (3)) AS class (class) LEFT JOIN ingestion ON priority = class
        GROUP BY class
    ) AS by_class
) AS sums;

-- name: sum_up_owned
INSERT INTO owned SELECT submitted_by, sum(queued)::bigint FROM ingestion
WHERE submitted_by IS NOT NULL GROUP BY submitted_by
ON CONFLICT (owner) DO UPDATE SET items = excluded.items;

-- name: go_on_counting
SELECT setval(pg_get_serial_sequence('ingestion', 'sequence'), max(sequence)) FROM ingestion
HAVING count(*) > 0;

-- name: set_totals
UPDATE rollup SET counts = %(counts)s WHERE minute = 0;

-- name: end_history
-- What waits now, for the last minute.
INSERT INTO depth_at SELECT minute, batches, items FROM depth,
    (SELECT max(minute) AS minute FROM rollup WHERE minute > 0) AS last
WHERE minute IS NOT NULL;

-- name: set_queue
-- Of another server, so that the first to come waits for a whole interval.
UPDATE pace SET slots = %(slots)s, last_at = coalesce(%(last_at)s::float8, '-infinity'),
    last_before = coalesce(%(last_at)s::float8, '-infinity'), started_at = NULL, wire_at = NULL,
    started_before = NULL, start = NULL, stage = 3, paused = %(paused)s,
    interval_ = %(interval)s, configured = %(configured)s,
    held_until = coalesce(%(held_until)s::float8, '-infinity'), probe_at = '-infinity', missed = 0,
    probes = 0, connecting_until = '-infinity', recorded = NULL,
    server = CASE WHEN %(last_at)s::float8 IS NULL THEN NULL ELSE 'imported' END;

-- name: look_through
-- What was filled at once is planned for as if it were empty otherwise.
ANALYZE ingestion, content, batch, outcome, start, again, mark, idempotency_key;

-- name: copy_ingestions
COPY ingestion (sequence, id, kind, priority, batch_size, batches, total, created_at, since,
                started_at, finished_at, cancelled, deleted_at, next_batch, lined, unsent,
                succeeded, failed, given_up, retrying, status, submitted_by, request_id)
FROM STDIN;

-- name: copy_content
COPY content (sequence, first_item, items, packing) FROM STDIN;

-- name: copy_batches
COPY batch (sequence, batch, states, starts, crashes) FROM STDIN;

-- name: copy_outcomes
COPY outcome (sequence, batch, start_no, at, offsets, outcomes) FROM STDIN;

-- name: copy_starts
COPY arriving FROM STDIN;

-- name: copy_retries
COPY again (sequence, batch, start_no, attempt, offsets, due, lined) FROM STDIN;

-- name: copy_keys
COPY idempotency_key (owner, key, digest, id, created_at) FROM STDIN;

-- name: copy_marks
COPY mark (at, kind, before, after, key, target, request_id) FROM STDIN;

-- name: copy_minutes
COPY rollup (minute, counts) FROM STDIN;

-- name: copy_depths
COPY depth_at (minute, batches, items) FROM STDIN;
