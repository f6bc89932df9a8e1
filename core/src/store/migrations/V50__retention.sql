-- What the janitor needs: which partitions it is taking away, and indexes for what it sweeps.

-- A partition is renamed and listed here in one transaction, then detached, then dropped. `detached_at` is
-- set once what is still referred to has been copied after the detaching.
CREATE TABLE retired_partitions (
    name        text PRIMARY KEY,
    parent      text NOT NULL CHECK (parent IN ('events', 'attempts')),
    day         date NOT NULL,
    detached_at timestamptz
);

CREATE INDEX request_ids_expiry ON request_ids (expires_at);
CREATE INDEX operations_ended ON operations (end_time) WHERE end_time IS NOT NULL;
