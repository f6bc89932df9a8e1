-- Only what places are given away by is what a writer of the journal has to know before it commits: a change of an
-- ordered endpoint's URL or retries makes nobody look again.
DROP TRIGGER endpoints_ordered_changed ON endpoints;
CREATE TRIGGER endpoints_ordered_changed AFTER UPDATE ON endpoints FOR EACH ROW
    WHEN ((OLD.spec ? 'ordering' OR NEW.spec ? 'ordering')
          AND (OLD.spec -> 'ordering' IS DISTINCT FROM NEW.spec -> 'ordering'
               OR OLD.spec -> 'event_types' IS DISTINCT FROM NEW.spec -> 'event_types'
               OR OLD.spec -> 'channels' IS DISTINCT FROM NEW.spec -> 'channels'
               OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at))
    EXECUTE FUNCTION note_ordered_endpoint();
