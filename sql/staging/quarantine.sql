-- Rows of interactions files that are not used: refused at parsing, on an item the catalogue does
-- not list, or repeating an event id of an earlier row with other content. Rows of erased users are
-- not here: nothing of them is known but that they came.
WITH unknown_item AS (
    SELECT r.batch, r.file, r.row
    FROM raw_interactions AS r
    ANTI JOIN items AS i ON i.item_id = r.item_id
),
repeated AS (
    SELECT
        r.batch, r.file, r.row, r.event_id,
        -- All that an event says, but for the currency, which may be the shop's default.
        (
            r.user_id, r.item_id, r.event_type, r.event_time, r.quantity, r.value, r.session_id,
            r.weight, r.store_id, r.price, r.discount, r.context
        ) AS content
    FROM raw_interactions AS r
    ANTI JOIN unknown_item AS u ON u.batch = r.batch AND u.file = r.file AND u.row = r.row
    WHERE r.event_id IN (SELECT event_id FROM raw_interactions GROUP BY event_id HAVING count(*) > 1)
),
conflicting AS (
    SELECT batch, file, row
    FROM repeated
    QUALIFY content IS DISTINCT FROM
        first_value(content) OVER (PARTITION BY event_id ORDER BY file, batch, row)
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
ORDER BY batch, file, row
