"""Contracts of the publishing stage."""

from recsys_assets.core.tables import Column, Table

RELEASE = Table(
    name="release",
    columns=(
        Column(
            "kind",
            "string",
            "What the row names",
            values=("table", "code", "library", "settings", "fact", "metric"),
        ),
        Column("name", "string", "Table, module, library, setting, fact or metric"),
        Column("part", "string", "Partition of the table; empty if it has none"),
        Column("hash", "string", "Version id of a table; sha256 of anything else"),
        Column("value", "string", "Content id of a table; the thing itself where it is short"),
    ),
    key=("kind", "name", "part"),
)

RELEASE_VERDICT = Table(
    name="release_verdict",
    columns=(
        Column("release_id", "string", "The release"),
        Column("incumbent", "string", "What was served when it was judged; empty if nothing"),
        Column("criterion", "string", "The rule"),
        Column("subject", "string", "Task, slice or placement it was applied to"),
        Column(
            "outcome",
            "string",
            "failed blocks; reported decides nothing, and text says why",
            values=("passed", "failed", "reported"),
        ),
        Column("text", "string", "What was found and what was wanted, in words"),
        Column("value", "float64", "What was found; of a slice, a p-value", nullable=True),
        Column("low", "float64", "Lower end of its 95% interval", nullable=True),
        Column("high", "float64", "Upper end of its 95% interval", nullable=True),
        Column("limit", "float64", "What it must not fall below, or exceed", nullable=True),
        Column("users", "int64", "Users it was measured on", minimum=0),
    ),
    key=("release_id", "criterion", "subject"),
)

DRIFT = Table(
    name="drift",
    columns=(
        Column("kind", "string", "What it is", values=("feature", "score")),
        Column("name", "string", "Windowed feature, or score"),
        Column("psi", "float64", "Population stability index, training against live", minimum=0),
        Column("mean_then", "float64", "Mean at the training cutoffs", nullable=True),
        Column("mean_now", "float64", "Mean of the live candidates", nullable=True),
        Column("null_then", "float64", "Share without a value, training", minimum=0, maximum=1),
        Column("null_now", "float64", "Share without a value, live", minimum=0, maximum=1),
    ),
    key=("kind", "name"),
    min_rows=0,
)

DATA_HEALTH = Table(
    name="data_health",
    columns=(
        Column(
            "measure",
            "string",
            "What is measured",
            values=(
                "volume",
                "concentration",
                "unseen",
                "unknown items",
                "nulls",
                "coverage",
                "fallback",
            ),
        ),
        Column("subject", "string", "Of what"),
        Column("value", "float64", "What it is now"),
        Column("usual", "float64", "What it was before", nullable=True),
        Column("limit", "float64", "From where on it is worth a warning", nullable=True),
        Column("healthy", "bool", "Within the limit; null if nothing is asked", nullable=True),
    ),
    key=("measure", "subject"),
)

SERVED_RELEASE = Table(
    name="served_release",
    columns=(
        Column("release_id", "string", "The newest release"),
        Column("standing", "string", "served, or held back", values=("served", "held back")),
        Column("reason", "string", "Why it is held back; empty when it is served"),
        Column("served_id", "string", "What is served; empty when nothing is"),
    ),
    key=("release_id",),
)
