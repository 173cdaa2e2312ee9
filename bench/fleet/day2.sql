-- What happens to the database until day 2.
SELECT setseed(0.17);
UPDATE orders SET status = 'shipped', amount = amount + 1 WHERE id > 1980000;
UPDATE orders SET status = 'returned' WHERE id IN (SELECT (random() * 1980000)::bigint FROM generate_series(1, 800));
DELETE FROM orders WHERE id BETWEEN 500000 AND 502000;
INSERT INTO orders
SELECT 2000000 + g, (random() * 200000)::int, now(), 'new', round((random() * 500)::numeric, 2), 'SKU-' || g,
	'fresh order ' || g, substr(md5(random()::text), 1, 16)
FROM generate_series(1, 15000) g;
CHECKPOINT;
