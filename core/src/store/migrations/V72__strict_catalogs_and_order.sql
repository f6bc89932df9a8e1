-- What of a source's events an ordered endpoint gets hangs on its tenant's catalog too: what a strict one lacks is for
-- nobody. So a change of that is one that a writer of the journal has to know before it commits.

CREATE FUNCTION note_strict_catalog() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A configuration write has raised the version, and holds this row.
    UPDATE config_state SET ordered_version = version WHERE id = 1;
    RETURN NULL;
END $$;
CREATE TRIGGER tenants_strictness_changed AFTER UPDATE ON tenants FOR EACH ROW
    WHEN (OLD.settings -> 'strict_event_catalog' IS DISTINCT FROM NEW.settings -> 'strict_event_catalog')
    EXECUTE FUNCTION note_strict_catalog();

-- The types of other tenants say nothing of what is delivered.
CREATE FUNCTION note_type_of_strict_catalog() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE config_state SET ordered_version = version
     WHERE id = 1 AND EXISTS (SELECT 1 FROM tenants
                               WHERE id = NEW.tenant_id AND (settings ->> 'strict_event_catalog')::boolean);
    RETURN NULL;
END $$;
CREATE TRIGGER event_types_added AFTER INSERT ON event_types FOR EACH ROW
    EXECUTE FUNCTION note_type_of_strict_catalog();
CREATE TRIGGER event_types_deleted AFTER UPDATE ON event_types FOR EACH ROW
    WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
    EXECUTE FUNCTION note_type_of_strict_catalog();
