-- What each user took in the horizon, and whether it was new to them. Only pairs that were taken
-- have a row: a candidate without one is a negative. The only file that may look past the cutoff.
WITH history AS (
    SELECT DISTINCT user_id, item_id
    FROM interactions_as_of($as_of)
    WHERE counts_as_taken
),

taken AS (
    SELECT user_id, item_id, min(event_time) AS first_taken_at
    FROM interactions_in_horizon($as_of, $horizon_end)
    WHERE counts_as_taken AND polarity > 0
    GROUP BY user_id, item_id
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    t.user_id,
    t.item_id,
    TRUE AS taken,
    h.user_id IS NULL AS is_new,
    t.first_taken_at
FROM taken AS t
LEFT JOIN history AS h ON t.user_id = h.user_id AND t.item_id = h.item_id
ORDER BY t.user_id, t.item_id
