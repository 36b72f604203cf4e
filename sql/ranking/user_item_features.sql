-- A user's own history with an item: how often, how regularly, how lately, and whether it is due,
-- both in days and in the user's own trips. Only of those in `users`.
WITH trips AS (
    SELECT
        user_id,
        days_ago,
        row_number() OVER (PARTITION BY user_id ORDER BY days_ago) - 1 AS trips_ago
    FROM user_item_days
    WHERE taken AND user_id IN (SELECT user_id FROM users)
    GROUP BY user_id, days_ago
),

steps AS (
    SELECT
        d.user_id,
        d.item_id,
        d.days_ago,
        d.quantity,
        d.price,
        d.discount,
        t.trips_ago,
        lag(d.days_ago) OVER (PARTITION BY d.user_id, d.item_id ORDER BY d.days_ago DESC)
        - d.days_ago AS gap
    FROM user_item_days AS d
    INNER JOIN trips AS t ON d.user_id = t.user_id AND d.days_ago = t.days_ago
    WHERE d.taken
),

pairs AS (
    SELECT
        user_id,
        item_id,
        count(*) AS days,
        count(*) FILTER (WHERE days_ago < 14) AS days_14,
        count(*) FILTER (WHERE days_ago < 28) AS days_28,
        count(*) FILTER (WHERE days_ago < 84) AS days_84,
        count(*) FILTER (WHERE trips_ago < 5) AS in_last_5_trips,
        count(*) FILTER (WHERE trips_ago < 15) AS in_last_15_trips,
        sum(exp(-ln(2) * days_ago / 21.0)) AS decayed_21,
        sum(exp(-ln(2) * days_ago / 90.0)) AS decayed_90,
        sum(exp(-ln(2) * trips_ago / 10.0)) AS decayed_trips,
        min(days_ago) AS last_days,
        max(days_ago) AS first_days,
        min(trips_ago) AS last_trips,
        max(trips_ago) AS first_trips,
        median(gap) AS gap_median,
        stddev_samp(gap) AS gap_std,
        (max(trips_ago) - min(trips_ago)) / nullif(count(*) - 1.0, 0) AS gap_trips_mean,
        avg(quantity) AS quantity_mean,
        arg_min(price, days_ago) AS last_price,
        avg(CAST(discount > 0 AS INTEGER)) AS discount_share
    FROM steps
    GROUP BY user_id, item_id
),

signals AS (
    SELECT
        user_id,
        item_id,
        sum(signal) FILTER (WHERE days_ago < 28) AS signal_28,
        sum(signal) AS signal
    FROM user_item_days
    WHERE NOT taken AND user_id IN (SELECT user_id FROM users)
    GROUP BY user_id, item_id
),

ever AS (
    SELECT user_id, item_id, bool_or(counts_as_taken) AS seen
    FROM interactions_as_of($as_of)
    WHERE user_id IN (SELECT user_id FROM users)
    GROUP BY user_id, item_id
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    e.user_id,
    e.item_id,
    CAST(e.seen AS FLOAT) AS ui_seen,
    CAST(p.days AS FLOAT) AS ui_days,
    CAST(p.days_14 AS FLOAT) AS ui_days_14,
    CAST(p.days_28 AS FLOAT) AS ui_days_28,
    CAST(p.days_84 AS FLOAT) AS ui_days_84,
    CAST(p.in_last_5_trips AS FLOAT) AS ui_in_last_5_trips,
    CAST(p.in_last_15_trips AS FLOAT) AS ui_in_last_15_trips,
    CAST(p.decayed_21 AS FLOAT) AS ui_decayed_21,
    CAST(p.decayed_90 AS FLOAT) AS ui_decayed_90,
    CAST(p.decayed_trips AS FLOAT) AS ui_decayed_trips,
    CAST(p.last_days AS FLOAT) AS ui_last_days,
    CAST(p.last_trips AS FLOAT) AS ui_last_trips,
    CAST(p.days / (p.first_trips + 1.0) AS FLOAT) AS ui_trip_rate,
    CAST(p.gap_median AS FLOAT) AS ui_gap_median,
    CAST((p.first_days - p.last_days) / nullif(p.days - 1.0, 0) AS FLOAT) AS ui_gap_mean,
    CAST(p.gap_std AS FLOAT) AS ui_gap_std,
    CAST(p.gap_trips_mean AS FLOAT) AS ui_gap_trips_mean,
    CAST(p.last_days / nullif(p.gap_median, 0) AS FLOAT) AS ui_due_days,
    CAST(p.last_trips / nullif(p.gap_trips_mean, 0) AS FLOAT) AS ui_due_trips,
    CAST((p.days - 1) * $horizon_days / nullif(p.first_days + 14.0, 0) AS FLOAT)
        AS ui_expected_takes,
    CAST(p.quantity_mean AS FLOAT) AS ui_quantity_mean,
    CAST(p.last_price AS FLOAT) AS ui_last_price,
    CAST(p.discount_share AS FLOAT) AS ui_discount_share,
    CAST(s.signal_28 AS FLOAT) AS ui_signal_28,
    CAST(s.signal AS FLOAT) AS ui_signal
FROM ever AS e
LEFT JOIN signals AS s ON e.user_id = s.user_id AND e.item_id = s.item_id
LEFT JOIN pairs AS p ON e.user_id = p.user_id AND e.item_id = p.item_id
ORDER BY e.user_id, e.item_id
