-- Replicas follow what is written by its version; what a binding shows is known by transactions alone.
CREATE INDEX bindings_changed ON bindings (config_version);
ALTER TABLE binding_results DROP COLUMN newest_id;
