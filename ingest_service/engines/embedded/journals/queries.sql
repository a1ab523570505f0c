-- name: add_ingestion
INSERT INTO ingestion (sequence, ingestion_id, kind, priority, batch_size, created_at, total,
                       submitted_by, request_id)
VALUES (:sequence, :ingestion_id, :kind, :priority, :batch_size, :created_at, :total,
        :submitted_by, :request_id);

-- name: add_content
INSERT INTO content (place, items, packing)
VALUES (:sequence << 32 | :first_item, :content, :packing);

-- name: forget_keys
DELETE FROM idempotency_key WHERE created_at <= :before;

-- name: find_key
SELECT digest, ingestion_id FROM idempotency_key
WHERE owner = :owner AND key = :key AND created_at > :before;

-- name: add_key
INSERT INTO idempotency_key (owner, key, digest, ingestion_id, created_at)
VALUES (:owner, :key, :digest, :ingestion_id, :created_at);

-- name: add_start
-- Once more after a commit that was slow; then the instant is the only news.
INSERT INTO start (sequence, batch, round, attempt, started_at, places, gap, required)
VALUES (:sequence, :batch, :start_no, :attempt, :at, :offsets, :gap, :required)
ON CONFLICT DO UPDATE SET started_at = excluded.started_at, gap = excluded.gap;

-- name: note_started
UPDATE ingestion SET started_at = :at WHERE sequence = :sequence AND started_at IS NULL;

-- name: note_slot
INSERT INTO pace (only, taken_at, monotonic, era, slots)
VALUES (1, :at, :monotonic, :boot_id, :slots)
ON CONFLICT DO UPDATE
SET taken_at = excluded.taken_at, monotonic = excluded.monotonic, era = excluded.era,
    slots = excluded.slots;

-- name: note_sent
-- The smallest gap that was seen: the upstream does not care which request of a batch was first.
UPDATE start SET sent_at = :at, sent_gap = coalesce(min(sent_gap, :gap), sent_gap, :gap)
WHERE sequence = :sequence AND batch = :batch AND round = :start_no;

-- name: count_on_from
UPDATE pace SET taken_at = :at, monotonic = :monotonic
WHERE era = :boot_id AND monotonic < :monotonic;

-- name: forget_instant
-- As one that no machine's clock has read.
UPDATE pace SET monotonic = 0.0, era = '';

-- name: add_result
INSERT INTO result (offsets, outcomes)
SELECT :offsets, :outcomes FROM start
WHERE sequence = :sequence AND batch = :batch AND round = :start_no AND settled_at IS NULL;

-- name: settle_start
-- The second time there is nothing to do.
UPDATE start
SET settled_at = :at, item_states = :item_states, again_at = :resend_at, again_as = :resend_as,
    result = CASE WHEN length(:offsets) THEN last_insert_rowid() END
WHERE sequence = :sequence AND batch = :batch AND round = :start_no AND settled_at IS NULL;

-- name: finish
UPDATE ingestion
SET finished_at = :at, status = :status, succeeded = :succeeded, failed = :failed,
    cancelled = :cancelled
WHERE sequence = :sequence;

-- name: add_states
INSERT INTO final_state (place, states, packing)
VALUES (:sequence << 32 | :first_item, :content, :packing)
ON CONFLICT DO UPDATE SET states = excluded.states, packing = excluded.packing;

-- name: cancel
UPDATE ingestion SET cancelled_at = :at WHERE sequence = :sequence;

-- name: move
UPDATE ingestion SET priority = :priority WHERE sequence = :sequence;

-- name: reopen
UPDATE ingestion SET finished_at = NULL, status = NULL, cancelled_at = NULL
WHERE sequence = :sequence;

-- name: add_decision
-- Not a start: the decision to send some items again, in the form of one that asks for it.
INSERT INTO start (sequence, batch, round, attempt, started_at, places, settled_at, item_states,
                   again_at, again_as)
VALUES (:sequence, :batch, :start_no, 0, :at, :offsets, :at, :item_states, :at, :resend_as);

-- name: start_counts
SELECT batch, max(round) FROM ingestion JOIN start USING (sequence)
WHERE ingestion_id = :ingestion_id GROUP BY batch;

-- name: change_operator
INSERT INTO operator (only, state) VALUES (1, :state)
ON CONFLICT DO UPDATE SET state = excluded.state;

-- name: add_mark
INSERT INTO mark (at, kind, before, after, key, target, request_id)
VALUES (:at, :kind, :before, :after, :key, :target, :request_id);

-- name: audited_marks
SELECT at, mark, key, kind, target, before, after, request_id FROM mark
WHERE at >= :since AND at < :until AND at <= :at AND (at, 1, mark) < (:at, :source, :number)
  AND (:key IS NULL OR key = :key) AND kind IN (SELECT value FROM json_each(:kinds))
ORDER BY at DESC, mark DESC LIMIT :limit;

-- name: audited_submissions
SELECT created_at, sequence, submitted_by, ingestion_id, kind, total, request_id FROM ingestion
WHERE created_at >= :since AND created_at < :until AND created_at <= :at
  AND (created_at, 0, sequence) < (:at, :source, :number)
  AND (:key IS NULL OR submitted_by = :key)
ORDER BY created_at DESC, sequence DESC LIMIT :limit;

-- name: head
SELECT sequence, ingestion_id, kind, priority, batch_size, submitted_by, request_id,
       created_at, started_at, finished_at, total, succeeded, failed, cancelled
FROM ingestion WHERE ingestion_id = :ingestion_id AND deleted_at IS NULL;

-- name: finished
SELECT sequence, ingestion_id, kind, priority, batch_size, submitted_by, request_id,
       created_at, started_at, finished_at, total, succeeded, failed, cancelled
FROM ingestion
WHERE sequence < :before
  AND finished_at >= :finished_since
  AND deleted_at IS NULL
  AND (:submitted_by IS NULL OR submitted_by = :submitted_by)
  AND (:priority IS NULL OR priority = :priority)
  AND (:shown IS NULL OR (kind, status) IN (
      SELECT value ->> 0, value ->> 1 FROM json_each(:shown)))
  AND (:outcome IS NULL OR :outcome = CASE
      WHEN cancelled > 0 THEN 'cancelled'
      WHEN failed = 0 THEN 'succeeded'
      WHEN failed = total THEN 'failed'
      ELSE 'partially_failed' END)
ORDER BY sequence DESC LIMIT :limit;

-- name: content
SELECT first_item, items, packing FROM content
WHERE place < :sequence << 32 | :end AND place >= (
    SELECT max(place) FROM content
    WHERE place BETWEEN :sequence << 32 AND :sequence << 32 | :start)
ORDER BY place;

-- name: final_states
SELECT first_item, states, packing FROM final_state
WHERE place < :sequence << 32 | :end AND place >= (
    SELECT max(place) FROM final_state
    WHERE place BETWEEN :sequence << 32 AND :sequence << 32 | :start)
ORDER BY place;

-- name: results
SELECT batch, offsets, settled_at, outcomes
FROM ingestion JOIN start USING (sequence) JOIN result USING (result)
WHERE ingestion_id = :ingestion_id AND batch BETWEEN :first AND :last
ORDER BY batch, round;

-- name: rate
SELECT count(*), min(coalesce(sent_gap, gap)),
       count(*) FILTER (WHERE coalesce(sent_gap, gap) < required - :tolerance)
FROM start WHERE started_at >= :since AND started_at < :until AND required IS NOT NULL;

-- name: early_starts
SELECT start.started_at, ingestion_id, batch, coalesce(sent_gap, gap), required
FROM start JOIN ingestion USING (sequence)
WHERE start.started_at >= :since AND start.started_at < :until AND required IS NOT NULL
  AND coalesce(sent_gap, gap) < required - :tolerance
ORDER BY start.started_at LIMIT :limit;

-- name: unfinished
SELECT ingestion.sequence, ingestion_id, kind, priority, batch_size, submitted_by, request_id,
       created_at, started_at, cancelled_at, first_item, items, packing
FROM ingestion CROSS JOIN content
WHERE finished_at IS NULL
  AND place BETWEEN ingestion.sequence << 32 AND ingestion.sequence << 32 | 4294967295
ORDER BY ingestion.sequence, place;

-- name: starts_of_unfinished
SELECT sequence, batch, round, attempt, places, settled_at, item_states, again_at, again_as
FROM ingestion JOIN start USING (sequence)
WHERE finished_at IS NULL ORDER BY sequence, batch, round;

-- name: last_sequence
SELECT max(sequence) FROM ingestion;

-- name: last_slot
SELECT taken_at, monotonic, era, slots FROM pace;

-- name: operator
SELECT state FROM operator;

-- name: oldest_finished
SELECT min(finished_at) FROM ingestion WHERE finished_at IS NOT NULL;

-- name: oldest_mark
SELECT min(at) FROM mark;

-- name: expired
SELECT sequence FROM ingestion
WHERE finished_at < :before ORDER BY finished_at LIMIT 20;

-- name: forget_results
DELETE FROM result WHERE result IN (
    SELECT result FROM start WHERE sequence = :sequence ORDER BY batch, round LIMIT 2000
);

-- name: forget_starts
DELETE FROM start WHERE sequence = :sequence AND (batch, round) IN (
    SELECT batch, round FROM start WHERE sequence = :sequence ORDER BY batch, round LIMIT 2000
);

-- name: forget_states
DELETE FROM final_state
WHERE place BETWEEN :sequence << 32 AND :sequence << 32 | 4294967295;

-- name: forget_marks
DELETE FROM mark WHERE mark IN (
    SELECT mark FROM mark WHERE at < :before ORDER BY at LIMIT 2000
);

-- name: forget_content
DELETE FROM content
WHERE place BETWEEN :sequence << 32 AND :sequence << 32 | 4294967295;

-- name: forget_ingestion
DELETE FROM ingestion WHERE sequence = :sequence;

-- name: delete_results
DELETE FROM result WHERE result IN (SELECT result FROM start WHERE sequence = :sequence);

-- name: delete_starts
-- What is left of a start is that there was one.
UPDATE start SET result = NULL, item_states = NULL WHERE sequence = :sequence;

-- name: delete_key
DELETE FROM idempotency_key WHERE ingestion_id = :ingestion_id;

-- name: delete_ingestion
UPDATE ingestion SET deleted_at = finished_at WHERE sequence = :sequence;

-- name: erase
-- What is deleted from here on is overwritten, in pages that become free as well.
PRAGMA secure_delete = ON;

-- name: erase_no_more
PRAGMA secure_delete = OFF;

-- name: number_commit
UPDATE probe SET counter = :number;

-- name: last_commit
SELECT counter FROM probe;

-- name: count
SELECT count(*), count(*) FILTER (WHERE finished_at IS NULL) FROM ingestion;

-- name: free_space
SELECT freelist_count, auto_vacuum = 2 FROM pragma_freelist_count, pragma_auto_vacuum;

-- name: put_rollup
INSERT INTO rollup (minute, counts) VALUES (:minute, :counts)
ON CONFLICT DO UPDATE SET counts = excluded.counts, depth = NULL;

-- name: end_rollup
UPDATE rollup SET depth = :depth WHERE minute = :minute;

-- name: rollup
SELECT counts FROM rollup WHERE minute = :minute;

-- name: unsum_rollups
-- From one that is counted in again to the end of its hour.
UPDATE rollup SET so_far = NULL
WHERE minute BETWEEN :minute AND :minute / 60 * 60 + 59 AND so_far IS NOT NULL;

-- name: sum_rollup
UPDATE rollup SET so_far = :so_far WHERE minute = :minute;

-- name: rollups_of_hour
SELECT minute, counts, so_far IS NULL FROM rollup
WHERE minute BETWEEN 60 * :hour AND 60 * :hour + 59 ORDER BY minute;

-- name: put_hour
INSERT INTO rollup_hour (hour, counts, depth) VALUES (:hour, :counts, :depth)
ON CONFLICT DO UPDATE SET counts = excluded.counts, depth = excluded.depth;

-- name: all_rollups
-- Each once, the last one at the end.
SELECT minute, counts FROM rollup WHERE minute = 0
UNION ALL
SELECT 60 * hour, counts FROM rollup_hour
UNION ALL
SELECT minute, counts FROM rollup
WHERE minute > 0 AND minute >= coalesce((SELECT 60 * max(hour) + 60 FROM rollup_hour), 0)
ORDER BY minute;

-- name: rollups
-- The last one before each cut and in each hour, and those in no sum with the last before them.
SELECT minute, so_far IS NOT NULL, coalesce(so_far, counts), depth FROM rollup
WHERE minute IN (
    SELECT (SELECT max(minute) FROM rollup WHERE minute > 0 AND minute < cut) FROM (
        SELECT value AS cut FROM json_each(:cuts)
        UNION ALL SELECT 60 * hour + 60 FROM rollup_hour WHERE hour BETWEEN :first / 60 AND :last / 60
        UNION ALL SELECT minute FROM rollup WHERE so_far IS NULL AND minute > 0
        UNION ALL SELECT minute + 1 FROM rollup WHERE so_far IS NULL AND minute > 0
    ) WHERE cut BETWEEN :first AND :last + 1
)
ORDER BY minute;

-- name: last_rollup
SELECT max(minute) FROM rollup WHERE so_far IS NULL AND minute > 0;

-- name: first_rollup
SELECT min(minute) FROM rollup WHERE minute > 0;

-- name: first_hour
SELECT min(hour) FROM rollup_hour;

-- name: expired_hours
SELECT hour, counts FROM rollup_hour WHERE 60 * hour + 60 <= :before ORDER BY hour LIMIT :limit;

-- name: forget_rollups
DELETE FROM rollup WHERE minute > 0 AND minute < 60 * :last + 60;

-- name: forget_hours
DELETE FROM rollup_hour WHERE hour <= :last;

-- name: pace_marks
SELECT at, mark, kind, before, after FROM mark
WHERE target IS NULL AND kind = :kind AND at >= :since
ORDER BY at DESC, mark DESC LIMIT :limit;

-- name: pace_mark_before
SELECT at, mark, kind, before, after FROM mark
WHERE target IS NULL AND kind = :kind AND at < :since ORDER BY at DESC, mark DESC LIMIT 1;
