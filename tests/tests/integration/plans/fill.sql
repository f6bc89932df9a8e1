-- A deployment that has been at work for a week: fifty tenants, one with half of all the work and one with next to
-- none; five hundred endpoints, one with a backlog; two replicas at work and one that died over its work.

CREATE FUNCTION hash_of(n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN md5(n::text);
CREATE FUNCTION id_of(kind int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
-- A UUIDv7 of that moment.
CREATE FUNCTION event_of(n bigint, at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(hash_of(n), 1, 3) || '8' || substr(hash_of(n), 4, 15))::uuid;

-- Who has what. Endpoint 0 is the busy one of tenant 1; endpoint 500 is the only one of the small tenant.
CREATE FUNCTION endpoint_of(n bigint) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN n % 5000 = 7 THEN 500 ELSE n % 500 END;
CREATE FUNCTION tenant_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN endpoint_of(n) = 500 THEN id_of(1, 99) WHEN endpoint_of(n) < 250 THEN '00000000-0000-0000-0000-000000000001'::uuid
                ELSE id_of(1, endpoint_of(n) % 49) END;

INSERT INTO tenants (id, name)
SELECT id_of(1, n), 'tenant-' || n FROM (SELECT generate_series(0, 48) UNION ALL SELECT 99) AS t (n);
INSERT INTO endpoints (id, tenant_id, name, display_name, labels, spec, state, disabled_reason, config_version,
                       created_version, create_time, update_time)
SELECT id_of(2, k), tenant_of(CASE k WHEN 500 THEN 7 ELSE k END), 'endpoint-' || k, '', '{}', '{}', 'enabled', '', k, k, now(), now()
  FROM generate_series(0, 500) AS k;
INSERT INTO sources (id, tenant_id, name, display_name, labels, spec, enabled, generation, config_version,
                     create_time, update_time)
SELECT id_of(3, k), tenant_of(CASE k WHEN 500 THEN 7 ELSE k END), 'source-' || k, '', '{}', '{}', true, 1, k, now(), now()
  FROM generate_series(0, 500) AS k;
INSERT INTO replicas (id, service, lease_until, dead_at)
VALUES (id_of(4, 1), 'dispatcher', now() + interval '1 hour', NULL),
       (id_of(4, 2), 'dispatcher', now() + interval '1 hour', NULL),
       (id_of(4, 3), 'dispatcher', now() - interval '3 hours', now() - interval '2 hours'),
       (id_of(4, 4), 'dispatcher', now() - interval '3 hours', now() - interval '2 hours');

-- What is noted of the tables stays as it was noted.
DO $$
DECLARE large regclass;
BEGIN
    FOR large IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', large);
    END LOOP;
END $$;

CREATE TABLE filled (n bigint, id uuid, at timestamptz);
-- As much of today as of each of the six days before, however early it is: a partition of a few rows is another plan. In
-- the newest 25 minutes fourteen events came a minute, as on the days before.
INSERT INTO filled
SELECT n, event_of(n, at), at
  FROM (SELECT n, CASE WHEN n <= past THEN midnight - (past - n) * (interval '6 days' / past)
                       WHEN n <= early THEN midnight + (n - past) * ((recently - midnight) / (early - past))
                       ELSE recently + (n - early) * (interval '25 minutes' / ({rows} - early)) END AS at
          FROM (SELECT midnight, greatest(now(), midnight + interval '1 hour') - interval '25 minutes' AS recently,
                       {rows} * 6 / 7 AS past, {rows} - 350 AS early
                  FROM date_trunc('day', now(), 'UTC') AS midnight) AS spans,
               generate_series(1, {rows}) AS n) AS moments;

-- Side by side.
INSERT INTO events (id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time, stray)
SELECT id, tenant_of(n), id_of(3, endpoint_of(n)), CASE WHEN n % 4000 = 0 THEN 'order.rare' ELSE 'order.created' END,
       CASE WHEN n % 3 = 0 THEN 'bot-' || n % 100 END, 'application/json', 'x-kept: yes', convert_to('{"n":' || n || '}', 'UTF8'), at,
       nullif(n % 60 = 0, false)
  FROM filled;
INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at, status, recorded_at, stray)
SELECT id, id_of(2, endpoint_of(n)), 0, id_of(5, n), tenant_of(n), 1, 'request',
       CASE n % 100 WHEN 97 THEN 'stale' WHEN 98 THEN 'dead' WHEN 99 THEN 'retry' ELSE 'delivered' END, at,
       CASE n % 100 WHEN 97 THEN 503 WHEN 98 THEN 410 WHEN 99 THEN 500 ELSE 200 END, at, nullif(n % 60 = 0, false)
  FROM filled;
-- Some were replayed, to two endpoints of their tenant, and it took two attempts.
INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at, status, recorded_at)
SELECT id, id_of(2, k), 1, id_of(9, n * 4 + k * 2 + attempt), tenant_of(0), attempt, 'request',
       CASE attempt WHEN 1 THEN 'retry' ELSE 'delivered' END, at, CASE attempt WHEN 1 THEN 502 ELSE 204 END, at
  FROM filled, generate_series(0, 1) AS k, generate_series(1, 2) AS attempt WHERE n % 100 = 5 AND tenant_of(n) = tenant_of(0);
-- Each waits for one more delivery: of tenant 1 every other one at the busy endpoint, and of the others a half is
-- not due yet.
INSERT INTO queue (endpoint_id, event_id, run, tenant_id, due_at, owner, attempt, priority)
SELECT CASE WHEN n % 2 = 0 AND tenant_of(n) = tenant_of(0) THEN id_of(2, 0) ELSE id_of(2, endpoint_of(n)) END, id, 0,
       tenant_of(n), now() + (n % 4 - 2) * interval '1 hour',
       CASE WHEN n % 40 = 1 THEN id_of(4, 1) WHEN n % 40 = 3 THEN id_of(4, 3) END, 1, (n % 3 = 0)::int
  FROM filled;
INSERT INTO dead_letters (event_id, endpoint_id, run, tenant_id, reason, attempt, died_at)
SELECT id, id_of(2, endpoint_of(n)), 0, tenant_of(n), CASE WHEN n % 1000 < 2 THEN 'gone' ELSE 'attempts_exhausted' END, 10, at
  FROM filled WHERE n % 2 = 1;
INSERT INTO dedup_keys (scope_id, key_hash, event_id, expires_at)
SELECT id_of(3, endpoint_of(n)), encode(substring(sha256(n::text::bytea) FOR 16), 'hex')::uuid, id, now() + (n % 100 - 1) * interval '1 hour' FROM filled;
INSERT INTO outbox (id, shard, class, event_ids, config_version, owner, created_at)
SELECT id_of(6, n / 5), 0, n / 5 % 2, array_agg(id), 1,
       CASE n / 5 % 10 WHEN 0 THEN id_of(4, 3) WHEN 1 THEN id_of(4, 1) WHEN 2 THEN id_of(4, 2) END, now() - interval '1 minute'
  FROM filled GROUP BY n / 5;
INSERT INTO rejections (id, tenant_id, source_id, code, message, method, path, headers, body, remote_addr)
SELECT id_of(7, n), tenant_of(n), id_of(3, endpoint_of(n)), 'signature_mismatch', '', 'POST', '/', '', '', '127.0.0.1'
  FROM generate_series(1, 12500) AS n;
INSERT INTO endpoint_health SELECT id_of(2, k), 3, now() - interval '1 minute' FROM generate_series(0, 500) AS k;
-- At the end.
ANALYZE;
