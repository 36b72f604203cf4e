"""Contracts of the evaluation stage."""

from recsys_assets.core.tables import Column, Table
from recsys_assets.evaluation.glossary import OUTCOMES

_TARGET = Column("target", "string", "Which target", values=("tune", "evaluate", "live"))
_TASK = Column(
    "task",
    "string",
    "all: whatever is taken; new: what was never taken; again: taken again within 7 days; "
    "cold: what nobody had ever taken",
    values=("all", "new", "again", "cold"),
)
_SEED = Column("seed", "int32", "Seed of the ranker; the shop's own where nothing is random")

BLEND_WEIGHTS = Table(
    name="blend_weights",
    columns=(
        _TASK,
        Column("content", "float32", "Weight of embedding similarity", minimum=0, maximum=1),
        Column("collaborative", "float32", "Weight of the factor product", minimum=0, maximum=1),
        Column("popularity", "float32", "Weight of popularity", minimum=0, maximum=1),
        Column("ndcg", "float32", "Mean NDCG@10 on the tune target", minimum=0, maximum=1),
    ),
    key=("task", "content", "collaborative", "popularity"),
    min_rows=0,
)

RETRIEVER_RECALL = Table(
    name="retriever_recall",
    columns=(
        _TARGET,
        _TASK,
        Column("retriever", "string", "Retriever, or union"),
        Column("recall_*", "float32", "Found among the first so many, mean over users", True, 0, 1),
        Column("recall", "float32", "Share found in the whole list, mean over users", True, 0, 1),
        Column("unique", "float32", "Share of all pairs found by this one alone", True, 0, 1),
    ),
    key=("target", "task", "retriever"),
    min_rows=0,
)

SCOREBOARD = Table(
    name="scoreboard",
    columns=(
        _TARGET,
        _TASK,
        Column("model", "string", "Whose lists"),
        Column(
            "baseline",
            "string",
            "Empty: the model's own value. Otherwise the difference to this, the best of its kind",
        ),
        Column("slice", "string", "Which users or items"),
        Column("metric", "string", "Which metric, at which list length"),
        Column("value", "float64", "Mean over users", nullable=True),
        Column("low", "float64", "Lower end of the 95% interval", nullable=True),
        Column("high", "float64", "Upper end of the 95% interval", nullable=True),
        Column("p_value", "float64", "Of a difference: two-sided, bootstrap", nullable=True),
        Column("n_users", "int64", "Users with something to find", minimum=0),
        Column("n_seeds", "float64", "Seeds the value is the mean of", nullable=True),
        Column("seed_low", "float64", "Smallest mean of one seed", nullable=True),
        Column("seed_high", "float64", "Largest mean of one seed", nullable=True),
    ),
    key=("target", "task", "model", "baseline", "slice", "metric"),
    min_rows=0,
)


def _lists(name: str) -> Table:
    return Table(
        name=name,
        columns=(
            Column("as_of", "timestamp", "Only events before this moment were known"),
            _TASK,
            Column("model", "string", "Whose list"),
            _SEED,
            Column("user_id", "string", "For whom"),
            Column("rank", "int32", "1 = first", minimum=1),
            Column("item_id", "string", "What"),
            Column("score", "float32", "What the order comes from; comparable within one list"),
        ),
        key=("task", "model", "seed", "user_id", "rank"),
        min_rows=0,
    )


TUNE_LISTS = _lists("tune_lists")
EVALUATION_LISTS = _lists("evaluation_lists")

USER_METRICS = Table(
    name="user_metrics",
    columns=(
        _TARGET,
        _TASK,
        Column("model", "string", "Whose list"),
        _SEED,
        Column("user_id", "string", "For whom; everybody who then took something"),
        *(
            Column(name, "float64", f"{meaning}, of the first 10 items", False, 0, 1)
            for name, meaning in (
                ("ndcg", "NDCG with binary gains"),
                ("recall", "Share of what was taken that is in the list"),
                ("precision", "Share of the list that was taken"),
                ("map", "Average precision"),
                ("mrr", "1 / rank of the first hit"),
                ("hit", "1 if anything was found"),
            )
        ),
    ),
    key=("target", "task", "model", "seed", "user_id"),
    min_rows=0,
)

POLICIES = Table(
    name="policies",
    columns=(
        _TASK,
        Column("placement", "string", "Where it is shown"),
        Column("model", "string", "What is published: ranker, or the simpler model that beats it"),
        Column("simpler", "string", "The best model other than the ranker", nullable=True),
        Column("ranker_ndcg", "float64", "Mean NDCG of the ranker", True, 0, 1),
        Column("simpler_ndcg", "float64", "Mean NDCG of the best other model", True, 0, 1),
        Column("difference", "float64", "Ranker less the best other model", nullable=True),
        Column("low", "float64", "Lower end of its paired interval, see policy.choose", True),
        Column("high", "float64", "Upper end of its paired interval, see policy.choose", True),
        Column("p_value", "float64", "Two-sided, bootstrap", nullable=True),
        Column("n_users", "int64", "Users it was measured on", minimum=0),
        Column("reason", "string", "The decision in words"),
    ),
    key=("task",),
)

STAND_INS = Table(
    name="stand_ins",
    columns=(
        Column("as_of", "timestamp", "Only events before this moment were known"),
        Column("placement", "string", "Where it is shown instead of the ranker's order"),
        Column("user_id", "string", "For whom"),
        Column("item_id", "string", "What"),
        Column("score", "float32", "Score the order comes from; comparable within one list"),
    ),
    key=("as_of", "placement", "user_id", "item_id"),
    part_by="as_of",
    min_rows=0,
)

ITEM_LIST_METRICS = Table(
    name="item_list_metrics",
    columns=(
        Column("list", "string", "Which list", values=("bought_together", "similar_items")),
        Column("model", "string", "Whose list", values=("ours", "popularity")),
        Column("value", "float64", "Share of cases with a hit among the first k", True, 0, 1),
        Column("low", "float64", "Lower end of the 95% interval", nullable=True),
        Column("high", "float64", "Upper end of the 95% interval", nullable=True),
        Column("covered", "float64", "Share of cases with a list at all", True, 0, 1),
        Column("difference", "float64", "Ours less popularity, paired by case", nullable=True),
        Column("difference_low", "float64", "Lower end of its 95% interval", nullable=True),
        Column("difference_high", "float64", "Upper end of its 95% interval", nullable=True),
        Column("p_value", "float64", "Two-sided, bootstrap", nullable=True),
        Column("n_cases", "int64", "Held-out baskets, or new products of a known category"),
    ),
    key=("list", "model"),
    min_rows=0,
)

AB_TEST = Table(
    name="ab_test",
    columns=(
        Column("arm", "string", "Arm of the test, as exposures name it"),
        Column("metric", "string", "What is counted", values=("users", *OUTCOMES)),
        Column("users", "int64", "Users it is a mean of; of `users`, how many the arm got"),
        Column("value", "float64", "Mean per user; of `users`, share of all users", nullable=True),
        Column("low", "float64", "Lower end of its 95% interval", nullable=True),
        Column("high", "float64", "Upper end of its 95% interval", nullable=True),
        Column("difference", "float64", "To the control once the test is over; of `users`, to the "
               "planned share", nullable=True),
        Column("difference_low", "float64", "Lower end of its 95% interval", nullable=True),
        Column("difference_high", "float64", "Upper end of its 95% interval", nullable=True),
        Column("p_value", "float64", "Welch's t; of `users`, chi-square of all shares", True, 0, 1),
    ),
    key=("arm", "metric"),
    min_rows=0,
)  # fmt: skip

EXAMPLES = Table(
    name="examples",
    columns=(
        _TASK,
        Column("example", "string", "A, B, C: drawn by a seeded rule; the id of a named user"),
        Column("kind", "string", "How we did", values=("win", "ordinary", "loss", "named")),
        Column("column", "string", "Their past, our list, or the other model's"),
        Column("place", "int32", "1 = first", minimum=1),
        Column("title", "string", "The product"),
        Column("found", "bool", "Taken within the horizon"),
    ),
    key=("task", "example", "column", "place"),
    min_rows=0,
)

SCOREBOARD_CUTOFFS = Table(
    name="scoreboard_cutoffs",
    columns=(
        Column("as_of", "timestamp", "The cutoff"),
        Column(
            "role",
            "string",
            "evaluate, earlier, or tune, on which settings were chosen and which does not count",
            values=("evaluate", "earlier", "tune"),
        ),
        _TASK,
        Column("model", "string", "Whose lists; `ranker` is its raw order, `shown` after rules"),
        Column("metric", "string", "Of the first 10 items", values=("ndcg", "recall")),
        Column("value", "float64", "Mean over users", nullable=True),
        Column("low", "float64", "Lower end of the 95% interval", nullable=True),
        Column("high", "float64", "Upper end of the 95% interval", nullable=True),
        Column("n_users", "int64", "Users with something to find", minimum=0),
    ),
    key=("task", "metric", "model", "as_of"),
    min_rows=0,
)

ABLATION = Table(
    name="ablation",
    columns=(
        _TASK,
        Column(
            "kind",
            "string",
            "What is taken away; windows: only the latest so many are learned from",
            values=("full", "retriever", "features", "windows"),
        ),
        Column("name", "string", "Which one, or how many windows"),
        Column("ndcg", "float64", "Mean NDCG without it", minimum=0, maximum=1),
        Column("loss", "float64", "Whole recipe less this one, paired by user", nullable=True),
        Column("low", "float64", "Lower end of its 95% interval", nullable=True),
        Column("high", "float64", "Upper end of its 95% interval", nullable=True),
        Column("n_users", "int64", "Users it was measured on", minimum=0),
    ),
    key=("task", "kind", "name"),
    min_rows=0,
)

CALIBRATION = Table(
    name="calibration",
    columns=(
        _TASK,
        Column("bin", "int32", "Tenth of the candidates, by score", minimum=1),
        Column("n", "int64", "Candidates in it", minimum=1),
        Column("predicted", "float64", "Mean predicted chance", minimum=0, maximum=1),
        Column("observed", "float64", "Share that was taken", minimum=0, maximum=1),
        Column("error", "float64", "Expected calibration error of the task", minimum=0, maximum=1),
    ),
    key=("task", "bin"),
    min_rows=0,
)

TUNED_SETTINGS = Table(
    name="tuned_settings",
    columns=(
        _TASK,
        Column("trial", "int32", "0 = as configured", minimum=0),
        Column("ndcg", "float64", "Mean NDCG of the users searched on", minimum=0, maximum=1),
        Column(
            "others_ndcg", "float64", "Mean NDCG of others", nullable=True, minimum=0, maximum=1
        ),
        Column("settings", "string", "The settings, as JSON"),
        Column("is_best", "bool", "The best of its task on the users searched on"),
        Column("is_confirmed", "bool", "Beats trial 0 beyond noise on the others too"),
    ),
    key=("task", "trial"),
    min_rows=0,
)

ENRICHMENT_LIFT = Table(
    name="enrichment_lift",
    columns=(
        _TARGET,
        Column(
            "cold_set",
            "string",
            "no history: before the cutoff; hidden: all history of a seeded 5% of the others taken "
            "away; in lists: `discover` with its last place given to an item without history",
            values=("no history", "hidden", "in lists"),
        ),
        Column("model", "string", "How cold items are ordered, or which list"),
        Column(
            "baseline", "string", "Empty: the model's own value. Otherwise the difference to it"
        ),
        Column("metric", "string", "Among the items of the set; in lists: among everything"),
        Column("weight", "float64", "Weight of the one use, chosen on tune", nullable=True),
        Column("value", "float64", "Mean over users", nullable=True),
        Column("low", "float64", "Lower end of the 95% interval", nullable=True),
        Column("high", "float64", "Upper end of the 95% interval", nullable=True),
        Column("p_value", "float64", "Of a difference: two-sided, bootstrap", nullable=True),
        Column("n_users", "int64", "Users with something to find", minimum=0),
    ),
    key=("target", "cold_set", "model", "baseline", "metric"),
    min_rows=0,
)

REPORT_PAGE = Table(
    name="report_page",
    columns=(
        Column("name", "string", "Name of the page"),
        Column("html", "string", "The page"),
    ),
    key=("name",),
)
