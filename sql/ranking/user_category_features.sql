-- A user's history with what an item belongs to: its category path, its brand, its brand within its
-- type, and its group of variants. One row per user, level and value; empty values mean nothing.
WITH taken AS (
    SELECT
        d.user_id,
        d.item_id,
        d.days_ago,
        i.category_2,
        i.category_3,
        i.brand,
        i.group_id,
        max(d.days_ago) OVER (PARTITION BY d.user_id, d.item_id) = d.days_ago AS is_first
    FROM user_item_days AS d
    INNER JOIN items AS i ON d.item_id = i.item_id
    WHERE d.taken
),

levels AS (
    SELECT user_id, 'category_2' AS level, category_2 AS value, days_ago,
        count(*) AS items, count(*) FILTER (WHERE is_first) AS new_items
    FROM taken WHERE category_2 <> '' GROUP BY user_id, category_2, days_ago
    UNION ALL
    SELECT user_id, 'category_3', category_2 || '>' || category_3, days_ago,
        count(*), count(*) FILTER (WHERE is_first)
    FROM taken WHERE category_3 <> '' GROUP BY user_id, category_2, category_3, days_ago
    UNION ALL
    SELECT user_id, 'brand', brand, days_ago,
        count(*), count(*) FILTER (WHERE is_first)
    FROM taken WHERE brand <> '' GROUP BY user_id, brand, days_ago
    UNION ALL
    SELECT user_id, 'brand_in_type', brand || '>' || category_2 || '>' || category_3, days_ago,
        count(*), count(*) FILTER (WHERE is_first)
    FROM taken WHERE brand <> '' AND category_2 <> ''
    GROUP BY user_id, brand, category_2, category_3, days_ago
    UNION ALL
    SELECT user_id, 'group', group_id, days_ago,
        count(*), count(*) FILTER (WHERE is_first)
    FROM taken WHERE group_id <> '' GROUP BY user_id, group_id, days_ago
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    user_id,
    level,
    value,
    CAST(count(*) FILTER (WHERE days_ago < 28) AS FLOAT) AS days_28,
    CAST(count(*) FILTER (WHERE days_ago < 84) AS FLOAT) AS days_84,
    CAST(sum(exp(-ln(2) * days_ago / 60.0)) AS FLOAT) AS decayed_60,
    CAST(sum(items * exp(-ln(2) * days_ago / 60.0)) AS FLOAT) AS decayed_items_60,
    CAST(min(days_ago) AS FLOAT) AS last_days,
    CAST((max(days_ago) - min(days_ago)) / nullif(count(*) - 1.0, 0) AS FLOAT) AS gap_mean,
    CAST(min(days_ago) * (count(*) - 1.0) / nullif(max(days_ago) - min(days_ago), 0) AS FLOAT)
        AS due_days,
    CAST(sum(new_items) FILTER (WHERE days_ago < 28) AS FLOAT) AS new_items_28,
    CAST(sum(new_items) FILTER (WHERE days_ago < 84) AS FLOAT) AS new_items_84
FROM levels
GROUP BY user_id, level, value
ORDER BY user_id, level, value
