-- A history of revisions of a shop: tables copied and swapped as in batch changes, types changed with USING, renames, data moved
-- between the changes, enums replaced by new ones, a domain.

CREATE TABLE version (num varchar(32) NOT NULL PRIMARY KEY);
CREATE TABLE customer (id serial PRIMARY KEY, full_name text NOT NULL, mail text, joined text);
CREATE TABLE orders (id serial PRIMARY KEY, customer integer, status varchar(10), total double precision, note text)

INSERT INTO version VALUES ('1975ea83b712');
INSERT INTO customer (full_name, mail, joined) SELECT 'First' || i || ' Last' || i, 'c' || i || '@example.org', '2024-0' || i || '-01' FROM generate_series(1, 8) i;
INSERT INTO orders (customer, status, total, note) SELECT i % 8 + 1, (ARRAY['new', 'paid', 'sent'])[i % 3 + 1], i * 1.25, NULL FROM generate_series(1, 12) i

ALTER TABLE customer ALTER COLUMN joined TYPE date USING joined::date;
UPDATE version SET num = '27c6a30d7c24'

ALTER TABLE orders ALTER COLUMN total TYPE numeric(12, 2) USING round(total::numeric, 2)

ALTER TABLE customer ADD COLUMN first_name text, ADD COLUMN last_name text

UPDATE customer SET first_name = split_part(full_name, ' ', 1), last_name = split_part(full_name, ' ', 2)

ALTER TABLE customer ALTER COLUMN last_name SET NOT NULL;
ALTER TABLE customer DROP COLUMN full_name

CREATE TYPE order_status AS ENUM ('new', 'paid', 'sent');
ALTER TABLE orders ALTER COLUMN status TYPE order_status USING status::order_status

UPDATE orders SET status = 'paid' WHERE status = 'new' AND id < 6

ALTER TYPE order_status RENAME TO order_status_old;
CREATE TYPE order_status AS ENUM ('draft', 'new', 'paid', 'sent', 'returned');
ALTER TABLE orders ALTER COLUMN status TYPE order_status USING status::text::order_status;
DROP TYPE order_status_old

UPDATE orders SET status = 'returned' WHERE id = 3

ALTER TABLE orders RENAME COLUMN customer TO customer_id;
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customer (id)

CREATE TABLE _batch_orders (id integer NOT NULL, customer_id integer NOT NULL, status order_status NOT NULL, total numeric(12, 2), currency char(3) NOT NULL DEFAULT 'EUR', PRIMARY KEY (id));
INSERT INTO _batch_orders (id, customer_id, status, total) SELECT id, customer_id, status, total FROM orders WHERE customer_id IS NOT NULL AND status IS NOT NULL;
DROP TABLE orders;
ALTER TABLE _batch_orders RENAME TO orders

INSERT INTO orders VALUES (100, 1, 'new', 9.99, 'SEK'), (101, 2, 'draft', NULL, 'EUR')

ALTER TABLE customer ALTER COLUMN mail TYPE text USING lower(mail)

ALTER TABLE customer RENAME COLUMN first_name TO swap;
ALTER TABLE customer RENAME COLUMN last_name TO first_name;
ALTER TABLE customer RENAME COLUMN swap TO last_name

CREATE DOMAIN money_amount AS numeric(14, 4) CHECK (VALUE IS NULL OR VALUE > -1000000);
ALTER TABLE orders ALTER COLUMN total TYPE money_amount

CREATE TABLE item (order_id integer NOT NULL REFERENCES orders (id) ON DELETE CASCADE, line smallint NOT NULL, sku text NOT NULL, price money_amount, PRIMARY KEY (order_id, line))

INSERT INTO item SELECT id, 1, 'SKU/' || id, total FROM orders;
INSERT INTO item SELECT id, 2, 'SKU "' || id || '"', NULL FROM orders WHERE id < 5

ALTER TABLE item DROP CONSTRAINT item_pkey;
ALTER TABLE item ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY;
ALTER TABLE item ADD UNIQUE (order_id, line)

ALTER TABLE item ALTER COLUMN sku TYPE integer USING length(sku)

ALTER TABLE item ALTER COLUMN sku TYPE text USING 'x","role":"admin' || sku

ALTER TABLE orders DROP COLUMN currency;
ALTER TABLE orders ADD COLUMN currency char(3) NOT NULL DEFAULT 'USD'

CREATE SCHEMA archive;
CREATE TABLE archive.orders AS SELECT * FROM orders WHERE status = 'sent';
ALTER TABLE archive.orders ADD PRIMARY KEY (id)

DELETE FROM orders WHERE status = 'sent'

ALTER TABLE item SET SCHEMA archive

ALTER TABLE orders RENAME TO swap;
ALTER TABLE archive.orders SET SCHEMA public;
ALTER TABLE swap SET SCHEMA archive;
ALTER TABLE archive.swap RENAME TO orders

DROP SCHEMA archive CASCADE

DROP TABLE version;
CREATE TABLE version (num varchar(32) NOT NULL PRIMARY KEY);
INSERT INTO version VALUES ('head')

TRUNCATE customer CASCADE
