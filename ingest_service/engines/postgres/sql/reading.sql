-- Telling about it; each group of questions is asked in one transaction.

-- name: moment
SELECT m.at, extract(epoch FROM m.at)::float8 AS now, pace.*,
       batches, ready, items, ingestions, unfinished, filled_at, depth.version
FROM pace, depth, LATERAL (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS at) AS m;

-- name: oldest
SELECT priority, (SELECT created_at FROM ingestion WHERE queued > 0 AND priority = class.priority
                  ORDER BY priority, sequence LIMIT 1) AS created_at
FROM (VALUES (1), (2), (3)) AS class (priority);

-- name: workers
SELECT count(*)::integer AS number, min(trouble) AS trouble,
       min(upstream_trouble) AS upstream_trouble
FROM worker WHERE seen_at >= extract(epoch FROM
    coalesce(%(now)s::timestamptz, clock_timestamp()))::float8 - %(seen_within)s;

-- name: retries
SELECT due, again.sequence, priority, since, id, 1 AS left_ FROM again JOIN ingestion USING (sequence)
WHERE NOT again.lined ORDER BY due, again;

-- name: under_way_now
SELECT id, batch, items, attempt, extract(epoch FROM at)::float8 AS started_at, ends_at,
       start.sequence
FROM start JOIN ingestion USING (sequence)
WHERE settled_at IS NULL ORDER BY start;

-- name: taken_slots
SELECT at, settled_at, id, batch, start.priority, items, start.succeeded, start.failed, retried
FROM start JOIN ingestion USING (sequence)
ORDER BY start DESC LIMIT %(most)s;

-- name: durations
SELECT duration FROM start WHERE duration IS NOT NULL ORDER BY settled_at DESC LIMIT 100;

-- name: find
SELECT * FROM ingestion
WHERE id = %(id)s::uuid AND deleted_at IS NULL
  AND (finished_at IS NULL OR finished_at >= coalesce(%(now)s::timestamptz, clock_timestamp())
       - %(retention)s::interval);

-- name: place
SELECT sequence, priority, since, id, left_, retrying, finished_at FROM ingestion
WHERE id = %(id)s::uuid AND deleted_at IS NULL
  AND (finished_at IS NULL OR finished_at >= coalesce(%(now)s::timestamptz, clock_timestamp())
       - %(retention)s::interval);

-- name: content
SELECT first_item, items, packing FROM content
WHERE sequence = %(sequence)s AND first_item < %(end)s AND first_item >= (
    SELECT max(first_item) FROM content
    WHERE sequence = %(sequence)s AND first_item <= %(start)s)
ORDER BY first_item;

-- name: states
SELECT batch, states FROM batch
WHERE sequence = %(sequence)s AND batch >= %(start)s AND batch < %(end)s ORDER BY batch;

-- name: states_from
SELECT batch, states FROM batch
WHERE sequence = %(sequence)s AND batch >= %(start)s ORDER BY batch LIMIT %(limit)s;

-- name: outcomes
SELECT batch, offsets, at, outcomes FROM outcome
WHERE sequence = %(sequence)s AND batch = ANY (%(batches)s::integer[])
ORDER BY batch, start_no;

-- name: sums_before
SELECT count(*) AS ingestions, coalesce(sum(left_), 0)::bigint AS batches FROM ingestion
WHERE left_ > 0 AND priority = %(priority)s AND sequence < %(sequence)s;

-- name: left_of
SELECT left_ FROM ingestion WHERE sequence = %(sequence)s AND priority = %(priority)s;

-- name: ingestions_within
SELECT count(*) AS number FROM (
    SELECT sum(left_) OVER (ORDER BY sequence) - left_ AS before FROM ingestion
    WHERE left_ > 0 AND priority = %(priority)s AND sequence > %(after)s
) AS line WHERE before < %(batches)s;

-- name: lines
SELECT sequence, priority, since, id, left_ FROM ingestion
WHERE left_ > 0 ORDER BY priority, sequence;

-- name: list
SELECT * FROM ingestion
WHERE sequence < %(before)s AND deleted_at IS NULL
  AND (%(submitted_by)s::text IS NULL OR submitted_by = %(submitted_by)s)
  AND (finished_at IS NULL OR finished_at >= coalesce(%(now)s::timestamptz, clock_timestamp())
       - %(retention)s::interval)
  AND (%(priority)s::smallint IS NULL OR priority = %(priority)s)
  AND (finished_at IS NULL OR NOT %(unfinished)s::boolean)
  AND (%(shown)s::jsonb IS NULL OR jsonb_build_array(jsonb_build_array(kind, coalesce(status,
          CASE WHEN unsent = total THEN 'waiting' ELSE 'started' END))) <@ %(shown)s)
  AND (%(outcome)s::text IS NULL OR (finished_at IS NOT NULL AND %(outcome)s = CASE
      WHEN given_up > 0 THEN 'cancelled'
      WHEN failed = 0 THEN 'succeeded'
      WHEN failed = total THEN 'failed'
      ELSE 'partially_failed' END))
ORDER BY sequence DESC LIMIT %(limit)s;

-- name: rate
SELECT count(*)::integer AS starts, min(coalesce(wire_gap, gap)) AS smallest,
       (count(*) FILTER (WHERE coalesce(wire_gap, gap) < required - %(tolerance)s))::integer AS early
FROM start
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s);

-- name: early_starts
SELECT at, id, batch, coalesce(wire_gap, gap) AS gap, required
FROM start JOIN ingestion USING (sequence)
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND coalesce(wire_gap, gap) < required - %(tolerance)s
ORDER BY at LIMIT %(limit)s;

-- name: version
SELECT version, finished_at FROM ingestion WHERE id = %(id)s::uuid AND deleted_at IS NULL;

-- name: audited_marks
SELECT at, (extract(epoch FROM at) * 1000000)::bigint AS micros, mark, key, kind, target, before,
       after, request_id
FROM mark
WHERE at >= greatest(%(since)s, coalesce(%(now)s::timestamptz, clock_timestamp())
        - %(retention)s::interval)
  AND at < %(until)s AND (at, 1, mark) < (%(before)s, %(source)s, %(number)s)
  AND (%(key)s::text IS NULL OR key = %(key)s) AND kind = ANY (%(kinds)s::text[])
ORDER BY at DESC, mark DESC LIMIT %(limit)s;

-- name: audited_submissions
SELECT created_at, (extract(epoch FROM created_at) * 1000000)::bigint AS micros, sequence,
       submitted_by, id, kind, total, request_id
FROM ingestion
WHERE created_at >= greatest(%(since)s, coalesce(%(now)s::timestamptz, clock_timestamp())
        - %(retention)s::interval)
  AND created_at < %(until)s
  AND (created_at, 0, sequence) < (%(before)s, %(source)s, %(number)s)
  AND (%(key)s::text IS NULL OR submitted_by = %(key)s)
ORDER BY created_at DESC, sequence DESC LIMIT %(limit)s;

-- name: database_size
SELECT pg_database_size(current_database()) AS bytes;
