-- What becomes of a batch.

-- name: end_start
-- The second time there is nothing to do.
UPDATE start SET settled_at = %(at)s, duration = %(duration)s, succeeded = %(succeeded)s,
       failed = %(failed)s, retried = %(retried)s
WHERE start = %(start)s AND settled_at IS NULL
RETURNING *;

-- name: set_states
UPDATE batch SET states = %(states)s, crashes = %(crashes)s
WHERE sequence = %(sequence)s AND batch = %(batch)s;

-- name: add_outcome
INSERT INTO outcome (sequence, batch, start_no, at, offsets, outcomes)
VALUES (%(sequence)s, %(batch)s, %(start_no)s, %(at)s, %(offsets)s, %(outcomes)s);

-- name: count_outcomes
UPDATE ingestion SET
    in_flight = in_flight - %(items)s, succeeded = succeeded + %(succeeded)s,
    failed = failed + %(failed)s, given_up = given_up + %(given_up)s,
    retrying = retrying + %(retrying)s, lined = lined + %(lined)s,
    filled_at = '-infinity', version = version + 1
WHERE sequence = %(sequence)s
RETURNING *;

-- name: finish
UPDATE ingestion SET
    finished_at = coalesce(%(at)s::timestamptz, %(now)s::timestamptz, clock_timestamp()),
    status = %(status)s WHERE sequence = %(sequence)s;

-- name: send_again
INSERT INTO again (sequence, batch, start_no, attempt, offsets, due, lined)
VALUES (%(sequence)s, %(batch)s, %(start_no)s, %(attempt)s, %(offsets)s, %(due)s, %(lined)s);

-- name: set_breaker
UPDATE pace SET missed = %(missed)s, probes = %(probes)s, probe_at = %(probe_at)s,
    stage = CASE WHEN start = %(start)s THEN 3 ELSE stage END,
    connecting_until = CASE WHEN start = %(start)s THEN '-infinity' ELSE connecting_until END;

-- name: slot_lost
UPDATE pace SET stage = 3, connecting_until = '-infinity' WHERE start = %(start)s;
