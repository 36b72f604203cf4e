-- The catalogue with every gap filled by a stated rule, so that later stages need no special case.
WITH filled AS (
    SELECT
        item_id,
        coalesce(category_1, '') AS category_1,
        coalesce(category_2, '') AS category_2,
        coalesce(category_3, '') AS category_3,
        coalesce(brand, '') AS brand,
        price,
        coalesce(nullif(trim(title), ''), nullif(category_3, ''), nullif(category_2, ''), item_id)
            AS title,
        nullif(trim(text), '') AS free_text,
        group_id,
        available_from,
        available_to,
        CASE WHEN lower(coalesce(status, 'active')) = 'active' THEN 'active' ELSE 'inactive' END
            AS status,
        coalesce(market, '') AS market,
        coalesce(attributes, '{}') AS attributes
    FROM raw_items
),
described AS (
    SELECT
        *,
        coalesce(
            free_text,
            concat_ws(
                ' | ', title,
                nullif(concat_ws(' > ', nullif(category_1, ''), nullif(category_2, ''), nullif(category_3, '')), ''),
                nullif(brand, '')
            )
        ) AS text
    FROM filled
)
SELECT
    item_id,
    title,
    category_1,
    category_2,
    category_3,
    brand,
    price,
    text,
    coalesce(group_id, substr(sha256(text), 1, 16)) AS group_id,
    available_from,
    available_to,
    status,
    market,
    attributes
FROM described
ORDER BY item_id
