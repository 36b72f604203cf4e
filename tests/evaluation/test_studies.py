"""Studies of the recipe: which cutoffs and windows, what a variant takes away, and tuning."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.config import load_shop, packaged_shop
from recsys_assets.core.metrics import seeded_sample
from recsys_assets.evaluation import studies, study_assets, tuning
from recsys_assets.ranking.ranker import RankerSettings

EVALUATE = pd.Timestamp("2017-12-04", tz="UTC")
FIRST = pd.Timestamp("2017-01-01", tz="UTC")


def test_earlier_cutoffs_leave_out_tune_and_those_without_a_label_window() -> None:
    found = studies.earlier_cutoffs(EVALUATE, FIRST, 28, 2)
    assert [f"{m:%m-%d}" for m in found] == ["10-09", "09-11"]
    short = studies.earlier_cutoffs(EVALUATE, pd.Timestamp("2017-08-01", tz="UTC"), 28, 5)
    assert [f"{m:%m-%d}" for m in short] == ["10-09"]


@given(st.integers(1, 8), st.integers(1, 40), st.integers(7, 60))
def test_no_window_reaches_into_what_it_is_measured_on(n: int, step: int, horizon: int) -> None:
    windows = studies.windows_of(EVALUATE, FIRST, horizon, step, n)
    assert all(w + pd.Timedelta(days=horizon) <= EVALUATE for w in windows)
    assert all(w - pd.Timedelta(days=horizon) >= FIRST for w in windows)
    assert windows == sorted(windows, reverse=True) and len(windows) <= n


def frame(users: str, seed: int) -> pa.Table:
    """Per user ten candidates; the label is what `score_good` says, `score_noise` says nothing."""
    rng = np.random.default_rng(seed)
    n = 10 * len(users)
    label = (rng.random(n) < 0.3).astype(np.float32)
    good, noise = (label + rng.normal(0, 0.3, n)).astype("f4"), rng.random(n).astype("f4")
    one = np.arange(n) % 10 < 5
    return pa.table(
        {
            "as_of": pa.array([EVALUATE] * n),
            "user_id": np.repeat(list(users), 10),
            "item_id": [f"i{k % 10}" for k in range(n)],
            "label": label,
            "ui_seen": np.zeros(n, dtype="f4"),
            "score_good": good,
            "rank_good": pa.array(np.where(one, 1, np.nan).astype("f4")),
            "score_noise": noise,
            "rank_noise": pa.array(np.where(one, np.nan, 1).astype("f4")),
        }
    )


def sample() -> studies.TuneSample:
    users = "abcdefghijklmnopqrstuvwxyz"
    rows = frame(users, 1)
    taken = rows.filter(pa.array(rows["label"].to_numpy() > 0)).select(["user_id", "item_id"])
    return studies.TuneSample(
        windows=[frame(users, 2), frame(users, 3)],
        rows=rows.drop_columns("label"),
        relevant={"all": taken.to_pandas()},
        k=3,
    )


SETTINGS = RankerSettings(rounds=10, min_data_in_leaf=5, threads=1)


def test_what_carries_the_signal_is_missed_and_what_says_nothing_is_not() -> None:
    here = sample()
    whole = here.per_user("all", SETTINGS).mean()
    without = studies.Variant("features", "good", without=("score_g*",))
    assert here.per_user("all", SETTINGS, without).mean() < whole - 0.2
    idle = studies.Variant("features", "noise", without=("score_n*",))
    assert here.per_user("all", SETTINGS, idle).mean() == pytest.approx(whole, abs=0.05)


def test_without_a_retriever_its_columns_and_what_only_it_brought_are_gone() -> None:
    rows = studies._without_retriever(frame("ab", 1), "good")
    assert not [c for c in rows.column_names if c.endswith("_good")]
    assert rows.num_rows == 10 and np.isfinite(rows["rank_noise"].to_numpy()).all()


def test_every_feature_belongs_to_a_group() -> None:
    from fnmatch import fnmatchcase

    from recsys_assets.ranking.features import feature_names

    patterns = [p for group in studies.FEATURE_GROUPS.values() for p in group]
    for name in feature_names(["score_ease"]):
        assert any(fnmatchcase(name, p) for p in patterns), name


def test_rows_of_one_chance_are_as_well_calibrated_in_any_order() -> None:
    chance, taken = np.full(20, 0.25), np.arange(20) < 5
    assert studies.reliability(chance, taken)[1] == studies.reliability(chance, taken[::-1])[1] == 0


def test_a_calibrated_score_lies_on_the_diagonal_once_sampling_is_taken_back() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.01, 0.4, 200_000)
    taken = rng.random(len(chance)) < chance
    kept_share = 0.2
    margin = np.log(chance / (1 - chance) / kept_share)
    table, error = studies.reliability(studies.chance_of_margin(margin, kept_share), taken)
    assert len(table) == 10 and table["n"].sum() == len(chance)
    assert error < 0.005
    _, wrong = studies.reliability(studies.chance_of_margin(margin, 1.0), taken)
    assert wrong > 0.2
    half = len(chance) // 2
    read = studies.chance_from(margin[:half], taken[:half], of=margin[half:])
    assert (np.diff(read[np.argsort(margin[half:])]) >= 0).all()
    assert studies.reliability(read, taken[half:])[1] < 0.01


def test_tuning_starts_with_what_is_configured_and_repeats_itself() -> None:
    def measure(settings: RankerSettings) -> float:
        return settings.num_leaves / 100 - abs(settings.learning_rate - 0.12)

    start = RankerSettings()
    found = tuning.search(measure, start, 12, seed=3)
    assert found["trial"].tolist() == list(range(12))
    assert found["value"].iloc[0] == pytest.approx(measure(start))
    assert found["value"].max() > found["value"].iloc[0]
    pd.testing.assert_frame_equal(found, tuning.search(measure, start, 12, seed=3))


class Made:
    """A sample whose users score by the number of rounds: `lucky` ones the more the better, the
    others the same whatever is set, or as the lucky ones if `real`."""

    def __init__(self, real: bool, seed: int) -> None:
        users = [f"u{n:03}" for n in range(80)]
        self.relevant = {"all": pd.DataFrame({"user_id": users, "item_id": "i"})}
        self.lucky = (
            set(users) if real else set(seeded_sample(users, 20, seed, study_assets.SAMPLE))
        )
        self.users = users

    def per_user(self, task: str, settings: RankerSettings) -> pd.Series:
        return pd.Series(
            [settings.rounds / 1000 if u in self.lucky else 0.1 for u in self.users],
            index=self.users,
        )


@pytest.mark.parametrize("real", [True, False])
def test_only_what_wins_on_users_it_was_not_chosen_on_is_proposed(real: bool) -> None:
    shop = load_shop(packaged_shop())
    few = shop.studies.model_copy(update={"users": 20, "trials": 6})
    shop = shop.model_copy(update={"studies": few})
    sample = Made(real, shop.seed)
    trials, said = study_assets._searched(sample, "all", RankerSettings(rounds=10), shop)
    best = trials[trials["is_best"]].iloc[0]
    assert best["ndcg"] == pytest.approx(best["settings"]["rounds"] / 1000)
    assert best["ndcg"] == trials["ndcg"].max() > trials["ndcg"].iloc[0]
    assert best["is_confirmed"] == real
    assert trials["is_confirmed"].sum() == real
    assert best["others_ndcg"] == pytest.approx(best["ndcg"] if real else 0.1)
    assert ("not proposed" in said) != real
    assert "on 20 users" in said and "On 60 others" in said


def test_the_yaml_of_tuning_is_what_a_shop_file_accepts() -> None:
    import yaml

    from recsys_assets.ranking.recipe import Recipe

    best = tuning.search(lambda s: float(s.rounds), RankerSettings(), 3, seed=0)["settings"].iloc[
        -1
    ]
    section = yaml.safe_load(tuning.as_yaml({"all": best}))["ranker"]
    recipe = Recipe.read(section, seed=7)
    assert recipe.settings["all"].rounds == best["rounds"]
    assert recipe.settings["all"].objectives == tuple(best["objectives"])
