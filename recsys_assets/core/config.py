"""The shop's YAML file: one person's description of their shop, checked and typed.

Belongs here: the shop made of its sections (`core/settings`), what must fit between them, reading
the YAML, and error messages that name the file, the key and what to do. Does not belong here:
reading any data file, knowing how a stage uses a value, environment variables, the clock.

Paths in the file are relative to the file. `Shop.section_hash` is what an asset puts into its
version key: it covers the configuration as understood (defaults included), not the file's bytes,
so comments and key order change nothing.
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from recsys_assets.core.settings.ab_test import AbTest
from recsys_assets.core.settings.arrival import ArrivalSettings
from recsys_assets.core.settings.automation import Automation
from recsys_assets.core.settings.base import Part
from recsys_assets.core.settings.benchmark import Benchmark
from recsys_assets.core.settings.calendar import Cutoffs, Partitions, Plausible
from recsys_assets.core.settings.enrichment import EnrichmentSettings
from recsys_assets.core.settings.examples import Examples
from recsys_assets.core.settings.index import Index
from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.core.settings.lists import PLACEMENTS, Placement, RuleSettings, Wording
from recsys_assets.core.settings.onboarding import Onboarding
from recsys_assets.core.settings.releases import ReleaseSettings
from recsys_assets.core.settings.retention import Retention
from recsys_assets.core.settings.sources import (
    EVENT_TYPES,
    EventType,
    FilesSource,
    Source,
    event_type_names,
)
from recsys_assets.core.settings.studies import Studies


class ConfigError(ValueError):
    """A shop file that cannot be used; the text names the file, the key and what to do."""


class RetrieverSettings(Part):
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
    arrival: ArrivalSettings | None = None
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
    rules: RuleSettings = RuleSettings()
    retrieval: dict[str, RetrieverSettings] = {}
    ranker: dict[str, Any] = {}
    """`negative_share`, and rankers' settings: `all`, `new`, `again` (see ranking/recipe.py)."""
    wording: Wording = Wording()
    evaluation: Evaluation = Evaluation()
    studies: Studies = Studies()
    ab_test: AbTest | None = None
    examples: Examples = Examples()
    encoder: Encoder = Encoder()
    onboarding: Onboarding = Onboarding()
    enrichment: EnrichmentSettings = EnrichmentSettings()
    language_model: LanguageModelSettings = LanguageModelSettings()
    index: Index = Index()
    releases: ReleaseSettings = ReleaseSettings()
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
        for key, name in event_type_names(self.source):
            if name not in self.event_types:
                raise ValueError(
                    f"{key} names the event type {name!r}, which is not in event_types "
                    f"({', '.join(self.event_types)}); add it there"
                )
        for table in self.source.interactions if isinstance(self.source, FilesSource) else ():
            below = table.negative_quantity
            if below is not None and self.event_types[below].polarity != -1:
                raise ValueError(
                    f"source.interactions.negative_quantity: rows of the type {below!r} must not "
                    "be negative, because its polarity is not -1; name a type such as return"
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

    def retriever(self, name: str) -> RetrieverSettings:
        """The settings of one retriever, defaults if the file does not name it."""
        return self.retrieval.get(name, RetrieverSettings())

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
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # `<<`: its keys give way to those that are written here
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, list | dict):
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key must be a plain word")
        if key in seen:
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


_EXPECTED = {
    "bool": "write true or false",
    "date": "write a valid date as year-month-day, like 2026-11-17",
    "dict": "write keys and values, like {key: value}",
    "float": "write a number without a unit, like 60 or 0.5",
    "int": "write a whole number without a unit, like 7",
    "list": "write a list, like [first, second]",
    "model": "write keys and values, like {key: value}",
    "name": "write a-z, 0-9 and _ only, a letter first, like corner_shop",
    "string_pattern_mismatch": "write a time of day in quotes, like '04:30'",
}
"""What to write instead, by the key, the kind of a pydantic error, or the type it begins with."""


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
    for word in (error["type"].partition("_")[0], error["type"], key):
        message = _EXPECTED.get(word, message)
    return f"{key}: {message} (found {error['input']!r})"
