-- Workers, what they lose, and what is too old.

-- name: beat
INSERT INTO worker (worker, name, seen_at, trouble, upstream_trouble)
SELECT %(worker)s::uuid, %(name)s, extract(epoch FROM
       coalesce(%(now)s::timestamptz, clock_timestamp()))::float8, %(trouble)s, %(upstream)s
ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at, trouble = excluded.trouble,
    upstream_trouble = excluded.upstream_trouble;

-- name: leave
DELETE FROM worker WHERE worker = %(worker)s::uuid;

-- name: forget_workers
DELETE FROM worker WHERE seen_at < extract(epoch FROM
    coalesce(%(now)s::timestamptz, clock_timestamp()))::float8 - 3600;

-- name: time
SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS at;

-- name: expired
SELECT sequence FROM ingestion
WHERE finished_at < coalesce(%(now)s::timestamptz, clock_timestamp()) - %(retention)s::interval
ORDER BY finished_at LIMIT 20;

-- name: forget_outcomes
DELETE FROM outcome WHERE sequence = %(sequence)s AND (batch, start_no) IN (
    SELECT batch, start_no FROM outcome WHERE sequence = %(sequence)s LIMIT %(most)s);

-- name: forget_starts
DELETE FROM start WHERE start IN (
    SELECT start FROM start WHERE sequence = %(sequence)s LIMIT %(most)s);

-- name: forget_batches
DELETE FROM batch WHERE sequence = %(sequence)s AND batch IN (
    SELECT batch FROM batch WHERE sequence = %(sequence)s LIMIT %(most)s);

-- name: forget_ingestion
DELETE FROM ingestion WHERE sequence = %(sequence)s AND finished_at IS NOT NULL;

-- name: forget_keys
DELETE FROM idempotency_key
WHERE created_at <= coalesce(%(now)s::timestamptz, clock_timestamp()) - %(lifetime)s::interval;

-- name: forget_marks
DELETE FROM mark
WHERE at < coalesce(%(now)s::timestamptz, clock_timestamp()) - %(retention)s::interval;

