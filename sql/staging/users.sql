-- Everyone the source lists, everyone who appears in an event, and everyone who answered the
-- onboarding questions.
WITH listed AS (
    SELECT user_id, attributes FROM raw_users
),
seen AS (
    SELECT user_id FROM raw_interactions
    UNION
    SELECT user_id FROM onboarding_answers
)
SELECT
    coalesce(l.user_id, s.user_id) AS user_id,
    coalesce(l.attributes, '{}') AS attributes
FROM listed AS l
FULL JOIN seen AS s ON s.user_id = l.user_id
ORDER BY 1
