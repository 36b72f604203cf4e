"""The recipe, repeated: at other cutoffs, without parts of it, with fewer windows, other settings.

Belongs here: fitting and measuring the whole recipe (retrievers, features, rankers) anywhere, for
the scheduled studies. Does not belong here: what the main job computes once and stores, and the
choice of studies (assets).

A *variant* is the recipe with something taken away or changed. Variants are measured on a seeded
sample of users of the tune target, so that what is learned from them is learned before the evaluate
target is looked at; differences are paired by user.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.core.metrics import per_user_metrics
from recsys_assets.core.settings.calendar import Cutoffs
from recsys_assets.core.warehouse import Relation, Warehouse
from recsys_assets.evaluation.held_out import top
from recsys_assets.ranking import features, ranker, training
from recsys_assets.ranking.ranker import RankerModel, RankerSettings
from recsys_assets.ranking.recipe import Recipe
from recsys_assets.ranking.scoring import candidate_history, score_or_fuse
from recsys_assets.retrieval import candidates as generator
from recsys_assets.retrieval import hidden, registry
from recsys_assets.retrieval.contract import EventLog
from recsys_assets.retrieval.learners import learners

FEATURE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "retriever scores": ("score_*", "share_*"),
    "retriever places": ("rank_*", "place_*", "places_*", "lists"),
    "history with the item": ("ui_*",),
    "when it is due": ("ui_due_*", "ui_expected_*", "ui_gap_*", "u[ctbg]_due_*", "ubt_due_*"),
    "history with its kind": ("u[ctbg]_*", "ubt_*"),
    "demand and trends": ("item_*", "type_*", "brand_*"),
    "promotions": ("promo_*",),
    "prices and discounts": ("*price*", "*discount*"),
    "the user's habits": ("user_*",),
    "stores": ("*store*",),
}
"""Groups of features that are left out together: name -> patterns of column names."""


@dataclass(frozen=True, eq=False)
class World:
    """Everything the recipe is made from, whatever the cutoff.

    `interactions` and `items` are relations of the staged tables, `catalogue` is the latter as a
    table, `known_at` gives the events before a cutoff, `members` are the retrievers, `cutoffs` says
    how far labels look and how many users a window is learned from.
    """

    warehouse: Warehouse
    interactions: Relation
    items: Relation
    users: pa.Table
    promotions: Relation
    catalogue: pa.Table
    known_at: Callable[[pd.Timestamp], pa.Table]
    members: Mapping[str, registry.Member]
    recipe: Recipe
    cutoffs: Cutoffs
    seed: int

    @property
    def everybody(self) -> list[str]:
        return self.users["user_id"].to_pylist()

    def candidates(self, as_of: pd.Timestamp, users: Sequence[str]) -> tuple[EventLog, pa.Table]:
        log = EventLog.from_frames(self.known_at(as_of), self.catalogue, as_of)
        fitted = registry.fit(log, self.members, self.seed)
        return log, generator.generate(log, fitted, self.members, users)

    def features(self, as_of: pd.Timestamp) -> dict[str, pa.Table]:
        return features.build_feature_tables(
            self.warehouse,
            self.interactions,
            self.items,
            self.users,
            as_of,
            promotions=self.promotions,
            horizon_days=self.cutoffs.horizon_days,
        )

    def labels(self, as_of: pd.Timestamp) -> pa.Table:
        end = as_of + pd.Timedelta(days=self.cutoffs.horizon_days)
        return training.build_labels(self.warehouse, self.interactions, as_of, end)

    def window(self, as_of: pd.Timestamp) -> pa.Table:
        """The labelled rows of one window."""
        catalogue = self.catalogue
        users = learners(self.everybody, as_of, self.cutoffs, self.seed)
        _, proposed = self.candidates(as_of, users)
        shown, tables = training.hide(
            self.warehouse,
            proposed,
            self.items,
            features.tables_of_users(self.features(as_of), users),
            user_item_days=features.user_item_days(self.warehouse, self.interactions, as_of),
            promotions=self.promotions,
            hidden=list(hidden.hidden_at(catalogue["item_id"].to_pylist(), as_of, self.seed)),
            proposed=hidden.propose(
                self.known_at(as_of), catalogue, as_of, self.members, users, self.seed
            ),
        )
        return training.training_frame(
            self.warehouse,
            shown,
            self.labels(as_of),
            self.items,
            tables,
            negative_share=self.recipe.negative_share,
            seed=self.seed,
        )

    def rankers(self, frame: pa.Table) -> tuple[dict[str, RankerModel], dict[str, str]]:
        """Score column -> the ranker that learned it from `frame`; task -> why it has none."""
        models: dict[str, RankerModel] = {}
        missing: dict[str, str] = {}
        variants = {task: [settings] for task, settings in self.recipe.settings.items()}
        for task, found, why in ranker.train_tasks(frame, variants):
            models |= {f"score_{task}": model for model in found}
            missing |= {str(task): why} if why else {}
        return models, missing

    def scored(
        self, as_of: pd.Timestamp, models: Mapping[str, RankerModel]
    ) -> tuple[EventLog, pa.Table, pa.Table]:
        """The log, the candidates and their scores at `as_of`.

        The scores have the columns of `scored_candidates` that lists are made from; as there, the
        fused places of the retrievers stand in for a ranker that is missing.
        """
        log, proposed = self.candidates(as_of, self.everybody)
        tables = self.features(as_of)
        history = candidate_history(self.warehouse, proposed, tables)
        seen = history["seen"].to_numpy()
        scores = score_or_fuse(self.warehouse, models, proposed, self.items, tables, seen)
        kept = {name: history[name] for name in ("seen", "times", "due")}
        keys = {name: proposed[name] for name in features.KEYS}
        return log, proposed, pa.table({**keys, **scores, **kept})


def earlier_cutoffs(
    evaluate: pd.Timestamp, first: pd.Timestamp, horizon_days: int, n: int
) -> list[pd.Timestamp]:
    """`n` cutoffs before `evaluate`, a horizon apart, without the tune target and without those
    that lack history for one label window (two horizons after the first event)."""
    step = pd.Timedelta(days=horizon_days)
    moments = [evaluate - step * back for back in range(2, n + 2)]
    return [moment for moment in moments if moment - 2 * step >= first]


def windows_of(
    as_of: pd.Timestamp, first: pd.Timestamp, horizon_days: int, step_days: int, n: int
) -> list[pd.Timestamp]:
    """The label windows that train a target at `as_of`, latest first; all end by `as_of`."""
    latest = as_of - pd.Timedelta(days=horizon_days)
    windows = [latest - pd.Timedelta(days=step_days) * nth for nth in range(n)]
    return [w for w in windows if w - pd.Timedelta(days=horizon_days) >= first]


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed: features (by pattern) or a retriever taken away, only the
    latest so many windows, or other settings."""

    kind: str
    name: str
    without: tuple[str, ...] = ()
    retriever: str | None = None
    windows: int | None = None


WHOLE = Variant("full", "everything")


@dataclass(frozen=True, eq=False)
class TuneSample:
    """Rows to learn from and rows to measure on, of a sample of users.

    `windows` are training rows, latest window first; `rows` all candidates of the sampled users at
    the tune cutoff with every feature; `relevant` what those users then took, per task.
    """

    windows: Sequence[pa.Table]
    rows: pa.Table
    relevant: Mapping[str, pd.DataFrame]
    k: int = 10

    def per_user(self, task: str, settings: RankerSettings, variant: Variant = WHOLE) -> pd.Series:
        """NDCG@k per user of the ranker of `task` learned under a variant (index user_id).

        Raises NothingToLearnError where no tree can be grown.
        """
        windows = list(self.windows)[: variant.windows]
        learn, rows = pa.concat_tables(windows), self.rows
        if variant.retriever is not None:
            learn, rows = (_without_retriever(t, variant.retriever) for t in (learn, rows))
        dropped = [n for n in rows.column_names if any(fnmatchcase(n, p) for p in variant.without)]
        dropped = [n for n in dropped if n not in (*features.KEYS, "ui_seen")]
        learn, rows = learn.drop_columns(dropped), rows.drop_columns(dropped)
        if not any(name.startswith("score_") for name in learn.column_names):
            settings = replace(settings, blend=0.0)  # there is no line without retriever scores
        model = ranker.train(learn, settings)
        return self.ndcg(task, _scored(model, rows))

    def ndcg(self, task: str, scored: pd.DataFrame) -> pd.Series:
        """NDCG@k per user of `user_id, item_id, score`."""
        found = per_user_metrics(top(scored, self.k), self.relevant[task], (self.k,))
        return found.set_index("user_id")[f"ndcg@{self.k}"]


def _scored(model: RankerModel, rows: pa.Table) -> pd.DataFrame:
    rows = rows.filter(pa.array(ranker.in_task(rows["ui_seen"].to_numpy() > 0, model.task)))
    pairs = rows.select(["user_id", "item_id"]).to_pandas()
    return pairs.assign(score=ranker.score(model, rows))


def _without_retriever(rows: pa.Table, name: str) -> pa.Table:
    """Without a retriever's columns and without the pairs that it alone brought.

    What is made of all retrievers together (`places_fused`, `lists`, `place_best`) stays as it is.
    """
    others = [c for c in rows.column_names if c.startswith("rank_") and c != f"rank_{name}"]
    listed = np.zeros(rows.num_rows, dtype=bool)
    for column in others:
        listed |= np.isfinite(rows[column].to_numpy())
    own = [f"{kind}_{name}" for kind in ("score", "rank", "share", "place")]
    return rows.filter(pa.array(listed)).drop_columns([c for c in own if c in rows.column_names])


def ablations(retrievers: Sequence[str], n_windows: int) -> list[Variant]:
    """Every study: without each retriever, without each feature group, with 1..n windows."""
    return [
        *(Variant("retriever", name, retriever=name) for name in retrievers),
        *(Variant("features", name, without=p) for name, p in FEATURE_GROUPS.items()),
        *(Variant("windows", str(n), windows=n) for n in range(1, n_windows)),
    ]


def chance_of_margin(score: np.ndarray, negative_share: float) -> np.ndarray:
    """The chance behind a raw margin (log odds) of a ranker that learned from all positives and a
    share `negative_share` of the negatives, which is taken back out of the odds."""
    odds = np.exp(np.clip(score.astype(np.float64), -50, 50)) * negative_share
    return odds / (1 + odds)


def reliability(chance: np.ndarray, taken: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Predicted against observed chance of being taken, and the expected calibration error.

    Ten bins hold equally many rows: bin, n, predicted, observed. Rows of one chance count as what
    all of them came to, so that a bin that ends among them does not depend on the order of rows.
    ECE is the mean of |predicted - observed| over rows (Guo et al. 2017).
    """
    bins = 10
    _, same = np.unique(chance, return_inverse=True)
    share = np.bincount(same, taken.astype(float)) / np.bincount(same)
    order = np.argsort(chance, kind="stable")
    which = np.empty(len(order), dtype=np.int64)
    which[order] = np.arange(len(order)) * bins // max(len(order), 1)
    n = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(which, chance, bins) / n
        observed = np.bincount(which, share[same], bins) / n
    table = pd.DataFrame(
        {"bin": np.arange(1, bins + 1), "n": n, "predicted": predicted, "observed": observed}
    )[n > 0]
    error = float((table["n"] * (table["predicted"] - table["observed"]).abs()).sum() / n.sum())
    return table, error


def chance_from(score: np.ndarray, taken: np.ndarray, of: np.ndarray, bins: int = 50) -> np.ndarray:
    """The chance of being taken at the scores `of`, read off earlier ones: `taken` by `score`.

    For scores that are no log odds. Between the means of equally large bins it is interpolated,
    and it never falls as the score rises (running maximum).
    """
    order = np.argsort(score, kind="stable")
    parts = [p for p in np.array_split(order, bins) if len(p)]
    at = np.array([score[p].mean() for p in parts])
    share = np.maximum.accumulate([float(taken[p].mean()) for p in parts])
    return np.interp(of, at, share)
