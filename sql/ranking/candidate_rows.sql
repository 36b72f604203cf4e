-- Candidates with what decides whether a label window learns from them: whether the user had taken
-- the item before, whether they took it in the horizon and within its first days, and a draw in
-- [0, 1000000) made of the ids alone, so that a sample is the same everywhere and does not depend on
-- the other rows.
SELECT
    c.user_id,
    c.item_id,
    coalesce(h.ui_seen, 0) > 0 AS seen,
    coalesce(l.taken, FALSE) AS taken,
    coalesce(
        l.first_taken_at < CAST($as_of AS TIMESTAMPTZ) + to_days(CAST($soon_days AS INTEGER)), FALSE
    ) AS taken_soon,
    CAST(
        md5_number_lower(
            c.user_id || '|' || c.item_id || '|' || CAST(epoch_us($as_of) AS VARCHAR)
            || '|' || CAST($seed AS VARCHAR)
        ) % 1000000 AS INTEGER
    ) AS draw
FROM candidates AS c
LEFT JOIN labels AS l ON c.user_id = l.user_id AND c.item_id = l.item_id
LEFT JOIN user_item_features AS h ON c.user_id = h.user_id AND c.item_id = h.item_id
ORDER BY c.user_id, c.item_id
