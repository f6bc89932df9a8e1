-- Why an event from a source was not delivered to anybody; null: nothing is wrong with it.
ALTER TABLE events ADD COLUMN flag text;
ALTER TABLE events_kept ADD COLUMN flag text;

CREATE INDEX event_types_list ON event_types (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX event_types_changed ON event_types (config_version);
