-- What Bowline has to tell about itself: written with what happened, handed to the journal afterwards.
CREATE TABLE own_events (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    event_type  text NOT NULL,
    body        bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

-- That it was disabled has been told: its next success is news.
ALTER TABLE endpoint_health ADD COLUMN told boolean NOT NULL DEFAULT false;
