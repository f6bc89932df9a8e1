-- Bodies that a source's `max_stored_payloads` has let go: the rest of the event stays.
ALTER TABLE events ADD COLUMN body_dropped_at timestamptz;
ALTER TABLE events_kept ADD COLUMN body_dropped_at timestamptz;

-- How far the bodies of a source have been swept: what is older was dropped, or is in payload_holds.
CREATE TABLE payload_sweeps (
    source_id uuid PRIMARY KEY,
    swept_to  uuid NOT NULL
);

-- Bodies that would be gone if no delivery needed them.
CREATE TABLE payload_holds (
    source_id uuid NOT NULL,
    event_id  uuid NOT NULL,
    PRIMARY KEY (source_id, event_id)
);

CREATE INDEX bindings_list ON bindings (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX bindings_source ON bindings (source_id) WHERE deleted_at IS NULL;

-- The last state of each binding. `data` is JSON text: what payloads hold need not fit jsonb.
DROP TABLE binding_results;
CREATE TABLE binding_results (
    binding_id   uuid PRIMARY KEY,
    data         bytea NOT NULL,
    error        text NOT NULL,
    revision     bigint NOT NULL,
    -- When a refresh was last begun: at most one each 250 ms, whichever replica does it.
    begun_at     timestamptz NOT NULL,
    refreshed_at timestamptz NOT NULL,
    -- Every transaction below it had ended when the payloads were read.
    seen_tx      xid8 NOT NULL,
    newest_id    uuid
) WITH (fillfactor = 80);
