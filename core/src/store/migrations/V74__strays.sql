-- A watch reads what was committed since its cursor: the rows of a span of transactions (`tx`). An index of
-- `tx` would cost each commit as much WAL as a webhook's body. So most rows are found by their ids, which tell
-- the time: nearly every one is written within moments of the time in the id of its event. The others are
-- strays, and have an index of their own. How that holds together is in `store/strays.rs`.

-- The hot path says of each row whether it is one. Who does not say it, writes strays.
ALTER TABLE events ADD COLUMN stray boolean;
ALTER TABLE events ALTER COLUMN stray SET DEFAULT true;
ALTER TABLE attempts ADD COLUMN stray boolean;
ALTER TABLE attempts ALTER COLUMN stray SET DEFAULT true;
-- A row that outlives its day is copied with every column.
ALTER TABLE events_kept ADD COLUMN stray boolean;
ALTER TABLE attempts_kept ADD COLUMN stray boolean;
CREATE INDEX events_stray ON events (tenant_id, tx) WHERE stray;
CREATE INDEX attempts_stray ON attempts (tenant_id, tx) WHERE stray;

-- The smallest id that can be made at this time.
CREATE FUNCTION first_id_at(at timestamptz) RETURNS uuid
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid $$;
