-- A schema is kept as it was given: as jsonb its numbers could grow, and some strings could not be stored.
ALTER TABLE event_types ALTER COLUMN json_schema TYPE json;

CREATE INDEX event_types_list ON event_types (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX event_types_changed ON event_types (config_version);
-- The snapshot learns of strict catalogs by it.
CREATE INDEX tenants_changed ON tenants (config_version);

-- Why an event from a source was not delivered to anybody; null: nothing is wrong with it.
ALTER TABLE events ADD COLUMN flag text;
ALTER TABLE events_kept ADD COLUMN flag text;
