"""Margins in blocks: every bit as LightGBM has it."""

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys_assets.ranking.forest import BLOCK, MANY_VISITS, Forest, Splits, read_splits


def _rows(n: int, seed: int, missing: float = 0.2) -> np.ndarray:
    """Six features: normal ones with gaps, counts, one that is never missing, one constant."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[rng.random(x.shape) < missing] = np.nan
    x[:, 2] = rng.integers(0, 4, n)
    x[:, 3] = rng.normal(size=n)
    x[:, 4] = 1.0
    x[rng.random(n) < 0.1, 3] = np.float32(1e-36)
    return x


def _text(
    leaves: int,
    seed: int = 0,
    rounds: int = 20,
    categories: list[int] | None = None,
    **more: object,
) -> str:
    x = _rows(3_000, seed)
    y = np.nan_to_num(x[:, 0]) * np.nan_to_num(x[:, 1], nan=1.0) + x[:, 3] + x[:, 2] % 2 > 0
    y = y.astype(int)
    given = {
        "objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 5, "max_bin": 63,
        "feature_fraction": 0.7, "verbosity": -1, "num_threads": 1, "seed": seed, **more,
    }  # fmt: skip
    data = lgb.Dataset(x, y, categorical_feature=categories or [])
    return str(lgb.train(given, data, rounds).model_to_string())


def _expected(text: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(lgb.Booster(model_str=text).predict(x, raw_score=True, num_threads=1))


@pytest.mark.parametrize("leaves", [2, 3, 31, 32, 33, 64])
@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 1])
def test_margins_are_those_of_lightgbm_to_the_last_bit(leaves: int, n: int):
    text = _text(leaves)
    splits = read_splits(text)
    assert splits is not None
    x = _rows(n, seed=leaves, missing=0.4)
    assert splits.margins(x).tobytes() == _expected(text, x).tobytes()


def test_rows_stored_feature_by_feature_or_row_by_row_are_the_same_rows():
    splits = read_splits(_text(31))
    assert splits is not None
    x = _rows(500, 1)
    assert np.array_equal(splits.margins(np.asfortranarray(x)), splits.margins(x))


_TEXT = _text(31, rounds=60)
_SPLITS = read_splits(_TEXT)
_EDGES = sorted({0.0, *(float(t) for t in _SPLITS.threshold)}) if _SPLITS else []
_VALUES = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.sampled_from(_EDGES),
    st.sampled_from([float(np.nextafter(np.float32(e), np.float32(np.inf))) for e in _EDGES]),
    st.sampled_from([1e-35, -1e-35, float(np.float32(1.0000001e-35)), 1e-40, -0.0]),
)


@settings(max_examples=150, deadline=None)
@given(arrays(np.float32, (7, 6), elements=_VALUES))
def test_values_at_a_threshold_next_to_it_and_next_to_zero_go_where_lightgbm_sends_them(x):
    assert _SPLITS is not None
    assert _SPLITS.margins(x).tobytes() == _expected(_TEXT, x).tobytes()


def test_where_training_missed_nothing_a_missing_value_is_zero():
    text = _text(31)
    x = _rows(200, 5)
    x[:, 3] = np.nan  # never missing while the trees were grown
    splits = read_splits(text)
    assert splits is not None
    assert splits.margins(x).tobytes() == _expected(text, x).tobytes()


def test_rows_with_too_few_features_or_other_numbers_are_refused():
    splits = read_splits(_TEXT)
    assert splits is not None
    with pytest.raises(
        ValueError, match="ask for 6 features of float32, the rows have 3 of float32"
    ):
        splits.margins(_rows(10, 0)[:, :3])
    with pytest.raises(ValueError, match="the rows have 6 of float64"):
        splits.margins(_rows(10, 0).astype(np.float64))


def test_a_tree_without_a_split_adds_its_only_leaf():
    x, y = _rows(50, 0), np.arange(50) % 2
    data = lgb.Dataset(x, y, params={"min_data_in_leaf": 40, "verbosity": -1})
    text = lgb.train({"objective": "binary", "verbosity": -1}, data, 2).model_to_string()
    splits = read_splits(text)
    assert splits is not None
    assert len(splits.feature) == 0
    assert splits.margins(x).tobytes() == _expected(text, x).tobytes()


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("65 leaves", lambda: _text(65)),
        ("a category", lambda: _text(31, categories=[2], min_data_per_group=1)),
        ("linear leaves", lambda: _text(8, linear_tree=True)),
        ("zero as missing", lambda: _text(31, zero_as_missing=True)),
    ],
)
def test_other_kinds_of_trees_are_left_to_lightgbm(what: str, text):
    model = text()
    forest = Forest.load(model)
    assert forest.splits is None, what
    x = _rows(MANY_VISITS // 20, 3)
    assert forest.margins(x, threads=1).tobytes() == _expected(model, x).tobytes()


def test_few_visits_and_many_get_the_same_margins(monkeypatch: pytest.MonkeyPatch):
    in_blocks: list[int] = []
    margins = Splits.margins

    def recorded(splits: Splits, matrix: np.ndarray) -> np.ndarray:
        in_blocks.append(len(matrix))
        return margins(splits, matrix)

    monkeypatch.setattr(Splits, "margins", recorded)
    forest = Forest.load(_TEXT)
    x = _rows(MANY_VISITS // _SPLITS.trees, 9)
    many = forest.margins(x, threads=1)
    few = forest.margins(x[:-1], threads=1)
    assert in_blocks == [len(x)]
    assert many[:-1].tobytes() == few.tobytes()
    assert forest.margins(x[:0], threads=1).shape == (0,)
