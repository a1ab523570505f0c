-- name: add_ingestion
INSERT INTO ingestion (sequence, ingestion_id, kind, priority, batch_size, created_at)
VALUES (:sequence, :ingestion_id, :kind, :priority, :batch_size, :created_at);

-- name: add_content
INSERT INTO content (sequence, items) VALUES (:sequence, :items);

-- name: forget_keys
DELETE FROM idempotency_key WHERE created_at <= :before;

-- name: find_key
SELECT digest, ingestion_id FROM idempotency_key WHERE key = :key AND created_at > :before;

-- name: add_key
INSERT INTO idempotency_key (key, digest, ingestion_id, created_at)
VALUES (:key, :digest, :ingestion_id, :created_at);

-- name: add_start
-- Once more after a commit that was slow; then the instant is the only news.
INSERT INTO start (sequence, batch, round, attempt, started_at, places)
VALUES (:sequence, :batch, :round, :attempt, :at, :places)
ON CONFLICT DO UPDATE SET started_at = excluded.started_at;

-- name: note_started
UPDATE ingestion SET started_at = :at WHERE sequence = :sequence AND started_at IS NULL;

-- name: note_slot
INSERT INTO pace (only, taken_at, monotonic, era) VALUES (1, :at, :monotonic, :era)
ON CONFLICT DO UPDATE
SET taken_at = excluded.taken_at, monotonic = excluded.monotonic, era = excluded.era;

-- name: settle_start
UPDATE start
SET settled_at = :at, item_states = :item_states, final = :final, outcomes = :outcomes,
    again_at = :again_at, again_as = :again_as
WHERE sequence = :sequence AND batch = :batch AND round = :round;

-- name: finish
UPDATE ingestion SET finished_at = :at, item_states = :item_states WHERE sequence = :sequence;

-- name: unfinished
SELECT sequence, ingestion_id, kind, priority, batch_size, created_at, started_at, items
FROM ingestion JOIN content USING (sequence)
WHERE finished_at IS NULL ORDER BY sequence;

-- name: starts_of_unfinished
SELECT sequence, batch, round, attempt, places, settled_at, start.item_states, again_at, again_as
FROM ingestion JOIN start USING (sequence)
WHERE finished_at IS NULL ORDER BY sequence, batch, round;

-- name: last_sequence
SELECT max(sequence) FROM ingestion;

-- name: last_slot
SELECT taken_at, monotonic, era FROM pace;

-- name: results
SELECT batch, final, settled_at, outcomes
FROM ingestion JOIN start USING (sequence)
WHERE ingestion_id = :ingestion_id AND batch BETWEEN :first AND :last AND outcomes IS NOT NULL
ORDER BY batch, round;

-- name: find_finished
SELECT sequence, ingestion_id, kind, priority, batch_size, created_at, started_at, items,
       finished_at, item_states
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
