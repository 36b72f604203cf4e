-- What is known about an item on its own: how much, how widely, how lately and at what price it is
-- taken, how fast it comes back, how many users took it for the first time, and how much of the
-- time it was promoted and is going to be. A promotion counts if it is known at the cutoff; when one
-- ends that was not planned (known before its start) is not.
WITH taken AS (
    SELECT * FROM user_item_days WHERE taken
),

active_users AS (
    SELECT greatest(count(DISTINCT user_id), 1) AS users_28 FROM taken WHERE days_ago < 28
),

steps AS (
    SELECT
        item_id,
        user_id,
        days_ago,
        lag(days_ago) OVER (PARTITION BY user_id, item_id ORDER BY days_ago DESC) - days_ago AS gap,
        days_ago - lead(days_ago) OVER (PARTITION BY user_id, item_id ORDER BY days_ago DESC)
            AS days_to_next
    FROM taken
),

pairs AS (
    SELECT
        item_id,
        user_id,
        min(days_ago) AS last_days,
        max(days_ago) AS first_days,
        count(*) FILTER (WHERE days_ago < 7) AS days_7,
        count(*) FILTER (WHERE days_ago < 28) AS days_28,
        count(*) FILTER (WHERE days_ago < 84) AS days_84,
        sum(gap) FILTER (WHERE days_ago < 168) AS gap_sum,
        count(gap) FILTER (WHERE days_ago < 168) AS gaps,
        count(*) FILTER (WHERE days_ago >= 28 AND days_ago < 112) AS returnable,
        count(*) FILTER (WHERE days_ago >= 28 AND days_ago < 112 AND days_to_next <= 28) AS returned
    FROM steps
    GROUP BY item_id, user_id
),

by_users AS (
    SELECT
        item_id,
        sum(days_7) AS days_7,
        sum(days_28) AS days_28,
        sum(days_84) AS days_84,
        count(*) FILTER (WHERE last_days < 7) AS users_7,
        count(*) FILTER (WHERE last_days < 28) AS users_28,
        count(*) FILTER (WHERE days_84 > 0) AS users_84,
        count(*) FILTER (WHERE days_84 > 1) AS repeaters_84,
        count(*) FILTER (WHERE first_days < 7) AS new_users_7,
        count(*) FILTER (WHERE first_days < 28) AS new_users_28,
        count(*) FILTER (WHERE first_days < 84) AS new_users_84,
        count(*) FILTER (WHERE first_days >= 28 AND first_days < 112) AS earlier_users,
        count(*) FILTER (WHERE first_days >= 28 AND first_days < 112 AND last_days < 28)
            AS earlier_users_back,
        min(last_days) AS last_days,
        sum(gap_sum) / nullif(sum(gaps), 0) AS gap_mean,
        sum(returned) AS returned,
        sum(returnable) AS returnable
    FROM pairs
    GROUP BY item_id
),

by_days AS (
    SELECT
        item_id,
        median(price) FILTER (WHERE days_ago < 84) AS price_84,
        median(price) FILTER (WHERE days_ago < 14) AS price_14,
        avg(CAST(discount > 0 AS INTEGER)) FILTER (WHERE days_ago < 84) AS discount_share_84,
        avg(CAST(discount > 0 AS INTEGER)) FILTER (WHERE days_ago < 14) AS discount_share_14,
        sum(discount) FILTER (WHERE days_ago < 14 AND value > 1e-6)
        / nullif(sum(discount + value) FILTER (WHERE days_ago < 14 AND value > 1e-6), 0)
            AS discount_depth_14,
        count(DISTINCT store_id) FILTER (WHERE days_ago < 28) AS stores_28,
        sum(quantity) FILTER (WHERE days_ago < 84)
        / nullif(count(*) FILTER (WHERE days_ago < 84), 0) AS quantity_mean
    FROM taken
    GROUP BY item_id
),

spells AS (
    SELECT
        item_id,
        reach,
        CASE WHEN starts_at < $as_of THEN kind END AS shown,
        CASE WHEN known_from < starts_at THEN kind END AS planned,
        (epoch($as_of) - epoch(starts_at)) / 86400 AS began,
        greatest(coalesce((epoch($as_of) - epoch(ends_at)) / 86400, 0), 0) AS ended,
        least(coalesce((epoch(ends_at) - epoch($as_of)) / 86400, 28), 28)
        - greatest((epoch(starts_at) - epoch($as_of)) / 86400, 0) AS ahead
    FROM promotions
    WHERE known_from < $as_of
),

promoted AS (
    SELECT
        item_id,
        sum(reach * greatest(least(began, 7) - ended, 0)) FILTER (WHERE shown = 'feature')
            AS feature_7,
        sum(reach * greatest(least(began, 28) - ended, 0)) FILTER (WHERE shown = 'feature')
            AS feature_28,
        sum(reach * greatest(least(began, 84) - ended, 0)) FILTER (WHERE shown = 'feature')
            AS feature_84,
        min(ended) FILTER (WHERE shown = 'feature') AS feature_last,
        sum(reach * ahead) FILTER (WHERE planned = 'feature' AND ahead > 0) AS feature_next,
        sum(reach * greatest(least(began, 7) - ended, 0)) FILTER (WHERE shown = 'display')
            AS display_7,
        sum(reach * greatest(least(began, 28) - ended, 0)) FILTER (WHERE shown = 'display')
            AS display_28,
        sum(reach * greatest(least(began, 84) - ended, 0)) FILTER (WHERE shown = 'display')
            AS display_84,
        min(ended) FILTER (WHERE shown = 'display') AS display_last,
        sum(reach * ahead) FILTER (WHERE planned = 'display' AND ahead > 0) AS display_next
    FROM spells
    GROUP BY item_id
),

facts AS (
    SELECT
        i.item_id,
        p.* EXCLUDE (item_id),
        rtrim(i.category_1 || '>' || i.category_2 || '>' || i.category_3, '>') AS type,
        d.price_84,
        d.price_14,
        d.discount_share_84,
        d.discount_share_14,
        d.discount_depth_14,
        d.stores_28,
        d.quantity_mean,
        u.last_days,
        u.gap_mean,
        u.returned,
        u.returnable,
        u.earlier_users,
        u.earlier_users_back,
        u.repeaters_84,
        coalesce(d.price_84, CASE WHEN i.price BETWEEN 1e-6 AND 1e12 THEN i.price END)
            AS usual_price,
        coalesce(u.days_7, 0) AS days_7,
        coalesce(u.days_28, 0) AS days_28,
        coalesce(u.days_84, 0) AS days_84,
        coalesce(u.users_7, 0) AS users_7,
        coalesce(u.users_28, 0) AS users_28,
        coalesce(u.users_84, 0) AS users_84,
        coalesce(u.new_users_7, 0) AS new_users_7,
        coalesce(u.new_users_28, 0) AS new_users_28,
        coalesce(u.new_users_84, 0) AS new_users_84
    FROM items AS i
    LEFT JOIN by_users AS u ON i.item_id = u.item_id
    LEFT JOIN by_days AS d ON i.item_id = d.item_id
    LEFT JOIN promoted AS p ON i.item_id = p.item_id
),

types AS (
    SELECT
        type,
        sum(days_7) AS days_7,
        sum(days_28) AS days_28,
        sum(days_84) AS days_84,
        sum(new_users_28) AS new_users_28,
        median(usual_price) AS price,
        sum(returned) / nullif(sum(returnable), 0) AS return_rate,
        count(*) FILTER (WHERE days_28 > 0) AS items_28
    FROM facts
    WHERE type <> ''
    GROUP BY type
)

SELECT
    CAST($as_of AS TIMESTAMPTZ) AS as_of,
    f.item_id,
    CAST(f.days_7 AS FLOAT) AS item_days_7,
    CAST(f.days_28 AS FLOAT) AS item_days_28,
    CAST(f.days_84 AS FLOAT) AS item_days_84,
    CAST(f.users_7 AS FLOAT) AS item_users_7,
    CAST(f.users_28 AS FLOAT) AS item_users_28,
    CAST(f.users_84 AS FLOAT) AS item_users_84,
    CAST(f.users_28 / a.users_28 AS FLOAT) AS item_user_share_28,
    CAST((f.days_7 + 1) / (f.days_28 / 4.0 + 1) AS FLOAT) AS item_trend_7_28,
    CAST((f.days_28 + 1) / (f.days_84 / 3.0 + 1) AS FLOAT) AS item_trend_28_84,
    CAST(f.new_users_7 AS FLOAT) AS item_new_users_7,
    CAST(f.new_users_28 AS FLOAT) AS item_new_users_28,
    CAST(f.new_users_84 AS FLOAT) AS item_new_users_84,
    CAST(f.new_users_28 / nullif(f.users_28, 0) AS FLOAT) AS item_new_share_28,
    CAST(f.new_users_28 / nullif(f.new_users_84, 0) AS FLOAT) AS item_new_trend_28_84,
    CAST((f.repeaters_84 + 0.5) / (f.users_84 + 5) AS FLOAT) AS item_repeat_share_84,
    CAST((f.earlier_users_back + 5 * 0.1) / (f.earlier_users + 5) AS FLOAT) AS item_back_share,
    CAST((f.returned + 10 * coalesce(t.return_rate, 0.1)) / (f.returnable + 10) AS FLOAT)
        AS item_return_rate_28,
    CAST(f.gap_mean AS FLOAT) AS item_gap_mean,
    CAST(f.last_days AS FLOAT) AS item_last_days,
    CAST(f.stores_28 AS FLOAT) AS item_stores_28,
    CAST(f.quantity_mean AS FLOAT) AS item_quantity_mean,
    CAST(f.usual_price AS FLOAT) AS item_price,
    CAST(f.price_14 / nullif(f.price_84, 0) AS FLOAT) AS item_price_vs_usual,
    CAST(f.usual_price / nullif(t.price, 0) AS FLOAT) AS item_price_vs_type,
    CAST(f.discount_share_84 AS FLOAT) AS item_discount_share_84,
    CAST(f.discount_share_14 AS FLOAT) AS item_discount_share_14,
    CAST(f.discount_depth_14 AS FLOAT) AS item_discount_depth_14,
    CAST(f.feature_7 AS FLOAT) AS promo_feature_days_7,
    CAST(f.feature_28 AS FLOAT) AS promo_feature_days_28,
    CAST(f.feature_84 AS FLOAT) AS promo_feature_days_84,
    CAST(f.feature_last AS FLOAT) AS promo_feature_last_days,
    CAST(f.feature_next AS FLOAT) AS promo_feature_days_next_28,
    CAST(f.display_7 AS FLOAT) AS promo_display_days_7,
    CAST(f.display_28 AS FLOAT) AS promo_display_days_28,
    CAST(f.display_84 AS FLOAT) AS promo_display_days_84,
    CAST(f.display_last AS FLOAT) AS promo_display_last_days,
    CAST(f.display_next AS FLOAT) AS promo_display_days_next_28,
    CAST(t.days_28 AS FLOAT) AS type_days_28,
    CAST((t.days_7 + 5) / (t.days_28 / 4.0 + 5) AS FLOAT) AS type_trend_7_28,
    CAST((t.days_28 + 5) / (t.days_84 / 3.0 + 5) AS FLOAT) AS type_trend_28_84,
    CAST(t.new_users_28 AS FLOAT) AS type_new_users_28,
    CAST(t.return_rate AS FLOAT) AS type_return_rate_28,
    CAST(t.items_28 AS FLOAT) AS type_items_28,
    CAST(f.days_28 / nullif(t.days_28, 0) AS FLOAT) AS item_share_of_type_28
FROM facts AS f
CROSS JOIN active_users AS a
LEFT JOIN types AS t ON f.type = t.type
ORDER BY f.item_id
