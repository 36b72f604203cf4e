-- Each distinct text once: 92,000 products of the default shop have some 20,000 texts.
SELECT
    sha256(text) AS text_hash,
    any_value(text) AS text,
    CAST(count(*) AS INTEGER) AS items
FROM items
GROUP BY sha256(text)
ORDER BY text_hash
