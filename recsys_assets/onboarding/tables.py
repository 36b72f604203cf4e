"""Contracts of what is known about users from what they say."""

from recsys_assets.core.tables import Column, Table

ONBOARDING_QUESTIONS = Table(
    name="onboarding_questions",
    columns=(
        Column("question_id", "string", "Id to send back with an answer"),
        Column("place", "int32", "Order of the question, from 1", minimum=1),
        Column(
            "kind",
            "string",
            "likes: choose any; avoid: choose any; words: free text",
            values=("likes", "avoid", "words"),
        ),
        Column("question", "string", "The question"),
        Column("answer", "string", "An option to choose; empty where words are asked for"),
        Column("answer_place", "int32", "Order of the option, from 1", minimum=1),
        Column("share", "float64", "Share of users who would say yes; null = unknown", True),
        Column("items", "int64", "Catalogue items the option speaks of", minimum=0),
        Column("as_of", "timestamp", "Only events before this moment were used"),
    ),
    key=("question_id", "answer"),
)

STATED_PREFERENCES = Table(
    name="stated_preferences",
    columns=(
        Column("user_id", "string", "Who said it"),
        Column("place", "int32", "Order of the query, from 1", minimum=1),
        Column("query", "string", "What is searched for; empty if only bans were stated"),
        Column(
            "source",
            "string",
            "answer: a chosen option; key_terms: read by words; claude: read by the language model",
            values=("answer", "key_terms", "claude"),
        ),
        Column("terms", "string", "Words of the query that the catalogue has; may be shown"),
        Column("vector", "vector", "Embedding of the query and of its sentence", unit_norm=True),
        Column("avoid", "string", "Stems that rule an item out, as a JSON list; one list per user"),
        Column("as_of", "timestamp", "Only answers before this moment were used"),
    ),
    key=("user_id", "place"),
    min_rows=0,
)

STATED_CANDIDATES = Table(
    name="stated_candidates",
    columns=(
        Column("user_id", "string", "The user"),
        Column("item_id", "string", "The item; never one that the user's bans rule out"),
        Column("place", "int32", "1 = first; wishes take turns", minimum=1),
        Column("wished", "bool", "Whether a wish speaks for it; else it is only popular"),
        Column("terms", "string", "Words of that wish which may be shown; may be empty"),
        Column("as_of", "timestamp", "Only what was known before this moment was used"),
    ),
    key=("user_id", "item_id"),
    min_rows=0,
)
