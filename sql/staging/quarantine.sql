-- Rows of interactions files that are not used: refused at parsing, on an item the catalogue does
-- not list, or repeating an event id of an earlier row with other content. Rows of erased users are
-- not here: nothing of them is known but that they came.
WITH unknown_item AS (
    SELECT r.batch, r.file, r.row
    FROM raw_interactions AS r
    ANTI JOIN items AS i ON i.item_id = r.item_id
),
numbered AS (
    SELECT
        r.batch, r.file, r.row,
        row_number() OVER (PARTITION BY r.event_id ORDER BY r.file, r.batch, r.row) AS nth,
        (r.user_id, r.item_id, r.event_type, r.event_time, r.quantity)
        IS DISTINCT FROM
        first_value((r.user_id, r.item_id, r.event_type, r.event_time, r.quantity))
            OVER (PARTITION BY r.event_id ORDER BY r.file, r.batch, r.row) AS differs
    FROM raw_interactions AS r
),
conflicting AS (
    SELECT batch, file, row FROM numbered WHERE nth > 1 AND differs
)
SELECT batch, file, row, reject_field, reject_reason
FROM landed_rows
WHERE reject_reason <> 'erased'
UNION ALL
SELECT batch, file, row, 'item_id' AS reject_field, 'unknown item: not in the catalogue' AS reject_reason
FROM unknown_item
UNION ALL
SELECT
    c.batch, c.file, c.row, 'event_id' AS reject_field,
    'conflicting event: the same event id came earlier with other content' AS reject_reason
FROM conflicting AS c
ANTI JOIN unknown_item AS u ON u.batch = c.batch AND u.file = c.file AND u.row = c.row
ORDER BY batch, file, row
