"""LightGBM's margins of many rows, to the last bit and a tenth of the time.

LightGBM takes one row down one tree after another, and every step waits for the one before. Here
each split of a tree is asked of a block of rows at once, in the processor's vector registers:
leaves are bits, numbered from left to right, a row that goes right at a split loses the leaves to
the left of it, and the first leaf that is left is where it ends (QuickScorer: Lucchese et al.,
SIGIR 2015, doi:10.1145/2766462.2767733). Thresholds are compared and leaves added in the order and
the precision in which LightGBM does.

Belongs here: reading a model text and predicting with it. Does not belong here: the loop itself
(`forest_kernel.py`), training, what the margins mean (`ranker.py`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 128
"""Rows that a split is asked of at once; their features stay in a core's second cache."""
MANY_VISITS = 3_000_000
"""From so many visits of a row to a tree on the splits are asked in blocks: that saves 0.2 us each,
and compiling it takes 5 s per process, in which a run scores some thirty times."""
MOST_LEAVES = 64

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_IS_NONE, _MISSING_IS_NAN = 0, 2


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of all trees, one after the other.

    Of split s: `feature` (column), `threshold` (float32: a value above it goes right), `kept` (the
    leaves, as bits, that a row keeps which goes right), `missing_right` (whether NaN goes right).
    Tree t has the splits `first[t]` to `first[t + 1]`, and its leaves' values from `leaf[t]` on in
    `values` (float64).
    """

    feature: np.ndarray
    threshold: np.ndarray
    kept: np.ndarray
    missing_right: np.ndarray
    first: np.ndarray
    leaf: np.ndarray
    values: np.ndarray

    @property
    def trees(self) -> int:
        return len(self.first) - 1

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        """The sum of the leaves that each row of `matrix` (float32, rows x features) ends in.

        Raises ValueError for other numbers than float32, and for fewer features than are asked of.
        """
        from recsys_assets.ranking import forest_kernel  # numba, 1 s

        asked = int(self.feature.max(initial=-1)) + 1
        if matrix.dtype != np.float32 or matrix.shape[1] < asked:  # the loop does not look
            raise ValueError(
                f"the trees ask for {asked} features of float32, the rows have {matrix.shape[1]} "
                f"of {matrix.dtype}"
            )
        columns = np.ascontiguousarray(matrix.T)
        found = np.empty(len(matrix))
        every = ~np.zeros(1, dtype=self.kept.dtype)[0]
        forest_kernel.margins(
            columns, self.feature, self.threshold, self.kept, self.missing_right,
            self.first, self.leaf, self.values, every, BLOCK, found,
        )  # fmt: skip
        return found


@dataclass(frozen=True, eq=False)
class Forest:
    """A LightGBM model text that was loaded: the booster and, where they are of the plain kind, its
    splits. `splits` is None for categorical splits, linear leaves, zeros that count as missing, or
    more than 64 leaves."""

    booster: Any
    splits: Splits | None

    @staticmethod
    def load(text: str) -> "Forest":
        """The caller has verified the text: a torn one kills the process."""
        import lightgbm as lgb  # 2 s

        return Forest(lgb.Booster(model_str=text), read_splits(text))

    def margins(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Raw margins (float64) of the rows of `matrix`, float32 with NaN for what is missing;
        quickest if that is stored feature by feature."""
        if not len(matrix):
            return np.empty(0)
        if self.splits is not None and len(matrix) * self.splits.trees >= MANY_VISITS:
            return self.splits.margins(matrix)
        return np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=threads))


def read_splits(text: str) -> Splits | None:
    """The splits of a LightGBM model text, or None where they are not of the plain kind."""
    trees = [_fields(block) for block in text.split("\nTree=")[1:]]
    leaves = [int(tree["num_leaves"]) for tree in trees]
    strange = any(tree.get("is_linear", "0") != "0" for tree in trees)
    if not trees or max(leaves) > MOST_LEAVES or strange:
        return None
    bits = np.uint32 if max(leaves) <= 32 else np.uint64
    parts = [_one_tree(tree, bits) for tree in trees]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    feature, threshold, kept, missing_right, values = (
        np.concatenate(arrays) for arrays in zip(*whole, strict=True)
    )
    first = np.concatenate([[0], np.cumsum([len(part[0]) for part in whole])])
    leaf = np.concatenate([[0], np.cumsum(leaves)])
    return Splits(feature, threshold, kept, missing_right, first, leaf, values)


def _fields(block: str) -> dict[str, str]:
    lines = block.split("\n\n", 1)[0].splitlines()[1:]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _one_tree(
    tree: dict[str, str], bits: type[np.unsignedinteger[Any]]
) -> tuple[np.ndarray, ...] | None:
    """feature, threshold, kept, missing_right of the splits; value of the leaves, left to right."""

    def numbers(name: str, kind: type) -> np.ndarray:
        return np.array(tree.get(name, "").split(), dtype=kind)

    values = numbers("leaf_value", np.float64)
    feature, threshold = numbers("split_feature", np.int64), numbers("threshold", np.float64)
    decision = numbers("decision_type", np.int64)
    missing = decision >> 2 & 3
    if (decision & _CATEGORICAL).any() or not np.isin(
        missing, (_MISSING_IS_NONE, _MISSING_IS_NAN)
    ).all():
        return None
    order: list[int] = []  # of the leaves, from left to right
    kept = np.zeros(len(feature), dtype=bits)
    left, right = numbers("left_child", np.int64), numbers("right_child", np.int64)

    def walk(node: int) -> None:
        if node < 0:
            order.append(~node)
            return
        before = len(order)
        walk(left[node])
        lost = (1 << len(order)) - (1 << before)
        kept[node] = bits(~lost & int(np.iinfo(bits).max))
        walk(right[node])

    walk(0 if len(feature) else -1)
    near = threshold.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    # Where no value is missing in training, LightGBM takes NaN for 0.
    to_left = np.where(missing == _MISSING_IS_NAN, decision & _DEFAULT_LEFT > 0, threshold >= 0)
    return (
        feature,
        np.where(near.astype(np.float64) > threshold, below, near),
        kept,
        ~to_left,
        values[order],
    )
