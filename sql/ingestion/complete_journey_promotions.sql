-- Of a line per product, week and store: one row per product, week and kind, with the share of that
-- week's stores. A product can stand on several displays of one store.
WITH stores AS (
    SELECT
        week,
        count(DISTINCT store_id) AS n
    FROM promotions
    GROUP BY week
),

put AS (
    SELECT product_id, week, 'display' AS kind, count(DISTINCT store_id) AS n
    FROM promotions
    WHERE display_location <> '0'
    GROUP BY product_id, week
    UNION ALL
    SELECT product_id, week, 'feature' AS kind, count(DISTINCT store_id) AS n
    FROM promotions
    WHERE mailer_location <> '0'
    GROUP BY product_id, week
)

SELECT
    CAST(p.product_id AS VARCHAR) AS item_id,
    p.kind,
    CAST(p.week AS INTEGER) AS week,
    p.n / s.n AS reach
FROM put AS p
INNER JOIN stores AS s ON p.week = s.week
ORDER BY item_id, p.kind, week
