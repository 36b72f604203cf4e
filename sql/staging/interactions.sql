-- Every accepted event once, with the meaning of its type and its local calendar day.
WITH usable AS (
    SELECT
        r.*,
        row_number() OVER (PARTITION BY r.event_id ORDER BY r.file, r.batch, r.row) AS nth
    FROM raw_interactions AS r
    ANTI JOIN quarantine AS q ON q.batch = r.batch AND q.file = r.file AND q.row = r.row
)
SELECT
    u.event_id,
    u.user_id,
    u.item_id,
    u.event_type,
    u.event_time,
    CAST(timezone($time_zone, u.event_time) AS DATE) AS local_date,
    u.quantity,
    u.value,
    u.currency,
    u.session_id,
    CAST(coalesce(u.weight, t.weight) AS FLOAT) AS weight,
    CAST(t.polarity AS TINYINT) AS polarity,
    t.counts_as_taken,
    u.store_id,
    u.price,
    u.discount,
    u.context,
    u.batch,
    u.row
FROM usable AS u
JOIN event_types AS t ON t.event_type = u.event_type
WHERE u.nth = 1
ORDER BY u.event_time, u.event_id
