"""Contracts of the tables that hold the source as it came, plus a verdict per row.

Belongs here: declarations. Does not belong here: parsing (`contract.py`), judging (the gate).
"""

from recsys_assets.core.tables import Column, Table

PROVENANCE = (
    Column("batch", "string", "First 16 hex digits of the sha256 of the file the row came in"),
    Column("file", "string", "Name of that file, relative to the source, or its whole path"),
    Column(
        "row", "int64", "Data row within the file, from 1 (line number in text files)", minimum=1
    ),
)

EVENT = (
    Column("event_id", "string", "Id of the event: given by the source, or derived", nullable=True),
    Column("user_id", "string", "Who", nullable=True),
    Column("item_id", "string", "What", nullable=True),
    Column("event_type", "string", "A key of event_types in the shop file", nullable=True),
    Column("event_time", "timestamp", "When, UTC", nullable=True),
    Column("quantity", "float64", "How many; zero or less on returns", nullable=True),
    Column("value", "float64", "Money paid for the row", nullable=True),
    Column("currency", "string", "ISO currency of value", nullable=True),
    Column("session_id", "string", "Basket or session", nullable=True),
    Column(
        "weight", "float64", "The row's own weight (a rating); null = the type's", nullable=True
    ),
    Column("store_id", "string", "Store or market where it happened", nullable=True),
    Column("price", "float64", "Shelf price per unit before discounts", nullable=True),
    Column("discount", "float64", "Total discount, never negative", nullable=True),
    Column("context", "string", "Device or other context", nullable=True),
)

_REQUIRED = ("event_id", "user_id", "item_id", "event_type", "event_time", "quantity")
"""What an accepted row always has."""

VERDICT = (
    Column("reject_field", "string", "Which field is wrong; null = accepted", nullable=True),
    Column("reject_reason", "string", "What is wrong with it; null = accepted", nullable=True),
)

LANDED_ROWS = Table(
    name="landed_rows",
    columns=(*PROVENANCE, *EVENT, *VERDICT),
    key=("batch", "file", "row"),
)

RAW_INTERACTIONS = Table(
    name="raw_interactions",
    columns=(
        *PROVENANCE,
        *(Column(c.name, c.type, c.meaning, nullable=c.name not in _REQUIRED) for c in EVENT),
    ),
    key=("batch", "file", "row"),
    min_rows=0,
)

_ITEM = (
    Column("item_id", "string", "Id of the item"),
    Column("title", "string", "What a person calls it", nullable=True),
    Column("category_1", "string", "Top level of the category path", nullable=True),
    Column("category_2", "string", "Second level", nullable=True),
    Column("category_3", "string", "Third level", nullable=True),
    Column("brand", "string", "Brand or maker", nullable=True),
    Column("price", "float64", "List price", nullable=True, minimum=0),
    Column("text", "string", "Free text that describes it; it gets embedded", nullable=True),
    Column("group_id", "string", "Variants of one product share it", nullable=True),
    Column("available_from", "timestamp", "Not offered before", nullable=True),
    Column("available_to", "timestamp", "Not offered from here on", nullable=True),
    Column("status", "string", "active or inactive", nullable=True),
    Column("market", "string", "Market it is offered in; empty = everywhere", nullable=True),
    Column("attributes", "string", "Anything else, as a JSON object", nullable=True),
)

RAW_ITEMS = Table(
    name="raw_items",
    columns=_ITEM,
    key=("item_id",),
    min_rows=0,  # a rule of the asset refuses an empty one, and says what is wrong with the files
)

RAW_USERS = Table(
    name="raw_users",
    columns=(
        Column("user_id", "string", "Id of the user"),
        Column("attributes", "string", "Attributes as a JSON object", nullable=True),
    ),
    key=("user_id",),
    min_rows=0,
)

RAW_EXPOSURES = Table(
    name="raw_exposures",
    columns=(
        Column("request_id", "string", "One answer to one request"),
        Column("user_id", "string", "Who saw it"),
        Column("item_id", "string", "What was shown"),
        Column("placement", "string", "Where on the page"),
        Column("position", "int32", "Position in the list, from 1", minimum=1),
        Column("shown_at", "timestamp", "When, UTC"),
        Column("release_id", "string", "Release that made the list", nullable=True),
        Column("policy", "string", "Policy that chose the item", nullable=True),
        Column("propensity", "float64", "Probability of that choice", nullable=True, minimum=0),
        Column("arm", "string", "Experiment arm", nullable=True),
    ),
    key=("request_id", "placement", "position"),
    min_rows=0,
)

PROMOTION_KINDS = ("feature", "display")
"""Announced outside the shop's shelves (leaflet, newsletter, banner), or put forward on them."""

RAW_PROMOTIONS = Table(
    name="raw_promotions",
    columns=(
        Column("item_id", "string", "What"),
        Column(
            "kind",
            "string",
            "Announced outside the shelves (feature), or put forward on them (display)",
            values=PROMOTION_KINDS,
        ),
        Column("starts_at", "timestamp", "From when on, UTC"),
        Column("ends_at", "timestamp", "Until when; empty: until something else is said", True),
        Column("reach", "float64", "In which share of the shop", minimum=0, maximum=1),
        Column(
            "known_from", "timestamp", "Since when the shop knows of it: its plan, or its start"
        ),
    ),
    key=("item_id", "kind", "starts_at"),
    min_rows=0,
)

ONBOARDING_ANSWERS = Table(
    name="onboarding_answers",
    columns=(
        Column("user_id", "string", "Who answered"),
        Column("question_id", "string", "Which question (see onboarding_questions), or any other"),
        Column("answer", "string", "The chosen option, or the words that were typed"),
        Column("answered_at", "timestamp", "When, UTC"),
    ),
    key=("user_id", "question_id", "answer", "answered_at"),
    min_rows=0,
)

REJECTED_ENTITIES = Table(
    name="rejected_entities",
    columns=(
        *PROVENANCE,
        Column("role", "string", "items, users, exposures, promotions or onboarding_answers"),
        Column("reject_field", "string", "Which field is wrong", nullable=True),
        Column("reject_reason", "string", "What is wrong with it"),
    ),
    key=("batch", "file", "row", "role"),
    min_rows=0,
)
