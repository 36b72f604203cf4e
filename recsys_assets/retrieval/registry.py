"""Which retrievers exist, and which of them a configuration turns on.

Belongs here: names, kinds, depths. Does not belong here: any model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.settings.base import check_settings
from recsys_assets.core.threads import one_thread
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import EventLog, Fitted, Retriever
from recsys_assets.retrieval.factorization import Als, Bpr
from recsys_assets.retrieval.frequency import PersonalFrequency, RepeatInterval
from recsys_assets.retrieval.linear import Ease
from recsys_assets.retrieval.neighbours import (
    NextBasket,
    NextItem,
    SimilarItems,
    UserNeighbours,
)
from recsys_assets.retrieval.newcomers import Newcomers
from recsys_assets.retrieval.popularity import Popularity, SegmentPopularity, StorePopularity
from recsys_assets.retrieval.taxonomy import Taxonomy

KINDS: dict[str, type[Any]] = {
    "als": Als,
    "bpr": Bpr,
    "content": Content,
    "ease": Ease,
    "frequency": PersonalFrequency,
    "newcomers": Newcomers,
    "next_basket": NextBasket,
    "next_item": NextItem,
    "popularity": Popularity,
    "repeat_interval": RepeatInterval,
    "segment_popularity": SegmentPopularity,
    "similar_items": SimilarItems,
    "store_popularity": StorePopularity,
    "taxonomy": Taxonomy,
    "user_neighbours": UserNeighbours,
}
"""Every kind of retriever by the name a configuration uses."""

_FROM_DATA = ("vectors", "traits")
"""Fields of retrievers that no configuration gives."""

_EVERY_SHOP: dict[str, dict[str, Any]] = {
    "als": {"k_seen": 50, "k_unseen": 100},
    "content": {"k_seen": 20, "k_unseen": 60, "k_cold": 20},
    "ease": {"k_seen": 100, "k_unseen": 150},
    "popularity_7d": {
        "kind": "popularity",
        "k_seen": 30,
        "k_unseen": 80,
        "params": {"window": 7.0},
    },
    "popularity_28d": {
        "kind": "popularity",
        "k_seen": 30,
        "k_unseen": 80,
        "params": {"window": 28.0},
    },
    "user_neighbours": {"k_seen": 50, "k_unseen": 80},
}
_WHERE_THINGS_REPEAT: dict[str, dict[str, Any]] = {
    "frequency": {"k_seen": 200, "k_unseen": 0},
    "next_basket": {"k_seen": 150, "k_unseen": 60},
    "repeat_interval": {"k_seen": 150, "k_unseen": 0},
    "taxonomy": {"k_seen": 50, "k_unseen": 80},
}
_WHERE_THINGS_DO_NOT: dict[str, dict[str, Any]] = {
    "next_item": {"k_seen": 0, "k_unseen": 150},
}


_ONLY_COLD = {"newcomers"}
"""Kinds that have nothing to say of items with history: they bring none unless asked to."""


def defaults(repeats: bool) -> dict[str, dict[str, Any]]:
    """The retrievers of a shop that configures none, for goods that are taken again or once."""
    return _EVERY_SHOP | (_WHERE_THINGS_REPEAT if repeats else _WHERE_THINGS_DO_NOT)


def configured(shop: Shop) -> dict[str, dict[str, Any]]:
    """The retrieval section of the shop file, or the default set, as `members` reads it."""
    if not shop.retrieval:
        return defaults(shop.repeats)
    return {
        name: r.model_dump(exclude_unset=True, exclude_none=True)
        for name, r in shop.retrieval.items()
    }


@dataclass(frozen=True)
class Member:
    """One retriever of a candidate generator.

    `k_seen`: how many of the items the user took before it may bring; `k_unseen`: how many others
    with history; `k_cold`: how many items without history (content and newcomers only).
    `through_index`: ask a vector index for them instead of scoring every item.
    """

    retriever: Retriever
    k_seen: int = 100
    k_unseen: int = 100
    k_cold: int = 0
    through_index: bool = False


def check(config: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError naming an unknown key or kind, or a parameter that its kind cannot use."""
    known = {"enabled", "kind", "k_seen", "k_unseen", "k_cold", "params", "through_index"}
    for name, entry in config.items():
        if name == "best":
            raise ValueError("retrieval.best: the name is taken, call the retriever otherwise")
        if unknown := set(entry) - known:
            raise ValueError(f"retrieval.{name}: unknown keys {sorted(unknown)}")
        kind = str(entry.get("kind", name))
        if kind not in KINDS:
            key = f"retrieval.{name}" + (".kind" if "kind" in entry else "")
            close = get_close_matches(kind, KINDS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"{key}: unknown kind {kind!r}; {hint}kinds: {', '.join(KINDS)}")
        params = entry.get("params") or {}
        check_settings(KINDS[kind], params, f"retrieval.{name}.params", besides=_FROM_DATA)


def members(
    config: Mapping[str, Mapping[str, Any]],
    vectors: npt.NDArray[np.float32] | None = None,
    users: pa.Table | None = None,
) -> dict[str, Member]:
    """The enabled retrievers of `config`, by name, in name order.

    An entry reads `{enabled: true, kind: ease, k_seen: 100, k_unseen: 150, params: {...}}`; `kind`
    defaults to the entry's own name, `enabled` to true. Raises ValueError on an unknown kind, an
    unknown key or an unknown parameter. `vectors` (by item code) are what kind `content` works on,
    `users` (the staged table) what `segment_popularity` does; without them retrievers of that kind
    are left out.
    """
    check(config)
    out: dict[str, Member] = {}
    for name in sorted(config):
        entry = dict(config[name])
        kind = str(entry.get("kind", name))
        if kind in _ONLY_COLD:
            entry = {"k_seen": 0, "k_unseen": 0, **entry}
        params = dict(entry.get("params") or {})
        if kind == "content":
            if vectors is None:
                continue
            params["vectors"] = vectors
        if kind == "segment_popularity":
            if users is None:
                continue
            params["traits"] = (
                users.select(["user_id", "attributes"])
                .to_pandas()
                .set_index("user_id")["attributes"]
            )
            params["attributes"] = tuple(params.get("attributes", ()))
        retriever = KINDS[kind](**params)
        if entry.get("enabled", True):
            depths = {
                key: int(entry[key]) for key in ("k_seen", "k_unseen", "k_cold") if key in entry
            }
            out[name] = Member(
                retriever, **depths, through_index=bool(entry.get("through_index", False))
            )
    return out


def members_of(
    shop: Shop, items: Snapshot, users: Snapshot, text_vectors: TextVectors
) -> dict[str, Member]:
    """The retrievers of a shop, those that work on vectors and on what is known of users too."""
    vectors = item_vectors(items, text_vectors)
    return members(configured(shop), vectors.matrix, users.to_arrow())


def fit(log: EventLog, chosen: Mapping[str, Member], seed: int = 0) -> dict[str, Fitted]:
    """Fit every member on `log`, in name order. BLAS is held to one thread for equal bits."""
    with one_thread():
        return {name: chosen[name].retriever.fit(log, seed) for name in sorted(chosen)}
