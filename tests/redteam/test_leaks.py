"""Leaks planted in the code that makes the tables: the gate of the graph refuses each by name.

Every plant changes a function of the product, and the table goes through its own asset and gate.
The control is the same path without the plant: `base` is made by it, and every gate passed.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from recsys_assets.core import warehouse
from recsys_assets.core.cutoffs import cutoff_of
from recsys_assets.core.lake import part_name
from recsys_assets.core.settings.benchmark import Benchmark
from recsys_assets.indexing import assets as indexing
from recsys_assets.ranking import assets as ranking
from recsys_assets.ranking import gates
from recsys_assets.retrieval import assets as retrieval
from recsys_assets.staging import assets as staging
from recsys_assets.staging.benchmark import on_benchmark_clock
from recsys_assets.staging.tables import INTERACTIONS, USERS
from tests.redteam.plants import (
    dropped,
    in_front_of_training,
    in_group,
    in_sql,
    in_training,
    peeking,
    put,
    reordered,
)
from tests.redteam.shop import CHAIN, RETRIEVERS, SHOP, RedShop, as_interactions, events

UNTRAINED = tuple(n for n in CHAIN if n not in ("training_rows", "rankers", "scored_candidates"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RedShop:
    """The shop up to its training rows, without any plant: every gate passes."""
    shop = RedShop.build(tmp_path_factory.mktemp("base") / "home")
    assert shop.refusal(*UNTRAINED, "training_rows") == ""
    return shop


@pytest.fixture
def again(base: RedShop, tmp_path: Path) -> Callable[..., str]:
    """Makes tables anew in a copy of the shop; gives the reason why the last one is refused."""

    def make(*names: str, home: str = "copy") -> str:
        return base.copy(tmp_path / home, without=names).refusal(*names)

    return make


def test_a_feature_that_reads_the_label_window_is_refused(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_sql(
        monkeypatch, tmp_path, "ranking/user_item_features.sql",
        "FROM interactions_as_of($as_of)", "FROM interactions",
    )  # fmt: skip
    assert "saw the future" in again("user_item_features")


def test_a_feature_of_plans_that_nobody_knew_is_refused_and_named(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_sql(
        monkeypatch, tmp_path, "ranking/item_features.sql", "WHERE known_from < $as_of", ""
    )  # fmt: skip
    reasons = again("item_features")
    assert "promo_feature_days_next_28" in reasons and "saw the future" in reasons


def test_a_popularity_count_over_the_whole_table_is_refused_and_named(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(table: pa.Table, given: dict[str, Any]) -> pa.Table:
        log = warehouse.Warehouse().run(
            "SELECT item_id, count(*) AS n FROM log GROUP BY item_id",
            {"log": given["interactions"]},
        )
        n = dict(zip(log["item_id"].to_pylist(), log["n"].to_pylist(), strict=True))
        return put(table, "item_users_84", [n.get(i, 0) for i in table["item_id"].to_pylist()])

    in_group(monkeypatch, "item_features", count)
    assert "item_users_84: changes when the events after the cutoff" in again("item_features")


def test_features_that_look_at_the_label_or_the_month_are_refused_and_each_is_named(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(rows: pa.Table) -> pa.Table:
        frame = rows.select(["item_id", "label"]).to_pandas()
        encoded = frame.groupby("item_id")["label"].transform("mean")
        rows = put(rows, "item_price", np.where(frame["label"] > 0, 1.0, np.nan))
        rows = put(rows, "item_gap_mean", encoded)
        return rows.append_column("basket_price", rows["item_price"])

    in_training(monkeypatch, leak)
    in_group(
        monkeypatch, "user_features",
        lambda table, given: put(
            table, "user_store_share", np.full(table.num_rows, given["as_of"].dayofyear)
        ),
    )  # fmt: skip
    reasons = again("user_features", "training_rows")
    for name, why in {
        "item_price": "is not what a server would have",  # exists only for positives
        "item_gap_mean": "is not what a server would have",  # ids encoded by their own label
        "basket_price": "a server does not have this feature",
        "user_store_share": "is constant within every window and differs between",  # the month
    }.items():
        assert f"{name}: {why}" in reasons
    assert len(reasons.split("; ")) == 4, "no other feature is accused"


def test_a_context_that_is_known_of_the_past_only_is_refused_when_it_is_served(
    again: Callable[..., str], base: RedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = cutoff_of(base.project.lake.read("cutoffs"), "live")

    def promoted(table: pa.Table, given: dict[str, Any]) -> pa.Table:
        sells = table["item_new_users_84"].to_numpy()
        empty = np.full(table.num_rows, np.nan)
        return put(table, "item_discount_share_14", empty if given["as_of"] == live else sells)

    in_group(monkeypatch, "item_features", promoted)
    reasons = again("item_features", "training_rows", "rankers", "scored_candidates")
    assert "item_discount_share_14: differs in every label window" in reasons
    assert "constant at serving" in reasons
    accused = {reason.split(":")[0] for reason in reasons.split("; ")}
    assert accused == {"item_discount_share_14", "discount_match"}, "and what is made of it"

    steps = ("item_features", "training_rows", "rankers", "scored_candidates")
    with monkeypatch.context() as patch:
        patch.setattr(gates, "MATTERS", 0.5)
        assert again(*steps, home="unused") == "", "no list depends on it"
    monkeypatch.setattr(gates, "ENOUGH", 100)
    assert again(*steps, home="few") == "", (
        "one value among 60 users may be chance, were 100 enough"
    )


def test_a_shop_between_two_campaigns_is_not_held(
    again: Callable[..., str], base: RedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = cutoff_of(base.project.lake.read("cutoffs"), "live")

    def planned(table: pa.Table, given: dict[str, Any]) -> pa.Table:
        days = np.random.default_rng(1).integers(0, 7, table.num_rows)
        none = np.full(table.num_rows, np.nan)
        for name in ("promo_feature_days_next_28", "promo_display_days_7"):
            table = put(table, name, none if given["as_of"] == live else days)
        return table

    in_group(monkeypatch, "item_features", planned)
    assert again("item_features", "training_rows", "rankers", "scored_candidates") == ""


def test_one_value_among_a_few_may_be_rare_and_is_asked_of_everybody() -> None:
    """`gap` is null for the few looked at first and known of one of the others, `month` is 12 for
    all, `never` is known of nobody; `made_elsewhere` is in no table."""
    few = pa.table(
        {"varies": [1.0, 2.0], "gap": [None, None], "month": [12, 12], "never": [None] * 2}
    )
    rest = pa.table({"varies": [3.0], "gap": [7.0], "month": [12], "never": [None]})
    rest, few = (
        t.cast(pa.schema([(n, pa.float32()) for n in t.column_names])) for t in (rest, few)
    )
    read = []

    def tables() -> Iterator[pa.Table]:
        for table in (few, rest, rest):
            read.append(table)
            yield table

    names = ["varies", "gap", "month", "never", "made_elsewhere"]
    assert gates.one_valued(names, tables()) == {"month", "never"}
    read.clear()
    assert gates.one_valued(["varies", "gap"], tables()) == set()
    assert len(read) == 2, "nobody more is asked once all vary"


def test_a_benchmark_is_accused_of_nothing(tmp_path: Path) -> None:
    """On its calendar a day is one taking: everybody came on seven of the last seven days at the
    last target, and at every label window only those with a longer history."""
    settings = yaml.safe_load(SHOP)
    settings |= {"repeats": False, "benchmark": {"split": "leave_last"}}
    settings["cutoffs"] = {"windows": 1}
    del settings["placements"]["buy_again"]
    log = events().drop_duplicates(["user_id", "item_id"]).assign(session_id=None)
    short = log["user_id"].str[1:].astype(int) % 3 > 0
    log = log[~short | (log.groupby("user_id").cumcount() < 7)]
    benchmark = Benchmark.model_validate(settings["benchmark"])
    clocked = on_benchmark_clock(INTERACTIONS.conform(log), benchmark, "UTC").to_pandas()
    shop = RedShop.build(tmp_path / "home", log=clocked, shop=yaml.safe_dump(settings))
    shop.store(USERS, pd.DataFrame({"user_id": sorted(set(log["user_id"])), "attributes": "{}"}))
    assert shop.refusal(*CHAIN) == ""


@pytest.mark.parametrize("table", RETRIEVERS)
def test_a_retriever_that_peeks_is_refused(
    table: str, again: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "event_log", peeking(lambda given: given))
    reasons = again(table)
    assert "saw the future" in reasons
    if table == "candidates":
        assert "retrievers: als, content, frequency, popularity_28d" in reasons


def test_an_index_built_from_later_data_is_refused(
    base: RedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base.copy(tmp_path / "control").refusal("vector_index") == ""
    monkeypatch.setattr(
        indexing, "interactions_as_of", lambda log, as_of, columns: log.to_arrow(columns)
    )
    reasons = base.copy(tmp_path / "planted").refusal("vector_index")
    assert "content_hash: differs" in reasons and "saw the future" in reasons


def test_a_catalogue_derived_from_the_interactions_is_refused(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sold = warehouse.Warehouse.query, pa.array(events()["item_id"].unique())

    def planted(self: warehouse.Warehouse, name: str, *given: Any) -> pa.Table:
        table = real(self, name, *given)
        if name == "staging/items":
            table = table.filter(pc.is_in(table["item_id"], value_set=sold))
        return table

    monkeypatch.setattr(warehouse.Warehouse, "query", planted)
    assert "products of the source are left out" in again("items")


def with_labels(folder: Path, log: pd.DataFrame) -> str:
    return RedShop.build(folder, log=log).refusal("cutoffs", "labels")


def test_baskets_that_were_delivered_on_both_sides_of_a_cutoff_are_refused(
    base: RedShop, tmp_path: Path
) -> None:
    as_of = cutoff_of(base.project.lake.read("cutoffs"), "evaluate")
    log = events()
    late = log[(log["event_time"] >= as_of) & (log["user_id"] < "u030")]
    shifted = late.assign(event_time=late["event_time"] - pd.Timedelta(days=20))
    reasons = with_labels(tmp_path / "twice", as_interactions(pd.concat([log, shifted])))
    assert "duplicates across the split" in reasons
    # The same lines under baskets of their own are a habit.
    habit = shifted.assign(session_id=shifted["session_id"] + "-earlier")
    assert with_labels(tmp_path / "habit", as_interactions(pd.concat([log, habit]))) == ""


def test_a_label_window_that_reaches_into_its_target_is_refused(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = staging.plan

    def overlapping(*given: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        calendar, fits = real(*given)
        more = pd.Timedelta(days=3)
        return calendar, fits.assign(window_horizon_end=fits["window_horizon_end"] + more)

    monkeypatch.setattr(staging, "plan", overlapping)
    assert "a label window ends after its target's cutoff" in again("fits")


def test_a_ranker_that_learned_from_what_it_is_measured_by_is_refused(
    again: Callable[..., str], base: RedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the evaluate cutoff are there, since they teach the live target."""
    everything = base.project.lake.read("training_rows").to_arrow()
    real = ranking.ranker.train_tasks
    monkeypatch.setattr(
        ranking.ranker, "train_tasks", lambda frame, *a, **k: real(everything, *a, **k)
    )
    assert f"evaluate/all of seed 7 learned from {everything.num_rows:,} rows" in again("rankers")


def test_labels_of_only_what_a_retriever_found_are_refused(
    again: Callable[..., str], base: RedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, key = ranking.training.build_labels, ["user_id", "item_id"]
    candidates = base.project.lake.read("candidates")

    def found(store: warehouse.Warehouse, log: Any, as_of: pd.Timestamp, end: Any) -> pa.Table:
        labels = real(store, log, as_of, end)
        listed = candidates.to_arrow([*key, "rank_frequency"], part_name(as_of)).drop_null()
        kept = labels.join(listed, key, join_type="left semi").select(labels.column_names)
        return kept.sort_by([(name, "ascending") for name in key])

    monkeypatch.setattr(ranking.training, "build_labels", found)
    reasons = again("labels")
    assert "users took" in reasons and "within the horizon" in reasons


@pytest.mark.parametrize("rule", ["grain", "parity"])
def test_without_its_rule_a_plant_gets_through(
    rule: str, again: Callable[..., str], base: RedShop, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    names: Sequence[str]
    if rule == "grain":
        names = ["user_item_features"]
        in_sql(
            monkeypatch, tmp_path, "ranking/user_item_features.sql",
            "FROM interactions_as_of($as_of)", "FROM interactions",
        )  # fmt: skip
    else:
        names = ["training_rows"]
        in_training(monkeypatch, lambda rows: put(rows, "item_price", rows["label"].to_numpy()))
    producer = base.assets[names[0]].producer
    rules = producer.rules
    object.__setattr__(producer, "rules", ())
    try:
        assert again(*names) == ""
    finally:
        object.__setattr__(producer, "rules", rules)


def test_a_ranker_of_other_features_is_refused_by_its_feature_spec_and_by_nothing_else(
    again: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        in_front_of_training(patch, dropped, 1)
        assert "lacks 1 of the features served (['item_trend_7_28'])" in again(
            "rankers", home="dropped"
        )
    in_front_of_training(monkeypatch, reordered, 1)
    assert "has the features in another order" in again("rankers", home="reordered")
    monkeypatch.setattr(ranking.ranker, "spec_faults", lambda *given: [])
    assert again("rankers", home="mutation") == ""
