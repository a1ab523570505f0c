-- What the history is made of.

-- name: count
INSERT INTO counted (minute, counts, moved)
SELECT floor(extract(epoch FROM coalesce(%(now)s::timestamptz, clock_timestamp())) / 60)::bigint,
       %(counts)s::jsonb, %(moved)s::boolean;

-- name: lock_rollup
-- Whoever adds up; who comes second has nothing to do.
SELECT minute FROM rollup WHERE minute = 0 FOR UPDATE SKIP LOCKED;

-- name: roll_up
WITH gone AS (
    DELETE FROM counted
    WHERE counted IN (SELECT counted FROM counted ORDER BY counted LIMIT %(most)s)
    RETURNING minute, counts
), summed AS (
    SELECT coalesce(minute, 0) AS minute, key, sum(value::bigint)::bigint AS count
    FROM gone, jsonb_each_text(counts) GROUP BY GROUPING SETS ((minute, key), (key))
), added AS (
    INSERT INTO rollup SELECT minute, jsonb_object_agg(key, count) FROM summed GROUP BY minute
    ON CONFLICT (minute) DO UPDATE SET counts = add_counts(rollup.counts, excluded.counts)
)
SELECT count(*) AS number FROM gone;

-- name: forget_rollups
DELETE FROM rollup WHERE minute > 0 AND minute < %(before)s;

-- name: forget_depths
-- The last one before tells what waited until the first one after.
DELETE FROM depth_at
WHERE minute < (SELECT max(minute) FROM depth_at WHERE minute < %(before)s);

-- name: counts_of_minutes
SELECT minute, counts FROM rollup WHERE minute BETWEEN greatest(1, %(first)s) AND %(last)s
UNION ALL
SELECT minute, counts FROM counted WHERE minute BETWEEN %(first)s AND %(last)s;

-- name: depths_of_minutes
SELECT minute, batches, items FROM depth_at
WHERE minute BETWEEN coalesce(
    (SELECT max(minute) FROM depth_at WHERE minute < %(first)s), %(first)s) AND %(last)s
ORDER BY minute;

-- name: first_minute
SELECT least((SELECT min(minute) FROM rollup WHERE minute > 0), (SELECT min(minute) FROM counted),
             (SELECT min(minute) FROM depth_at)) AS minute;

-- name: total_counts
SELECT counts FROM rollup WHERE minute = 0 UNION ALL SELECT counts FROM counted;

-- name: pace_marks
-- The newest of each kind since then, and the last one before.
SELECT found.* FROM unnest(%(kinds)s::text[]) AS wanted, LATERAL (
    (SELECT at, mark, kind, before, after FROM mark
     WHERE kind = wanted AND target IS NULL AND at >= %(since)s
     ORDER BY at DESC LIMIT %(limit)s)
    UNION ALL
    (SELECT at, mark, kind, before, after FROM mark
     WHERE kind = wanted AND target IS NULL AND at < %(since)s
     ORDER BY at DESC LIMIT 1)
) AS found ORDER BY at, mark;
