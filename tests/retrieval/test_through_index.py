"""Candidates asked of a vector index are the candidates of scoring everything."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_assets.indexing.contract import VectorIndex
from recsys_assets.indexing.embedded import EmbeddedIndex
from recsys_assets.indexing.weaviate import WeaviateIndex
from recsys_assets.retrieval import candidates, registry, through_index
from recsys_assets.retrieval.contract import EventLog
from recsys_assets.retrieval.through_index import DotProduct, ThroughIndex
from tests.indexing.fake_weaviate import FakeWeaviate
from tests.retrieval.shop import AS_OF, log_of, shop_events, shop_items, vectors
from tests.retrieval.test_candidates import CONFIG, USERS

ASKED = ("als", "content")


def mixed_tastes() -> pd.DataFrame:
    """The shop's events, a quarter of them of any item: no score is zero but for rounding."""
    events = shop_events()
    random = np.random.default_rng(1)
    stray = random.random(len(events)) < 0.25
    anything = pd.Series([f"i{n:02d}" for n in random.integers(0, 36, len(events))])
    return events.assign(item_id=events["item_id"].where(~stray, anything))


@pytest.fixture(params=["embedded", "weaviate"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, VectorIndex]]:
    """An index for each retriever that is asked through one."""
    if request.param == "embedded":
        yield {name: EmbeddedIndex(tmp_path / name) for name in ASKED}
        return
    with FakeWeaviate() as server:
        found = {n: WeaviateIndex(server.url, server.grpc_port, None, n) for n in ASKED}
        yield dict(found)
        for index in found.values():
            index.close()


def test_the_candidates_are_the_same_row_by_row(
    stores: dict[str, VectorIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through_index, "_MARGIN", 2)
    dates = shop_items()["available_to"].where(np.arange(40) % 3 > 0, AS_OF)  # a third is over
    log = EventLog.from_frames(mixed_tastes(), shop_items().assign(available_to=dates), AS_OF)
    chosen = registry.members(CONFIG, vectors())
    fitted = registry.fit(log, chosen)
    users = [*USERS, "nobody knows"]
    direct = candidates.generate(log, fitted, chosen, users).to_pandas()
    asked = dict(fitted)
    for name, index in stores.items():
        model = fitted[name]
        assert isinstance(model, DotProduct)
        asked[name] = ThroughIndex.build(name, model, chosen[name], log, index)
    through = candidates.generate(log, asked, chosen, users).to_pandas()
    pd.testing.assert_frame_equal(direct, through, rtol=1e-5, atol=1e-6)


def test_most_of_the_catalogue_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through_index, "_MARGIN", 0)
    log = log_of(mixed_tastes())
    chosen = registry.members({"als": {"k_unseen": 1, "params": {"factors": 6}}})
    model = registry.fit(log, chosen)["als"]
    assert isinstance(model, DotProduct)
    asked = ThroughIndex.build("als", model, chosen["als"], log, EmbeddedIndex(tmp_path))
    user = log.user_codes(["u03"])
    finite = pd.Series(asked.scores(user)[0]).replace(-float("inf"), None).dropna()
    seen = log.taken_matrix[user].nnz
    assert seen < len(finite) <= 2 * seen + 1
    exact = model.scores(user)[0]
    assert all(abs(exact[column] - score) < 1e-5 for column, score in finite.items())
