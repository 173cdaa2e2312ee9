-- The database of day 1: two million orders, a key and an index.
SELECT setseed(0.42);
CREATE TABLE words(i int PRIMARY KEY, w text);
INSERT INTO words
SELECT g, substr(md5((g % 1500)::text), 1, 2 + g % 6) || (ARRAY['ing', 'er', 's', 'tion', 'al', 'able'])[1 + g % 6]
FROM generate_series(0, 1999) g;
CREATE TABLE orders(id bigint, customer int, created timestamptz, status text, amount numeric(10,2), sku text, note text, token text);
INSERT INTO orders
SELECT g, (random() * 200000)::int, '2024-01-01'::timestamptz + g * interval '13 seconds',
	(ARRAY['new', 'paid', 'shipped', 'returned'])[1 + (random() * 3)::int],
	round((random() * 500)::numeric, 2),
	'SKU-' || lpad((random() * 50000)::int::text, 6, '0'),
	(SELECT string_agg(w, ' ') FROM words WHERE i BETWEEN (g * 37) % 1990 AND (g * 37) % 1990 + 3 + g % 4),
	substr(md5(random()::text), 1, 16)
FROM generate_series(1, 2000000) g;
ALTER TABLE orders ADD PRIMARY KEY(id);
CREATE INDEX orders_customer ON orders(customer);
CHECKPOINT;
