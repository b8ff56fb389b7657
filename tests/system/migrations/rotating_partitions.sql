-- A table of events by month: partitions made ahead, a default one, old data attached, old months detached and dropped, columns added
-- to the root, and a key that is moved.

CREATE TABLE events (id bigint NOT NULL, at timestamptz NOT NULL, tenant integer NOT NULL, kind text NOT NULL, payload jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)

CREATE TABLE events_p2024_01 PARTITION OF events FOR VALUES FROM ('2024-01-01Z') TO ('2024-02-01Z');
CREATE TABLE events_p2024_02 PARTITION OF events FOR VALUES FROM ('2024-02-01Z') TO ('2024-03-01Z')

INSERT INTO events SELECT i, '2024-01-01Z'::timestamptz + i * interval '4 days', i % 3, 'click', '{"n": 1}' FROM generate_series(1, 14) i

CREATE TABLE events_p2024_03 (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE events ATTACH PARTITION events_p2024_03 FOR VALUES FROM ('2024-03-01Z') TO ('2024-04-01Z')

INSERT INTO events SELECT i, '2024-03-01Z'::timestamptz + i * interval '1 hour', i % 3, 'view', NULL FROM generate_series(100, 108) i

CREATE TABLE events_default PARTITION OF events DEFAULT

INSERT INTO events VALUES (200, '2031-01-01Z', 1, 'early', NULL), (201, '2019-01-01Z', 2, 'late', NULL)

UPDATE events SET at = at + interval '1 month' WHERE id IN (1, 2)

CREATE INDEX events_tenant ON events (tenant)

CREATE TABLE events_p2023_12 (payload jsonb, kind text NOT NULL, id bigint NOT NULL, tenant integer NOT NULL, at timestamptz NOT NULL);
INSERT INTO events_p2023_12 (id, at, tenant, kind) SELECT 300 + i, '2023-12-05Z'::timestamptz + i * interval '1 day', 1, 'archived' FROM generate_series(1, 5) i

ALTER TABLE events_p2023_12 ADD CONSTRAINT in_range CHECK (at >= '2023-12-01Z' AND at < '2024-01-01Z')

ALTER TABLE events ATTACH PARTITION events_p2023_12 FOR VALUES FROM ('2023-12-01Z') TO ('2024-01-01Z')

ALTER TABLE events_p2023_12 DROP CONSTRAINT in_range

UPDATE events SET kind = 'restored' WHERE at < '2023-12-08Z' AND at > '2023-12-01Z'

ALTER TABLE events DETACH PARTITION events_p2024_01

INSERT INTO events_p2024_01 VALUES (400, '2024-01-15Z', 1, 'after', NULL)

ALTER TABLE events ATTACH PARTITION events_p2024_01 FOR VALUES FROM ('2024-01-01Z') TO ('2024-02-01Z')

ALTER TABLE events ADD COLUMN source text NOT NULL DEFAULT 'web'

UPDATE events SET source = 'app' WHERE tenant = 1

TRUNCATE events_default

DROP TABLE events_p2023_12

CREATE TABLE events_p2024_04 PARTITION OF events FOR VALUES FROM ('2024-04-01Z') TO ('2024-05-01Z') PARTITION BY HASH (id);
CREATE TABLE events_p2024_04_0 PARTITION OF events_p2024_04 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_p2024_04_1 PARTITION OF events_p2024_04 FOR VALUES WITH (MODULUS 2, REMAINDER 1)

INSERT INTO events SELECT i, '2024-04-10Z', i % 3, 'buy', NULL, 'shop' FROM generate_series(500, 507) i

ALTER TABLE events ALTER COLUMN tenant TYPE bigint

ALTER TABLE events ALTER COLUMN kind TYPE varchar(40) USING upper(kind)

ANALYZE events

VACUUM (FULL) events_p2024_02

ALTER TABLE events DETACH PARTITION events_p2024_02;
DROP TABLE events_p2024_02

ALTER TABLE events DROP CONSTRAINT events_pkey;
ALTER TABLE events ADD PRIMARY KEY (tenant, id, at)

ALTER TABLE events RENAME TO events_old;
CREATE TABLE events (LIKE events_old INCLUDING ALL) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z')

INSERT INTO events SELECT 600 + i, '2025-05-05Z', i, 'NEW', NULL, 'web' FROM generate_series(1, 4) i

DROP TABLE events_old CASCADE
