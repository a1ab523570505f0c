-- Taking responsibility for work.

-- name: claim_key
-- Of several at once all but one wait here, and then find what the first has stored.
INSERT INTO idempotency_key (owner, key, digest, id, created_at)
VALUES (%(owner)s, %(key)s, %(digest)s, %(id)s::uuid, coalesce(%(now)s::timestamptz, clock_timestamp()))
ON CONFLICT (owner, key) DO UPDATE
SET digest = excluded.digest, id = excluded.id, created_at = excluded.created_at
WHERE idempotency_key.created_at <= excluded.created_at - %(lifetime)s::interval
RETURNING id;

-- name: find_key
SELECT digest, id FROM idempotency_key
WHERE owner = %(owner)s AND key = %(key)s
  AND created_at > coalesce(%(now)s::timestamptz, clock_timestamp()) - %(lifetime)s::interval;

-- name: add_ingestion
-- Nothing if it came with a key that stands for another one; what follows adds nothing then.
INSERT INTO ingestion (
    id, kind, priority, batch_size, batches, total, unsent, created_at, since, filled_at,
    submitted_by, request_id)
SELECT %(id)s::uuid, %(kind)s, %(priority)s::smallint, %(batch_size)s::integer,
       %(batches)s::integer, %(total)s::integer, %(total)s, at, extract(epoch FROM at)::float8,
       extract(epoch FROM at)::float8, %(submitted_by)s, %(request_id)s
FROM (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS at) AS moment
WHERE NOT %(keyed)s OR EXISTS (SELECT FROM idempotency_key WHERE id = %(id)s::uuid);

-- name: add_content
INSERT INTO content (sequence, first_item, items, packing)
SELECT sequence, piece.*
FROM ingestion, unnest(
    %(first_items)s::integer[], %(contents)s::bytea[], %(packings)s::smallint[]) AS piece
WHERE id = %(id)s::uuid;

-- name: count_accepted
INSERT INTO counted (minute, counts, moved)
SELECT floor(extract(epoch FROM created_at) / 60)::bigint, %(counts)s::jsonb, true
FROM ingestion WHERE id = %(id)s::uuid;

-- name: count_now
SET CONSTRAINTS ALL IMMEDIATE;

-- name: check_room
SELECT check_room(
    %(most_items)s::bigint, %(most_ingestions)s::bigint, %(owner)s::text,
    %(most_of_owner)s::bigint);

-- name: waiting_line
-- What waits in a class, in its order, in pieces.
SELECT sequence, queued, batch_size FROM ingestion
WHERE queued > 0 AND priority = %(priority)s AND sequence > %(after)s
ORDER BY priority, sequence LIMIT %(limit)s;

-- name: waiting_of
SELECT sequence, queued, batch_size, submitted_by FROM ingestion
WHERE sequence = ANY(%(sequences)s::bigint[]);

-- name: owned
SELECT items FROM owned WHERE owner = %(owner)s;

-- name: line_of_owner
SELECT sequence, priority, queued, batch_size FROM ingestion
WHERE queued > 0 AND submitted_by = %(owner)s
  AND (priority, sequence) > (%(priority)s::smallint, %(after)s::bigint)
ORDER BY priority, sequence LIMIT %(limit)s;

-- name: slots_ahead
-- How many slots everything takes that waits ahead of a place.
SELECT coalesce(sum((queued + batch_size - 1) / batch_size), 0)::bigint AS slots FROM ingestion
WHERE queued > 0 AND (priority < %(priority)s::smallint
    OR (priority = %(priority)s AND sequence < %(sequence)s::bigint));
