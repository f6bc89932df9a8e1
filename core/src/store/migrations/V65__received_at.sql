-- When the event of this id was received: the milliseconds that a UUIDv7 begins with (RFC 9562, 5.7).
CREATE FUNCTION received_at(event_id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT to_timestamp(('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0::float8) $$;
-- What waits for the first time began to wait when its event came: an attempt that was put off is no new
-- budget. Only a redrive, a retry by hand and a replay begin one.
