"""Contracts of the ranking stage: labels, feature groups, rankers, scores, and what is served."""

from recsys_assets.core.tables import Column, Table
from recsys_assets.ranking.features import FEATURE_TABLES, FEATURES

_AS_OF = Column("as_of", "timestamp", "Only events before this moment were used")
_USER = Column("user_id", "string", "The user")
_ITEM = Column("item_id", "string", "The item")

LABELS = Table(
    name="labels",
    columns=(
        Column("as_of", "timestamp", "The cutoff after which it was taken"),
        _USER,
        _ITEM,
        Column("taken", "bool", "Taken within the horizon; only such pairs have a row"),
        Column("is_new", "bool", "Never taken before the cutoff"),
        Column("first_taken_at", "timestamp", "When first within the horizon"),
    ),
    key=("as_of", "user_id", "item_id"),
    part_by="as_of",
    min_rows=0,
)

USER_ITEM_DAYS = Table(
    name="user_item_days",
    columns=(
        _AS_OF,
        _USER,
        _ITEM,
        Column("days_ago", "int32", "0 = the last 24 hours before the cutoff", minimum=0),
        Column("taken", "bool", "Taken on that day"),
        Column("quantity", "float64", "Units taken"),
        Column("value", "float64", "Money paid", nullable=True),
        Column("price", "float64", "Highest shelf price of the day", nullable=True),
        Column("discount", "float64", "Discount of the day"),
        Column("store_id", "string", "Store it was taken in", nullable=True),
        Column("signal", "float64", "Sum of weight x polarity of the day's events"),
    ),
    key=("as_of", "user_id", "item_id", "days_ago"),
    part_by="as_of",
)


def _grain(name: str) -> Table:
    texts = {"user_id": "The user", "item_id": "The item", "store_id": "The store"}
    texts |= {"level": "Which level of the taxonomy", "value": "Its value at that level"}
    keys = tuple(
        _AS_OF if k == "as_of" else Column(k, "string", texts[k]) for k in FEATURE_TABLES[name]
    )
    return Table(
        name=name,
        columns=(
            *keys,
            Column("*_id", "string", "An attribute that joins to another table", nullable=True),
            Column("*", "float32", "A feature; null means there is no such history", True),
        ),
        key=FEATURE_TABLES[name],
        meanings=FEATURES,
        part_by="as_of",
        min_rows=0,
    )


GRAIN_TABLES: dict[str, Table] = {name: _grain(name) for name in FEATURE_TABLES}

TRAINING_ROWS = Table(
    name="training_rows",
    columns=(
        _AS_OF,
        _USER,
        _ITEM,
        Column("label", "float32", "1 if taken within the horizon", minimum=0, maximum=1),
        Column("label_again", "float32", "1 if taken within 7 days; null: not drawn", True, 0, 1),
        Column("*", "float32", "A feature as of the cutoff; null = no such history", True),
    ),
    key=("as_of", "user_id", "item_id"),
    part_by="as_of",
    meanings=FEATURES,
    min_rows=0,
)

RANKERS = Table(
    name="rankers",
    columns=(
        Column("target", "string", "Which target", values=("tune", "evaluate", "live")),
        Column(
            "task",
            "string",
            "all: anything; new: never taken; again: taken before, within days",
            values=("all", "new", "again"),
        ),
        Column("seed", "int32", "Seed it was grown from; the smallest is the one that is served"),
        Column("model", "string", "The model and its feature list, as JSON"),
        Column("feature_spec", "string", "Hash of the names of its features, in order"),
        Column("rows", "int64", "Rows it learned from", minimum=1),
    ),
    key=("target", "task", "seed"),
    min_rows=0,
)

SCORED_CANDIDATES = Table(
    name="scored_candidates",
    columns=(
        _AS_OF,
        _USER,
        _ITEM,
        Column("score_all", "float32", "Order of for_you; without a ranker, the fused places"),
        Column("score_new", "float32", "Order of discover: of what was never taken", nullable=True),
        Column("score_again", "float32", "Order of buy_again: of what was taken", nullable=True),
        Column("score_*_seed_*", "float32", "The same from another seed; evaluate only", True),
        Column("seen", "bool", "Taken by the user before the cutoff"),
        Column("times", "float32", "Days on which it was taken before", True, minimum=0),
        Column("due", "float32", "Days since last over the usual gap; 1 = due now", True),
        Column("retrievers", "string", "Which retrievers proposed it"),
    ),
    key=("as_of", "user_id", "item_id"),
    part_by="as_of",
)

RECOMMENDATIONS = Table(
    name="recommendations",
    columns=(
        Column("placement", "string", "Where it is shown"),
        _USER,
        Column("rank", "int32", "1 = first", minimum=1),
        _ITEM,
        Column("score", "float32", "Score the order comes from; comparable within one list"),
        Column("retrievers", "string", "Which retrievers proposed it; empty = fallback"),
        Column("reason", "string", "Why, in plain language, true of the data"),
        Column("reason_code", "string", "Kind of reason"),
        Column("reason_evidence", "string", "The facts behind the reason, as JSON"),
        Column("build_id", "string", "Hash of the recipe and inputs; a release names its build"),
        Column(
            "policy",
            "string",
            "What chose it",
            values=("ranker", "stand_in", "onboarding", "explore", "fallback"),
        ),
        Column("propensity", "float32", "Probability of the choice", minimum=0, maximum=1),
        Column("as_of", "timestamp", "The list knows everything before this moment"),
    ),
    key=("placement", "user_id", "rank"),
)

POPULAR_RECOMMENDATIONS = Table(
    name="popular_recommendations",
    columns=tuple(c for c in RECOMMENDATIONS.columns if c.name != "user_id"),
    key=("placement", "rank"),
)
