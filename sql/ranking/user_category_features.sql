-- A user's history with what an item belongs to: its type (the full category path), the category
-- above it, its brand, its brand within its type, and its group of variants. One row per user,
-- level and value; an empty value means nothing and has no row. Only of those in `users`.
WITH paths AS (
    SELECT
        item_id,
        CASE
            WHEN category_3 <> '' THEN category_1 || '>' || category_2
            WHEN category_2 <> '' THEN category_1
            ELSE ''
        END AS category,
        rtrim(category_1 || '>' || category_2 || '>' || category_3, '>') AS type,
        brand,
        group_id
    FROM items
),

belongs AS (
    SELECT item_id, 'category' AS level, category AS value FROM paths
    UNION ALL
    SELECT item_id, 'type', type FROM paths
    UNION ALL
    SELECT item_id, 'brand', brand FROM paths
    UNION ALL
    SELECT item_id, 'brand_in_type', brand || '>' || type FROM paths WHERE brand <> ''
    UNION ALL
    SELECT item_id, 'group', group_id FROM paths
),

coded AS (
    SELECT
        item_id,
        level,
        value,
        CAST(dense_rank() OVER (ORDER BY level, value) AS INTEGER) AS code
    FROM belongs
    WHERE value <> ''
),

names AS (
    SELECT DISTINCT code, level, value FROM coded
),

firsts AS (
    SELECT user_id, item_id, max(days_ago) AS first_days
    FROM user_item_days
    WHERE taken AND user_id IN (SELECT user_id FROM users)
    GROUP BY user_id, item_id
),

days AS (
    SELECT
        d.user_id,
        c.code,
        d.days_ago,
        count(*) AS items,
        count(*) FILTER (WHERE d.days_ago = f.first_days) AS new_items,
        max(d.price) AS price
    FROM user_item_days AS d
    INNER JOIN firsts AS f ON d.user_id = f.user_id AND d.item_id = f.item_id
    INNER JOIN coded AS c ON d.item_id = c.item_id
    WHERE d.taken
    GROUP BY d.user_id, c.code, d.days_ago
),

history AS (
    SELECT
        user_id,
        code,
        count(*) AS days,
        count(*) FILTER (WHERE days_ago < 28) AS days_28,
        count(*) FILTER (WHERE days_ago < 84) AS days_84,
        sum(exp(-ln(2) * days_ago / 60.0)) AS decayed_60,
        sum(items * exp(-ln(2) * days_ago / 60.0)) AS decayed_items_60,
        min(days_ago) AS last_days,
        max(days_ago) AS first_days,
        sum(new_items) FILTER (WHERE days_ago < 28) AS new_items_28,
        sum(new_items) FILTER (WHERE days_ago < 84) AS new_items_84,
        avg(price) AS price
    FROM days
    GROUP BY user_id, code
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    h.user_id,
    n.level,
    n.value,
    CAST(h.days_28 AS FLOAT) AS days_28,
    CAST(h.days_84 AS FLOAT) AS days_84,
    CAST(h.decayed_60 AS FLOAT) AS decayed_60,
    CAST(h.decayed_items_60 AS FLOAT) AS decayed_items_60,
    CAST(h.last_days AS FLOAT) AS last_days,
    CAST((h.first_days - h.last_days) / nullif(h.days - 1.0, 0) AS FLOAT) AS gap_mean,
    CAST(h.last_days * (h.days - 1.0) / nullif(h.first_days - h.last_days, 0) AS FLOAT) AS due_days,
    CAST(h.new_items_28 AS FLOAT) AS new_items_28,
    CAST(h.new_items_84 AS FLOAT) AS new_items_84,
    CAST(h.price AS FLOAT) AS price
FROM history AS h
INNER JOIN names AS n ON h.code = n.code
ORDER BY h.user_id, h.code
