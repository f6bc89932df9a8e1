-- What a second verification of a rejection would need and was not kept; empty: it can be verified again.
-- The event it became then is named before it is committed, so that there is one however often it is tried.
ALTER TABLE rejections
    ADD COLUMN left_out       text NOT NULL DEFAULT '',
    ADD COLUMN event_id       uuid,
    ADD COLUMN reprocessed_at timestamptz;
