"""Contracts of the evaluation stage."""

from recsys_assets.core.tables import Column, Table

_TARGET = Column("target", "string", "Which target", values=("tune", "evaluate", "live"))
_TASK = Column(
    "task",
    "string",
    "all: whatever is taken; new: only what was never taken",
    values=("all", "new"),
)

BLEND_WEIGHTS = Table(
    name="blend_weights",
    description="NDCG@10 of the three-part blend at every grid point, on the tune target.",
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
    description="What each retriever finds of what users took, alone and beyond the others.",
    columns=(
        _TARGET,
        _TASK,
        Column("retriever", "string", "Retriever, or union"),
        Column("recall_*", "float32", "Share found within the first so many", True, 0, 1),
        Column("recall", "float32", "Share found in the whole list", True, 0, 1),
        Column("unique", "float32", "Share found by this retriever and no other", True, 0, 1),
    ),
    key=("target", "task", "retriever"),
    min_rows=0,
)

SCOREBOARD = Table(
    name="scoreboard",
    description="Every model, task and slice, measured the same way on the same users.",
    columns=(
        _TARGET,
        _TASK,
        Column("model", "string", "Whose lists"),
        Column(
            "baseline",
            "string",
            "Empty: the model's own value. Otherwise the difference to this, the best baseline",
        ),
        Column("slice", "string", "Which users or items"),
        Column("metric", "string", "Which metric, at which list length"),
        Column("value", "float64", "Mean over users", nullable=True),
        Column("low", "float64", "Lower end of the 95% interval", nullable=True),
        Column("high", "float64", "Upper end of the 95% interval", nullable=True),
        Column("p_value", "float64", "Of a difference: two-sided, bootstrap", nullable=True),
        Column("n_users", "int64", "Users with something to find", minimum=0),
    ),
    key=("target", "task", "model", "baseline", "slice", "metric"),
    min_rows=0,
)

HELD_OUT_LISTS = Table(
    name="held_out_lists",
    description="The lists of every model on the tune and evaluate targets, ten items each.",
    columns=(
        _TARGET,
        _TASK,
        Column("model", "string", "Whose list"),
        Column("user_id", "string", "For whom"),
        Column("item_id", "string", "What"),
        Column("rank", "int32", "1 = first", minimum=1),
    ),
    key=("target", "task", "model", "user_id", "rank"),
    min_rows=0,
)

REPORT_PAGE = Table(
    name="report_page",
    description="The scoreboard as one self-contained HTML page.",
    columns=(
        Column("name", "string", "Name of the page"),
        Column("html", "string", "The page"),
    ),
    key=("name",),
)
