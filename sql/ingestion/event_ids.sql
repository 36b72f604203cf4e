-- Ids of events whose source gives none, from their content alone (see ingestion/contract.py).
-- A value is written as name, length and text and a missing one not at all: no two contents share a
-- writing, and a later optional column changes no id. Numbers arrive as the bits of their doubles.
WITH hashed AS (
    SELECT
        position,
        md5(concat(
            $salt,
            coalesce('user_id=' || length(user_id) || ':' || user_id, ''),
            coalesce('item_id=' || length(item_id) || ':' || item_id, ''),
            coalesce('event_type=' || length(event_type) || ':' || event_type, ''),
            coalesce('event_time=' || event_time || ';', ''),
            coalesce('quantity=' || quantity || ';', ''),
            coalesce('value=' || value || ';', ''),
            coalesce('session_id=' || length(session_id) || ':' || session_id, ''),
            coalesce('weight=' || weight || ';', ''),
            coalesce('store_id=' || length(store_id) || ':' || store_id, ''),
            coalesce('price=' || price || ';', ''),
            coalesce('discount=' || discount || ';', ''),
            coalesce('context=' || length(context) || ':' || context, '')
        )) AS content
    FROM landed
),
numbered AS (
    SELECT
        position,
        content,
        row_number() OVER (PARTITION BY content ORDER BY position) AS occurrence
    FROM hashed
)
SELECT
    position,
    content,
    left(
        CASE occurrence WHEN 1 THEN content ELSE md5(content || '#' || occurrence) END,
        20
    ) AS event_id
FROM numbered
ORDER BY position
