-- The whole schema. Ids are UUIDv7; bodies and headers are bytea: the exact bytes.
-- `config_version` marks rows that every process keeps in memory.

CREATE TABLE config_state (
    id      int PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL
);
INSERT INTO config_state VALUES (1, 0);

-- Configuration ---------------------------------------------------------------------------------

CREATE TABLE tenants (
    id             uuid PRIMARY KEY,
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    display_name   text NOT NULL DEFAULT '',
    labels         jsonb NOT NULL DEFAULT '{}',
    settings       jsonb NOT NULL DEFAULT '{}',
    config_version bigint NOT NULL DEFAULT 0,
    create_time    timestamptz NOT NULL DEFAULT now(),
    update_time    timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz
);
CREATE UNIQUE INDEX tenants_name ON tenants (name) WHERE deleted_at IS NULL;
INSERT INTO tenants (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'default');

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    tenant_id    uuid REFERENCES tenants,
    name         text NOT NULL DEFAULT '',
    role         text NOT NULL CHECK (role IN ('admin', 'operator', 'publisher', 'viewer')),
    key_hash     bytea NOT NULL UNIQUE,
    create_time  timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE TABLE event_types (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    description    text NOT NULL DEFAULT '',
    json_schema    jsonb,
    labels         jsonb NOT NULL DEFAULT '{}',
    config_version bigint NOT NULL,
    create_time    timestamptz NOT NULL DEFAULT now(),
    update_time    timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz
);
CREATE UNIQUE INDEX event_types_name ON event_types (tenant_id, name) WHERE deleted_at IS NULL;

CREATE TABLE sources (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    name           text NOT NULL,
    display_name   text NOT NULL,
    labels         jsonb NOT NULL,
    path           text CHECK (path LIKE '/%'),
    spec           jsonb NOT NULL,
    enabled        boolean NOT NULL,
    generation     bigint NOT NULL,
    config_version bigint NOT NULL,
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    deleted_at     timestamptz
);
CREATE UNIQUE INDEX sources_name ON sources (tenant_id, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX sources_path ON sources (path) WHERE deleted_at IS NULL;
CREATE INDEX sources_list ON sources (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX sources_changed ON sources (config_version);

CREATE TABLE endpoints (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL REFERENCES tenants,
    name            text NOT NULL,
    display_name    text NOT NULL,
    labels          jsonb NOT NULL,
    spec            jsonb NOT NULL,
    state           text NOT NULL CHECK (state IN ('enabled', 'paused', 'disabled')),
    disabled_reason text NOT NULL,
    config_version  bigint NOT NULL,
    created_version bigint NOT NULL CHECK (created_version <= config_version),
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL,
    deleted_at      timestamptz
);
CREATE UNIQUE INDEX endpoints_name ON endpoints (tenant_id, name) WHERE deleted_at IS NULL;
CREATE INDEX endpoints_list ON endpoints (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX endpoints_changed ON endpoints (config_version);

-- Sealed with AES-256-GCM; several live ones per owner during a rotation's overlap.
CREATE TABLE secrets (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    owner_id       uuid NOT NULL,
    name           text NOT NULL,
    key_id         text NOT NULL,
    sealed         bytea NOT NULL,
    create_time    timestamptz NOT NULL,
    expires_at     timestamptz,
    config_version bigint NOT NULL
);
CREATE INDEX secrets_owner ON secrets (owner_id, id);
CREATE INDEX secrets_changed ON secrets (config_version);

CREATE TABLE bindings (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    source_id      uuid NOT NULL,
    name           text NOT NULL,
    display_name   text NOT NULL,
    labels         jsonb NOT NULL,
    spec           jsonb NOT NULL,
    config_version bigint NOT NULL,
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    deleted_at     timestamptz
);
CREATE UNIQUE INDEX bindings_name ON bindings (tenant_id, name) WHERE deleted_at IS NULL;

-- Ingest ----------------------------------------------------------------------------------------

-- A day each, by the time inside the id; made days ahead, no DEFAULT partition.
CREATE TABLE events (
    id           uuid NOT NULL,
    tenant_id    uuid NOT NULL,
    source_id    uuid,
    event_type   text NOT NULL,
    channel      text,
    content_type text NOT NULL,
    headers      bytea NOT NULL,
    body         bytea NOT NULL,
    create_time  timestamptz NOT NULL,
    tx           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX events_tenant ON events (tenant_id, id);
CREATE INDEX events_source ON events (source_id, id) WHERE source_id IS NOT NULL;

-- Claimed in the transaction that stores the event, never before (invariant 6).
CREATE TABLE dedup_keys (
    scope_id    uuid NOT NULL,
    key_hash    bytea NOT NULL CHECK (length(key_hash) = 32),
    event_id    uuid NOT NULL,
    fingerprint bytea,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (scope_id, key_hash)
);
CREATE INDEX dedup_keys_expiry ON dedup_keys (expires_at);

-- A row a chunk; lives until its events are settled. `owner` is never set back to NULL.
CREATE TABLE outbox (
    id             uuid PRIMARY KEY,
    shard          smallint NOT NULL CHECK (shard >= 0),
    class          smallint NOT NULL CHECK (class IN (0, 1)),
    event_ids      uuid[] NOT NULL CHECK (cardinality(event_ids) BETWEEN 1 AND 64),
    config_version bigint NOT NULL,
    owner          uuid,
    takeovers      int NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_unowned ON outbox (class, id) WHERE owner IS NULL;
CREATE INDEX outbox_owner ON outbox (owner, id) WHERE owner IS NOT NULL;

CREATE TABLE rejections (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    source_id   uuid NOT NULL,
    code        text NOT NULL,
    message     text NOT NULL,
    method      text NOT NULL,
    path        text NOT NULL,
    headers     bytea NOT NULL,
    body        bytea NOT NULL,
    remote_addr text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rejections_source ON rejections (source_id, id);

-- Dispatcher ------------------------------------------------------------------------------------

-- One life of one process. Only `dead_at`, or absence, ends it.
CREATE TABLE replicas (
    id             uuid PRIMARY KEY,
    service        text NOT NULL,
    lease_until    timestamptz NOT NULL,
    dead_at        timestamptz,
    config_version bigint NOT NULL DEFAULT 0,
    started_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX replicas_live ON replicas (lease_until) WHERE dead_at IS NULL;

-- A row a decision, in the partition of its event.
CREATE TABLE attempts (
    event_id         uuid NOT NULL,
    endpoint_id      uuid NOT NULL,
    run              int NOT NULL CHECK (run >= 0),
    attempt_id       uuid NOT NULL,
    tenant_id        uuid NOT NULL,
    attempt          int NOT NULL CHECK (attempt >= 0),
    kind             text NOT NULL CHECK (kind IN ('request', 'refused', 'cancelled', 'expired')),
    decision         text NOT NULL CHECK (decision IN ('delivered', 'retry', 'dead', 'cancelled', 'expired', 'stale')),
    started_at       timestamptz NOT NULL,
    duration_us      bigint,
    url              text,
    request_headers  bytea,
    status           smallint,
    response_headers bytea,
    response_body    bytea,
    error_kind       text,
    error_message    text,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    tx               xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (event_id, endpoint_id, run, attempt_id),
    CHECK (decision <> 'delivered' OR status BETWEEN 200 AND 299)
) PARTITION BY RANGE (event_id);
CREATE INDEX attempts_endpoint ON attempts (endpoint_id, event_id);
CREATE INDEX attempts_failed ON attempts (tenant_id, event_id) WHERE decision <> 'delivered';

-- Small and hot: a row only while a delivery waits, or is out and was parked.
-- `attempt` counts attempts so far; `priority` 0 goes first.
CREATE TABLE queue (
    endpoint_id uuid NOT NULL,
    event_id    uuid NOT NULL,
    run         int NOT NULL CHECK (run >= 0),
    tenant_id   uuid NOT NULL,
    due_at      timestamptz NOT NULL,
    owner       uuid,
    attempt     int NOT NULL CHECK (attempt >= 0),
    budget_from timestamptz NOT NULL DEFAULT now(),
    priority    smallint NOT NULL DEFAULT 0 CHECK (priority IN (0, 1)),
    seq         bigint,
    PRIMARY KEY (event_id, endpoint_id, run)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX queue_waiting ON queue (endpoint_id, priority, due_at) WHERE owner IS NULL;
CREATE INDEX queue_owner ON queue (owner) WHERE owner IS NOT NULL;

CREATE TABLE channels (
    endpoint_id uuid NOT NULL,
    channel     text NOT NULL,
    tail        bigint NOT NULL DEFAULT 0,
    due_at      timestamptz,
    owner       uuid,
    PRIMARY KEY (endpoint_id, channel)
);

CREATE TABLE endpoint_health (
    endpoint_id   uuid PRIMARY KEY,
    failures      int NOT NULL CHECK (failures >= 0),
    failing_since timestamptz
);

CREATE TABLE dead_letters (
    event_id    uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    run         int NOT NULL,
    tenant_id   uuid NOT NULL,
    reason      text NOT NULL,
    attempt     int NOT NULL,
    died_at     timestamptz NOT NULL,
    PRIMARY KEY (event_id, endpoint_id, run)
);
CREATE INDEX dead_letters_tenant ON dead_letters (tenant_id, event_id);
CREATE INDEX dead_letters_endpoint ON dead_letters (endpoint_id, event_id);

-- What waiting and dead deliveries still need from partitions that retention has taken away.
CREATE TABLE events_kept (LIKE events INCLUDING DEFAULTS, PRIMARY KEY (id));
CREATE TABLE attempts_kept (LIKE attempts INCLUDING DEFAULTS, PRIMARY KEY (event_id, endpoint_id, run, attempt_id));

-- Management ------------------------------------------------------------------------------------

CREATE TABLE operations (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    kind        text NOT NULL,
    state       text NOT NULL CHECK (state IN ('pending', 'running', 'done', 'failed', 'cancelled')),
    request     jsonb NOT NULL,
    progress    jsonb NOT NULL DEFAULT '{}',
    owner       uuid,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE request_ids (
    tenant_id   uuid NOT NULL,
    method      text NOT NULL,
    request_id  text NOT NULL,
    fingerprint bytea NOT NULL,
    resource_id uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, method, request_id)
);

CREATE TABLE binding_results (
    binding_id  uuid PRIMARY KEY,
    result      jsonb NOT NULL,
    refreshed_at timestamptz NOT NULL
);

CREATE TABLE stats_minute (
    minute     timestamptz NOT NULL,
    replica_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    metric     text NOT NULL,
    value      bigint NOT NULL,
    PRIMARY KEY (minute, subject_id, metric, replica_id)
);

CREATE TABLE audit_log (
    id          uuid PRIMARY KEY,
    tenant_id   uuid,
    actor       text NOT NULL,
    action      text NOT NULL,
    resource    text NOT NULL,
    request_id  text NOT NULL,
    call_id     text NOT NULL,
    outcome     text NOT NULL,
    create_time timestamptz NOT NULL
);
