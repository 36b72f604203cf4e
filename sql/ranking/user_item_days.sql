-- The one door from events to ranking features: what each user did with each item, day by day.
-- A day is counted back from the cutoff (0 = the last 24 hours, whose first moment belongs to it, so
-- that days without a time of day count in full), so that every cutoff looks alike;
-- a user's day with at least one taken item is one trip. Same look-back at every cutoff. Numbers
-- outside of what any shop can mean are unknown, so that no ratio leaves the range of a float.
SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    user_id,
    item_id,
    CAST(ceil((epoch($as_of) - epoch(event_time)) / 86400) AS INTEGER) - 1 AS days_ago,
    bool_or(counts_as_taken AND polarity > 0) AS taken,
    coalesce(
        sum(quantity) FILTER (WHERE counts_as_taken AND polarity > 0 AND abs(quantity) < 1e12), 0
    ) AS quantity,
    sum(value) FILTER (WHERE counts_as_taken AND polarity > 0 AND abs(value) < 1e12) AS value,
    max(price) FILTER (WHERE counts_as_taken AND polarity > 0 AND price BETWEEN 1e-6 AND 1e12)
        AS price,
    coalesce(
        sum(discount) FILTER (WHERE counts_as_taken AND polarity > 0 AND abs(discount) < 1e12), 0
    ) AS discount,
    min(nullif(store_id, '')) FILTER (WHERE counts_as_taken AND polarity > 0) AS store_id,
    coalesce(sum(weight * polarity) FILTER (WHERE abs(weight) < 1e12), 0) AS signal
FROM interactions_as_of($as_of)
WHERE event_time >= CAST($as_of AS TIMESTAMPTZ) - to_days(CAST($history_days AS INTEGER))
GROUP BY user_id, item_id, days_ago
ORDER BY user_id, item_id, days_ago
