-- What a deleted source has received is let go; the source is looked at until that is done.
ALTER TABLE sources ADD COLUMN swept_at timestamptz;
CREATE INDEX sources_unswept ON sources (id) WHERE deleted_at IS NOT NULL AND swept_at IS NULL;
