-- A journal as a whole: read to be moved, and written where it arrives.

-- name: ingestions
SELECT sequence, ingestion_id, kind, priority, batch_size, total, created_at, started_at,
       finished_at, cancelled_at IS NOT NULL, deleted_at IS NOT NULL, succeeded, failed, cancelled,
       submitted_by, request_id
FROM ingestion ORDER BY sequence;

-- name: content
SELECT first_item, items, packing FROM content
WHERE place BETWEEN :sequence << 32 AND :sequence << 32 | 4294967295 ORDER BY place;

-- name: states
SELECT first_item, states, packing FROM final_state
WHERE place BETWEEN :sequence << 32 AND :sequence << 32 | 4294967295 ORDER BY place;

-- name: starts
SELECT batch, round, attempt, started_at, places, settled_at, item_states, again_at, again_as,
       gap, sent_gap, required, result.offsets, result.outcomes
FROM start LEFT JOIN result USING (result)
WHERE sequence = :sequence ORDER BY batch, round;

-- name: keys
SELECT owner, key, digest, ingestion_id, created_at FROM idempotency_key ORDER BY owner, key;

-- name: marks
SELECT at, kind, before, after, key, target, request_id FROM mark ORDER BY mark;

-- name: minutes
SELECT minute, counts, depth FROM rollup WHERE minute > 0 ORDER BY minute;

-- name: forgotten
SELECT counts FROM rollup WHERE minute = 0;

-- name: filled
SELECT EXISTS (SELECT 1 FROM ingestion) OR EXISTS (SELECT 1 FROM idempotency_key);

-- name: marked
SELECT EXISTS (SELECT 1 FROM mark WHERE kind <> 'restart');

-- name: add_ingestion
INSERT INTO ingestion (sequence, ingestion_id, kind, priority, batch_size, created_at, started_at,
                       finished_at, total, status, succeeded, failed, cancelled, cancelled_at,
                       submitted_by, request_id, deleted_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_content
INSERT INTO content (place, items, packing) VALUES (?, ?, ?);

-- name: add_states
INSERT INTO final_state (place, states, packing) VALUES (?, ?, ?);

-- name: add_start
INSERT INTO start (sequence, batch, round, attempt, started_at, places, settled_at, item_states,
                   again_at, again_as, gap, required, result, sent_gap)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_result
INSERT INTO result (result, offsets, outcomes) VALUES (?, ?, ?);

-- name: add_key
INSERT INTO idempotency_key (owner, key, digest, ingestion_id, created_at) VALUES (?, ?, ?, ?, ?);

-- name: add_mark
INSERT INTO mark (at, kind, before, after, key, target, request_id) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_minute
INSERT INTO rollup (minute, counts, depth) VALUES (?, ?, ?);

-- name: add_hour
INSERT INTO rollup_hour (hour, counts, depth) VALUES (?, ?, ?);

-- name: add_pace
INSERT INTO pace (only, taken_at, monotonic, era, slots) VALUES (1, ?, 0.0, '', ?);
