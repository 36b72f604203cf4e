-- What a store has sold lately: how many users took an item there, how many of them for the first
-- time. Empty for shops without stores.
WITH taken AS (
    SELECT
        user_id,
        item_id,
        store_id,
        days_ago,
        max(days_ago) OVER (PARTITION BY user_id, item_id) AS first_days
    FROM user_item_days
    WHERE taken
),

pairs AS (
    SELECT
        store_id,
        item_id,
        user_id,
        min(days_ago) AS last_days,
        count(*) FILTER (WHERE days_ago < 28) AS days_28,
        bool_or(days_ago = first_days AND days_ago < 28) AS is_new_28
    FROM taken
    WHERE store_id IS NOT NULL AND days_ago < 84
    GROUP BY store_id, item_id, user_id
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    store_id,
    item_id,
    CAST(sum(days_28) AS FLOAT) AS store_days_28,
    CAST(count(*) FILTER (WHERE last_days < 28) AS FLOAT) AS store_users_28,
    CAST(count(*) AS FLOAT) AS store_users_84,
    CAST(count(*) FILTER (WHERE is_new_28) AS FLOAT) AS store_new_users_28,
    CAST(min(last_days) AS FLOAT) AS store_last_days
FROM pairs
GROUP BY store_id, item_id
ORDER BY store_id, item_id
