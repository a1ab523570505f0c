-- name: add_ingestion
INSERT INTO ingestion (sequence, ingestion_id, kind, priority, batch_size, created_at, total)
VALUES (:sequence, :ingestion_id, :kind, :priority, :batch_size, :created_at, :total);

-- name: add_content
INSERT INTO content (sequence, items) VALUES (:sequence, :items);

-- name: forget_keys
DELETE FROM idempotency_key WHERE created_at <= :before;

-- name: find_key
SELECT digest, ingestion_id FROM idempotency_key WHERE key = :key AND created_at > :before;

-- name: add_key
INSERT INTO idempotency_key (key, digest, ingestion_id, created_at)
VALUES (:key, :digest, :ingestion_id, :created_at);

-- name: release_key
DELETE FROM idempotency_key WHERE key = :key AND ingestion_id = :ingestion_id;

-- name: add_start
-- Once more after a commit that was slow; then the instant is the only news.
INSERT INTO start (sequence, batch, round, attempt, started_at, places, gap, required)
VALUES (:sequence, :batch, :round, :attempt, :at, :places, :gap, :required)
ON CONFLICT DO UPDATE SET started_at = excluded.started_at, gap = excluded.gap;

-- name: note_started
UPDATE ingestion SET started_at = :at WHERE sequence = :sequence AND started_at IS NULL;

-- name: note_slot
INSERT INTO pace (only, taken_at, monotonic, era, slots) VALUES (1, :at, :monotonic, :boot_id, 1)
ON CONFLICT DO UPDATE
SET taken_at = excluded.taken_at, monotonic = excluded.monotonic, era = excluded.era,
    slots = slots + 1;

-- name: note_sent
UPDATE pace SET monotonic = :monotonic WHERE era = :boot_id AND monotonic < :monotonic;

-- name: settle_start
UPDATE start
SET settled_at = :at, item_states = :item_states, final = :final, outcomes = :outcomes,
    again_at = :again_at, again_as = :again_as
WHERE sequence = :sequence AND batch = :batch AND round = :round;

-- name: finish
UPDATE ingestion
SET finished_at = :at, item_states = :item_states, status = :status,
    succeeded = :succeeded, failed = :failed, cancelled = :cancelled
WHERE sequence = :sequence;

-- name: cancel
UPDATE ingestion SET cancelled_at = :at WHERE sequence = :sequence;

-- name: move
UPDATE ingestion SET priority = :priority WHERE sequence = :sequence;

-- name: rounds
SELECT batch, max(round) FROM ingestion JOIN start USING (sequence)
WHERE ingestion_id = :ingestion_id GROUP BY batch;

-- name: reopen
UPDATE ingestion SET finished_at = NULL, item_states = NULL, status = NULL
WHERE sequence = :sequence;

-- name: add_decision
-- Not a start: the decision to send some places again, in the form of one that asks for it.
INSERT INTO start (sequence, batch, round, attempt, started_at, places, settled_at, item_states,
                   again_at, again_as)
VALUES (:sequence, :batch, :round, 0, :at, :places, :at, :item_states, :at, :again_as);

-- name: summaries
SELECT sequence, ingestion_id, kind, priority, created_at, started_at, finished_at,
       total, succeeded, failed, cancelled
FROM ingestion
WHERE sequence < :before
  AND (finished_at IS NULL OR finished_at >= :finished_since)
  AND (:priority IS NULL OR priority = :priority)
  AND (:shown IS NULL OR instr(:shown, ' ' || kind || '/' || CASE
      WHEN finished_at IS NOT NULL THEN status
      WHEN started_at IS NULL THEN 'waiting'
      ELSE 'started' END || ' '))
  AND (:outcome IS NULL OR :outcome = CASE
      WHEN finished_at IS NULL THEN NULL
      WHEN cancelled > 0 THEN 'cancelled'
      WHEN failed = 0 THEN 'succeeded'
      WHEN failed = total THEN 'failed'
      ELSE 'partially_failed' END)
ORDER BY sequence DESC LIMIT :limit;

-- name: rate
SELECT count(*), min(gap), count(*) FILTER (WHERE gap < required - :tolerance)
FROM start WHERE started_at >= :since AND started_at < :until AND required IS NOT NULL;

-- name: early_starts
SELECT start.started_at, ingestion_id, batch, gap, required
FROM start JOIN ingestion USING (sequence)
WHERE start.started_at >= :since AND start.started_at < :until AND gap < required - :tolerance
ORDER BY start.started_at LIMIT :limit;

-- name: unfinished
SELECT sequence, ingestion_id, kind, priority, batch_size, created_at, started_at, items,
       cancelled_at
FROM ingestion JOIN content USING (sequence)
WHERE finished_at IS NULL ORDER BY sequence;

-- name: starts_of_unfinished
SELECT sequence, batch, round, attempt, places, settled_at, start.item_states, again_at, again_as
FROM ingestion JOIN start USING (sequence)
WHERE finished_at IS NULL ORDER BY sequence, batch, round;

-- name: last_sequence
SELECT max(sequence) FROM ingestion;

-- name: last_slot
SELECT taken_at, monotonic, era, slots FROM pace;

-- name: results
SELECT batch, final, settled_at, outcomes
FROM ingestion JOIN start USING (sequence)
WHERE ingestion_id = :ingestion_id AND batch BETWEEN :first AND :last AND outcomes IS NOT NULL
ORDER BY batch, round;

-- name: find_finished
SELECT sequence, ingestion_id, kind, priority, batch_size, created_at, started_at, items,
       finished_at, cancelled_at, item_states
FROM ingestion JOIN content USING (sequence)
WHERE ingestion_id = :ingestion_id AND finished_at IS NOT NULL;

-- name: oldest_finished
SELECT sequence FROM ingestion
WHERE finished_at < :before ORDER BY finished_at LIMIT 20;

-- name: forget_starts
DELETE FROM start WHERE sequence = :sequence AND (batch, round) IN (
    SELECT batch, round FROM start WHERE sequence = :sequence LIMIT 2000
);

-- name: forget_content
DELETE FROM content WHERE sequence = :sequence;

-- name: forget_ingestion
DELETE FROM ingestion WHERE sequence = :sequence;

-- name: probe
UPDATE probe SET counter = counter + 1;

-- name: count
SELECT count(*), count(*) FILTER (WHERE finished_at IS NULL) FROM ingestion;

-- name: remember
INSERT INTO remembered (name, value) VALUES (:name, :value)
ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: remembered
SELECT name, value FROM remembered;
