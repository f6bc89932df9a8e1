-- Ordered delivery. An ordered row of `queue` has a place (`seq`) in its channel and no owner of its own:
-- who owns the row of `channels` sends them, the lowest first, one at a time.

-- The version at which the ordered endpoints, of whichever tenant, changed last. The journal commits a row
-- only if its writer knew them as they are. Kept here, so that nobody who writes an endpoint can forget it.
ALTER TABLE config_state ADD COLUMN ordered_version bigint NOT NULL DEFAULT 0;

CREATE FUNCTION note_ordered_endpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A configuration write has raised the version, and holds this row.
    UPDATE config_state SET ordered_version = version WHERE id = 1;
    RETURN NULL;
END $$;
CREATE TRIGGER endpoints_ordered_added AFTER INSERT ON endpoints FOR EACH ROW
    WHEN (NEW.spec ? 'ordering') EXECUTE FUNCTION note_ordered_endpoint();
CREATE TRIGGER endpoints_ordered_changed AFTER UPDATE ON endpoints FOR EACH ROW
    WHEN ((OLD.spec ? 'ordering' OR NEW.spec ? 'ordering')
          AND (OLD.spec IS DISTINCT FROM NEW.spec OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at))
    EXECUTE FUNCTION note_ordered_endpoint();

-- `tail` is the last place given away; below `head` nothing waits. `due_at` is when to look at the channel:
-- NULL while nothing waits, and earlier than need be does no harm. `holds` counts claims, so that a release
-- that is repeated frees no later claim of the same owner.
ALTER TABLE channels
    ADD COLUMN head bigint NOT NULL DEFAULT 0,
    ADD COLUMN holds bigint NOT NULL DEFAULT 0;
ALTER TABLE channels SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
                          autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX channels_due ON channels (endpoint_id, due_at) WHERE owner IS NULL AND due_at IS NOT NULL;
CREATE INDEX channels_owner ON channels (owner) WHERE owner IS NOT NULL;

-- Priority -2 stands apart from what is claimed row by row, in its index as well.
ALTER TABLE queue ADD COLUMN channel text;
ALTER TABLE queue DROP CONSTRAINT queue_priority_check;
ALTER TABLE queue ADD CONSTRAINT queue_priority_check CHECK (priority BETWEEN -2 AND 1);
ALTER TABLE queue ADD CONSTRAINT queue_ordered_check
    CHECK ((seq IS NULL) = (channel IS NULL) AND (seq IS NULL) = (priority <> -2) AND (seq IS NULL OR owner IS NULL));
CREATE UNIQUE INDEX queue_ordered ON queue (endpoint_id, channel, seq) WHERE seq IS NOT NULL;

-- The events of the chunk that are in the queue as ordered already, then the endpoint of each.
ALTER TABLE outbox ADD COLUMN ordered uuid[];
