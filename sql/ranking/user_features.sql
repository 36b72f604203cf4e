-- What is known about a user on their own: how often they come, how much they take, how much of it
-- is new to them, how they respond to discounts, and which store is theirs.
WITH taken AS (
    SELECT * FROM user_item_days WHERE taken
),

firsts AS (
    SELECT user_id, item_id, max(days_ago) AS days_ago FROM taken GROUP BY user_id, item_id
),

new_items AS (
    SELECT
        user_id,
        count(*) FILTER (WHERE days_ago < 28) AS new_28,
        count(*) FILTER (WHERE days_ago < 84) AS new_84,
        count(*) AS items_known
    FROM firsts
    GROUP BY user_id
),

trips AS (
    SELECT
        user_id,
        days_ago,
        count(*) AS items,
        sum(value) AS value,
        avg(CAST(discount > 0 AS INTEGER)) AS discounted,
        lag(days_ago) OVER (PARTITION BY user_id ORDER BY days_ago DESC) - days_ago AS gap
    FROM taken
    GROUP BY user_id, days_ago
),

habits AS (
    SELECT
        user_id,
        count(*) FILTER (WHERE days_ago < 7) AS trips_7,
        count(*) FILTER (WHERE days_ago < 28) AS trips_28,
        count(*) FILTER (WHERE days_ago < 84) AS trips_84,
        min(days_ago) AS last_days,
        coalesce(sum(items) FILTER (WHERE days_ago < 28), 0) AS takes_28,
        coalesce(sum(items) FILTER (WHERE days_ago < 84), 0) AS takes_84,
        avg(items) FILTER (WHERE days_ago < 84) AS items_per_trip,
        avg(value) FILTER (WHERE days_ago < 84) AS value_per_trip,
        avg(gap) FILTER (WHERE days_ago < 84) AS trip_gap_mean,
        avg(discounted) FILTER (WHERE days_ago < 84) AS discount_share_84
    FROM trips
    GROUP BY user_id
),

stores AS (
    SELECT user_id, store_id, count(*) AS takes, min(days_ago) AS last_days
    FROM taken
    WHERE days_ago < 84 AND store_id IS NOT NULL
    GROUP BY user_id, store_id
),

usual_stores AS (
    SELECT
        user_id,
        store_id,
        takes / sum(takes) OVER (PARTITION BY user_id) AS share
    FROM stores
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY takes DESC, last_days, store_id) = 1
),

prices AS (
    SELECT user_id, median(price) AS price FROM taken WHERE days_ago < 84 GROUP BY user_id
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    u.user_id,
    s.store_id AS usual_store_id,
    CAST(coalesce(h.trips_7, 0) AS FLOAT) AS user_trips_7,
    CAST(coalesce(h.trips_28, 0) AS FLOAT) AS user_trips_28,
    CAST(coalesce(h.trips_84, 0) AS FLOAT) AS user_trips_84,
    CAST((coalesce(h.trips_28, 0) + 1) / (coalesce(h.trips_84, 0) / 3.0 + 1) AS FLOAT)
        AS user_trend_28_84,
    CAST(h.last_days AS FLOAT) AS user_last_days,
    CAST(coalesce(h.takes_28, 0) AS FLOAT) AS user_takes_28,
    CAST(coalesce(h.takes_84, 0) AS FLOAT) AS user_takes_84,
    CAST(h.items_per_trip AS FLOAT) AS user_items_per_trip,
    CAST(h.value_per_trip AS FLOAT) AS user_value_per_trip,
    CAST(h.trip_gap_mean AS FLOAT) AS user_trip_gap_mean,
    CAST(h.discount_share_84 AS FLOAT) AS user_discount_share_84,
    CAST(coalesce(n.items_known, 0) AS FLOAT) AS user_items_known,
    CAST(n.new_28 / nullif(h.takes_28, 0) AS FLOAT) AS user_new_share_28,
    CAST(n.new_84 / nullif(h.takes_84, 0) AS FLOAT) AS user_new_share_84,
    CAST(p.price AS FLOAT) AS user_price_median,
    CAST(s.share AS FLOAT) AS user_store_share
FROM users AS u
LEFT JOIN habits AS h ON u.user_id = h.user_id
LEFT JOIN new_items AS n ON u.user_id = n.user_id
LEFT JOIN usual_stores AS s ON u.user_id = s.user_id
LEFT JOIN prices AS p ON u.user_id = p.user_id
ORDER BY u.user_id
