"""MovieLens folders as GroupLens publishes them: 100K, 1M and 10M, and the CSV releases.

Belongs here: the three layouts. Does not belong here: RecBole's copies (`atomic`).

A rating becomes an event by the shop's two thresholds: `like` (by default 4 and more), `dislike`
(below 3), `neutral` between, with the rating itself as the event's weight. All three count as
taken, since a film one has rated has been seen; only a like is a target. The first three genres
become the category path, all of them stand in the text and the attributes.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.config import Shop
from recsys_assets.core.settings.sources import MovieLensSource
from recsys_assets.ingestion.contract import ATTRIBUTE, ItemRules, UserRules
from recsys_assets.ingestion.delimited import Dialect
from recsys_assets.ingestion.parsing import TimeFormat, joined, texts
from recsys_assets.ingestion.source import SourceError
from recsys_assets.ingestion.tabular import (
    Columns,
    TableSpec,
    TabularSource,
    interaction_rules,
)

_TEXT = pa.large_string()
_RATING = ("user", "item", "rating", "timestamp")
_GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_MARKERS = {"100k": "u.data", "1m": "ratings.dat", "csv": "ratings.csv"}


def movielens_source(shop: Shop, config: MovieLensSource) -> TabularSource:
    """The tables of a MovieLens folder; `layout: auto` goes by which ratings file there is."""
    root = shop.resolve(config.path)
    layout: str = config.layout
    if layout == "auto":
        found = [name for name, marker in _MARKERS.items() if (root / marker).is_file()]
        if len(found) != 1:
            have = ", ".join(_MARKERS[name] for name in found) or "none"
            raise SourceError(
                f"{root}: expected exactly one of {', '.join(_MARKERS.values())} there, found "
                f"{have}; correct source.path or set source.layout"
            )
        (layout,) = found
    return TabularSource(_LAYOUTS[layout](shop, config, root))


def _ratings(
    shop: Shop,
    config: MovieLensSource,
    root: Path,
    name: str,
    names: tuple[str, ...],
    dialect: Dialect,
) -> TableSpec:
    user, item, rating, timestamp = names
    return TableSpec(
        role="interactions",
        root=root,
        pattern=root / name,
        rules=interaction_rules(
            shop, rating=config.rating, time_format=TimeFormat("epoch_s", "UTC")
        ),
        columns={"user_id": user, "item_id": item, "weight": rating, "event_time": timestamp},
        dialect=dialect,
        parquet=False,
    )


def _layout_100k(shop: Shop, config: MovieLensSource, root: Path) -> list[TableSpec]:
    facts = ("item", "title", "release_date", "video_release_date", "imdb_url")
    piped = Dialect("|", None, "latin-1", (*facts, *_GENRES_100K))
    people = Dialect("|", None, "latin-1", ("user", "age", "gender", "occupation", "zip_code"))
    return [
        _ratings(shop, config, root, "u.data", _RATING, Dialect("\t", None, "utf-8", _RATING)),
        TableSpec(
            role="items",
            root=root,
            pattern=root / "u.item",
            rules=ItemRules(),
            columns={"item_id": "item"},
            dialect=piped,
            parquet=False,
            used=("title", *_GENRES_100K),
            attributes=("release_date",),
            prepare=_film_of_flags,
        ),
        _people(root, "u.user", people, ("age", "gender", "occupation")),
    ]


def _layout_1m(shop: Shop, config: MovieLensSource, root: Path) -> list[TableSpec]:
    has_people = (root / "users.dat").is_file()
    encoding = "latin-1" if has_people else "utf-8"  # 10M has no users and is UTF-8
    films = Dialect("::", None, encoding, ("item", "title", "genres"))
    people = Dialect("::", None, encoding, ("user", "gender", "age", "occupation", "zip_code"))
    tables = [
        _ratings(shop, config, root, "ratings.dat", _RATING, Dialect("::", None, "utf-8", _RATING)),
        _films(root, "movies.dat", "item", films),
    ]
    if has_people:
        tables.append(_people(root, "users.dat", people, ("age", "gender", "occupation")))
    return tables


def _layout_csv(shop: Shop, config: MovieLensSource, root: Path) -> list[TableSpec]:
    names = ("userId", "movieId", "rating", "timestamp")
    return [
        _ratings(shop, config, root, "ratings.csv", names, Dialect()),
        _films(root, "movies.csv", "movieId", Dialect()),
    ]


_LAYOUTS: dict[str, Callable[[Shop, MovieLensSource, Path], list[TableSpec]]] = {
    "100k": _layout_100k,
    "1m": _layout_1m,
    "csv": _layout_csv,
}


def _films(root: Path, name: str, item: str, dialect: Dialect) -> TableSpec:
    return TableSpec(
        role="items",
        root=root,
        pattern=root / name,
        rules=ItemRules(),
        columns={"item_id": item},
        dialect=dialect,
        parquet=False,
        used=("title", "genres"),
        prepare=lambda columns: _film(columns["title"], columns["genres"]),
    )


def _people(root: Path, name: str, dialect: Dialect, attributes: tuple[str, ...]) -> TableSpec:
    return TableSpec(
        role="users",
        root=root,
        pattern=root / name,
        rules=UserRules(),
        columns={"user_id": "user"},
        dialect=dialect,
        parquet=False,
        attributes=attributes,
    )


def _film_of_flags(columns: Columns) -> Columns:
    nothing = pa.scalar(None, _TEXT)
    flagged = [
        pc.if_else(pc.equal(columns[genre], "1"), pa.scalar(genre, _TEXT), nothing)
        for genre in _GENRES_100K[1:]
    ]
    return _film(columns["title"], pc.fill_null(joined(flagged, "|"), ""))


def _film(title: pa.LargeStringArray, genres: pa.LargeStringArray) -> Columns:
    genres = pc.replace_substring(genres, "(no genres listed)", "")
    year = pc.replace_substring_regex(title, r"^.*\((\d{4})\)\s*$", r"\1")
    known = pc.match_substring_regex(title, r"\(\d{4}\)\s*$")
    listed = pc.replace_substring(genres, "|", ", ")
    levels = pc.split_pattern(
        pc.binary_join_element_wise(genres, pa.scalar("||", _TEXT), pa.scalar("", _TEXT)), "|"
    )
    return {
        "title": title,
        **{f"category_{n}": texts(pc.list_element(levels, n - 1)) for n in (1, 2, 3)},
        "text": joined([title, listed], " | "),
        ATTRIBUTE + "genres": listed,
        ATTRIBUTE + "year": pc.if_else(known, year, pa.scalar(None, _TEXT)),
    }
