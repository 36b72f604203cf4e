-- What a candidate's user did with it before: whether, on how many days, and how due it is again.
SELECT
    c.user_id,
    c.item_id,
    coalesce(h.ui_seen, 0) > 0 AS seen,
    h.ui_days AS times,
    h.ui_due_days AS due
FROM candidates AS c
LEFT JOIN user_item_features AS h ON h.user_id = c.user_id AND h.item_id = c.item_id
ORDER BY c.user_id, c.item_id
