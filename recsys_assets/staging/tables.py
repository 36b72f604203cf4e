"""Contracts of the staged tables: what every later stage may rely on.

Belongs here: declarations. Does not belong here: how they are made (`sql/staging/`).
"""

from recsys_assets.core.tables import Column, Table

INTERACTIONS = Table(
    name="interactions",
    columns=(
        Column("event_id", "string", "Id of the event"),
        Column("user_id", "string", "Who"),
        Column("item_id", "string", "What; always an item of the catalogue"),
        Column("event_type", "string", "A key of event_types in the shop file"),
        Column("event_time", "timestamp", "When, UTC"),
        Column("local_date", "date", "Calendar day in the source's time zone"),
        Column("quantity", "float64", "How many; zero or less on returns"),
        Column("value", "float64", "Money paid for the row", nullable=True),
        Column("currency", "string", "ISO currency of value", nullable=True),
        Column("session_id", "string", "Basket or session", nullable=True),
        Column("weight", "float32", "Strength of the event: its own, or its type's"),
        Column("polarity", "int8", "+1 liked it, 0 neutral, -1 did not", minimum=-1, maximum=1),
        Column("counts_as_taken", "bool", "Whether the user now has, saw or consumed the item"),
        Column("store_id", "string", "Store or market where it happened", nullable=True),
        Column("price", "float64", "Shelf price per unit before discounts", nullable=True),
        Column("discount", "float64", "Total discount of the row", nullable=True),
        Column("context", "string", "Device or other context", nullable=True),
        Column("batch", "string", "Source file the row came in (hash)"),
        Column("row", "int64", "Row within that file", minimum=1),
    ),
    key=("event_id",),
)

NOT_MADE_YET = "rows of days not made yet"
"""In the report of `quarantine`: accepted rows whose day or month is not over."""

QUARANTINE = Table(
    name="quarantine",
    columns=(
        Column("batch", "string", "Source file (hash)"),
        Column("file", "string", "Source file (name)"),
        Column("row", "int64", "Row within that file", minimum=1),
        Column("reject_field", "string", "Which field is wrong", nullable=True),
        Column("reject_reason", "string", "What is wrong with it"),
    ),
    key=("batch", "file", "row"),
    min_rows=0,
)

ITEMS = Table(
    name="items",
    columns=(
        Column("item_id", "string", "Id of the item"),
        Column("title", "string", "What a person calls it"),
        Column("category_1", "string", "Top level of the category path; empty if none"),
        Column("category_2", "string", "Second level; empty if none"),
        Column("category_3", "string", "Third level; empty if none"),
        Column("brand", "string", "Brand or maker; empty if unknown"),
        Column("price", "float64", "List price", nullable=True, minimum=0),
        Column("text", "string", "What gets embedded: its text, else title, categories, brand"),
        Column("group_id", "string", "Variants of one product share it"),
        Column("available_from", "timestamp", "Not offered before", nullable=True),
        Column("available_to", "timestamp", "Not offered from here on", nullable=True),
        Column("status", "string", "Whether it may be offered", values=("active", "inactive")),
        Column("market", "string", "Market it is offered in; empty = everywhere"),
        Column("attributes", "string", "Anything else, as a JSON object"),
    ),
    key=("item_id",),
)

USERS = Table(
    name="users",
    columns=(
        Column("user_id", "string", "Id of the user"),
        Column("attributes", "string", "Attributes as a JSON object"),
    ),
    key=("user_id",),
)

CUTOFFS = Table(
    name="cutoffs",
    columns=(
        Column("as_of", "timestamp", "Only events before this moment are known"),
        Column("horizon_end", "timestamp", "Labels are events in [as_of, horizon_end)"),
        Column("complete", "bool", "Whether the data reach horizon_end, so that labels exist"),
        Column(
            "target",
            "string",
            "The target that stands at this cutoff",
            True,
            values=("tune", "evaluate", "live"),
        ),
    ),
    key=("as_of",),
)

FITS = Table(
    name="fits",
    columns=(
        Column("target", "string", "Which ranker", values=("tune", "evaluate", "live")),
        Column("as_of", "timestamp", "The target's own cutoff"),
        Column("horizon_end", "timestamp", "End of what the target predicts"),
        Column("window_as_of", "timestamp", "Cutoff of a label window that trains it"),
        Column("window_horizon_end", "timestamp", "End of that window, never after as_of"),
    ),
    key=("target", "window_as_of"),
    min_rows=0,
)
