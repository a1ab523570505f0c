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
-- By the hour: those that stay would have to be summed up anew.
DELETE FROM rollup WHERE minute > 0 AND minute < %(before)s / 60 * 60;

-- name: forget_depths
-- The last one before tells what waited until the first one after.
DELETE FROM depth_at
WHERE minute < (SELECT max(minute) FROM depth_at WHERE minute < %(before)s);

-- name: counts_of_parts
-- The last minute before each cut and of each hour, with all of its hour so far; and what was not
-- added up yet.
SELECT last.* FROM (
    SELECT unnest(%(cuts)s::bigint[])
    UNION ALL
    SELECT generate_series(%(first)s / 60 * 60 + 60,
                           least(%(last)s, (SELECT max(minute) FROM rollup)), 60)
) AS cuts (cut), LATERAL (
    SELECT minute, true AS is_sum, so_far AS counts FROM rollup
    WHERE minute > 0 AND minute < cut ORDER BY minute DESC LIMIT 1
) AS last
UNION ALL
SELECT minute, false, counts::text FROM counted WHERE minute BETWEEN %(first)s AND %(last)s
ORDER BY minute;

-- name: depths_of_parts
SELECT last.* FROM unnest(%(cuts)s::bigint[]) AS cut, LATERAL (
    SELECT minute, batches, items FROM depth_at WHERE minute < cut ORDER BY minute DESC LIMIT 1
) AS last;

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
