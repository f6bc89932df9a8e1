-- Bulk work, deliveries asked for by hand, and tests.

-- Whoever works on an operation owns it for as long as that replica lives.
ALTER TABLE operations
    ADD COLUMN rate_per_second int NOT NULL DEFAULT 1000 CHECK (rate_per_second BETWEEN 1 AND 10000),
    ADD COLUMN error text NOT NULL DEFAULT '',
    ADD COLUMN end_time timestamptz;
CREATE INDEX operations_tenant ON operations (tenant_id, id);
CREATE INDEX operations_open ON operations (id) WHERE state IN ('pending', 'running');

-- A person asked for another try while a request was out: its failure is followed by one at once.
ALTER TABLE queue ADD COLUMN again boolean NOT NULL DEFAULT false;

-- -1 is a test: claimed by itself, past pause, breaker and order.
ALTER TABLE queue DROP CONSTRAINT queue_priority_check;
ALTER TABLE queue ADD CONSTRAINT queue_priority_check CHECK (priority BETWEEN -1 AND 1);
CREATE INDEX queue_tests ON queue (due_at) WHERE priority = -1 AND owner IS NULL;

-- An event that was made to test one endpoint: no other one gets it, and it is never replayed.
ALTER TABLE events ADD COLUMN test boolean NOT NULL DEFAULT false;
ALTER TABLE events_kept ADD COLUMN test boolean NOT NULL DEFAULT false;
