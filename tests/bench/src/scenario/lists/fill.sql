-- One day of the log, made apart and then attached, as the service makes a day: so the indexes are built from rows
-- that are there, which takes a tenth of the time. {day} is the day, {number} its number, {events} how many there are.

SET synchronous_commit = off;
SET maintenance_work_mem = '256MB';

-- What chance says of each event: three numbers, and a random end of its id.
CREATE UNLOGGED TABLE drawn_{day} AS
SELECT at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid AS id,
       ('x' || substr(hash, 1, 7))::bit(28)::int AS a,
       ('x' || substr(hash, 8, 7))::bit(28)::int AS b,
       ('x' || substr(hash, 15, 7))::bit(28)::int AS c
  FROM (SELECT '{start}'::timestamptz + n * interval '1 day' / {events} AS at,
               md5(({number}::bigint * {events} + n)::text) AS hash
          FROM generate_series(0::bigint, {events} - 1) AS n) AS drawn;

CREATE TABLE events_p{day} (LIKE events INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO events_p{day} (id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time)
SELECT id, '{tenant}', '{source}',
       CASE WHEN a % 500 = 0 THEN '{rare}' WHEN a % 5 < 3 THEN '{common}' ELSE 'order.updated' END,
       CASE WHEN b % 300 = 0 THEN '{channel}' WHEN b % 3 < 2 THEN 'shop-' || 1000 + b % 1000 END,
       'application/json', 'user-agent: shop', convert_to('{"order":' || a || ',"total":' || b || '}', 'UTF8'), at
  FROM drawn_{day};

-- Each goes to two endpoints: one of a half of them, and as often as not to the busy one, or one of the other half.
CREATE TABLE attempts_p{day} (LIKE attempts INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO attempts_p{day} (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at,
                             duration_us, url, request_headers, status, response_headers, response_body, recorded_at)
SELECT d.id, s.id, 0, d.id, '{tenant}', 1, 'request',
       CASE d.fate WHEN 0 THEN 'dead' WHEN 1 THEN 'dead' WHEN 2 THEN 'retry' WHEN 3 THEN 'retry' ELSE 'delivered' END,
       d.at, 2000 + d.a % 90000, 'https://receiver.example/hook',
       'webhook-timestamp: 1700000000, webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
       CASE WHEN d.fate < 2 AND d.c / 512 % 10 = 0 THEN 410 WHEN d.fate < 2 THEN 500 WHEN d.fate < 4 THEN 503 ELSE 200 END,
       'content-type: text/plain, content-length: 2', 'ok', d.at + interval '50 ms'
  FROM (SELECT *, (b / 1024 + j * 97) % 400 AS fate,
               CASE WHEN j = 0 THEN 1 + c % ({endpoints} / 2 - 1)
                    WHEN a / 16 % 2 = 0 THEN 0 ELSE {endpoints} / 2 + c % ({endpoints} / 2) END AS k
          FROM drawn_{day} CROSS JOIN generate_series(0, 1) AS j) AS d
  JOIN spread AS s ON s.k = d.k;

INSERT INTO queue (endpoint_id, event_id, run, tenant_id, due_at, attempt, priority, budget_from)
SELECT endpoint_id, event_id, run, tenant_id, now() + interval '1 hour', attempt, 1, started_at
  FROM attempts_p{day} WHERE decision = 'retry';
INSERT INTO dead_letters (event_id, endpoint_id, run, tenant_id, reason, attempt, died_at)
SELECT event_id, endpoint_id, run, tenant_id, CASE status WHEN 410 THEN 'gone' ELSE 'attempts_exhausted' END, attempt,
       recorded_at
  FROM attempts_p{day} WHERE decision = 'dead';
DROP TABLE drawn_{day};

-- Makes the indexes.
ALTER TABLE events ATTACH PARTITION events_p{day} FOR VALUES FROM ('{first}') TO ('{last}');
ALTER TABLE attempts ATTACH PARTITION attempts_p{day} FOR VALUES FROM ('{first}') TO ('{last}');
