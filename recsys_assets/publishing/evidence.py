"""What the gate needs to know of a release, read from exactly the tables that release names.

Belongs here: from stored tables to the frames of `gate.py`. Does not belong here: any rule.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.content.offer import within_dates
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.metrics import seeded_sample, within_user_auc
from recsys_assets.core.settings.releases import Task
from recsys_assets.evaluation.glossary import RETRIEVER
from recsys_assets.evaluation.reading import first_places, measured_cutoff
from recsys_assets.evaluation.scoreboard import history_slices, user_metrics
from recsys_assets.publishing.gate import BEST_RETRIEVER, FEATURE_USERS, Measured
from recsys_assets.publishing.releases import Manifest, Releases
from recsys_assets.ranking.features import feature_names, query_codes
from recsys_assets.ranking.gates import NOT_FEATURES
from recsys_assets.ranking.ranker import all_spec_faults

TASKS: tuple[Task, ...] = ("all", "new")


class ReleaseEvidence:
    """The tables of one release."""

    def __init__(self, releases: Releases, manifest: Manifest) -> None:
        self.releases, self.manifest = releases, manifest

    def table(self, asset: str) -> Snapshot:
        return self.releases.table(self.manifest, asset)

    @property
    def evaluate_as_of(self) -> str:
        """Part name of the cutoff the recipe was measured at, '' if nothing was held out."""
        return self.manifest.facts.get("evaluate_as_of", "")

    def measured(self, lists: Snapshot, models: frozenset[str], shop: Shop) -> dict[Task, Measured]:
        """NDCG@k per user and task of `lists`, against what users of *this* release then took.

        models: ours and those wanted beside it; `best_retriever` stands for every retriever.
        Empty when nothing was held out.
        """
        as_of = measured_cutoff(self.table("cutoffs"), self.table("labels"), "evaluate")
        if as_of is None:
            return {}
        labels = self.table("labels").to_pandas(part=part_name(as_of))
        known = interactions_as_of(
            self.table("interactions"), as_of,
            ["user_id", "session_id", "counts_as_taken", "event_time"],
        ).to_pandas()  # fmt: skip
        found = {}
        for task in TASKS:
            pairs = labels if task == "all" and shop.repeats else labels[labels["is_new"]]
            own = _first(lists, task, models, shop.evaluation.k)
            if pairs.empty or not (own["model"] == "ours").any():
                continue
            # a model with several seeds counts with their mean
            wide = user_metrics(pairs, own, shop.evaluation.k).pivot_table(
                "ndcg", "user_id", "model"
            )
            per_user = {str(model): wide[model] for model in wide}
            users = wide.index
            found[task] = Measured(per_user, history_slices(known, users))
        return found

    def ranked(self, target: str) -> bool:
        """Whether a ranker made the scores of `target`; data that are too short for one leave it to
        the fused places of the retrievers."""
        if "rankers" not in self.manifest.tables:
            return False
        made = self.table("rankers").to_pandas(["target", "task"])
        return bool((made["target"].eq(target) & made["task"].eq("all")).any())

    @property
    def is_measured(self) -> bool:
        """Whether something was held out, and for what is shown: between two and three horizons of
        data, live has a ranker and the evaluate target has not, whose lists nobody would see."""
        return bool(self.evaluate_as_of) and (self.ranked("evaluate") or not self.ranked("live"))

    def live_scores(self) -> np.ndarray:
        """`score_all` of all live candidates."""
        as_of = self.manifest.facts["as_of"]
        scores = self.table("scored_candidates").to_arrow(["score_all"], as_of)["score_all"]
        return scores.to_numpy()

    def strongest_feature(self, seed: int, *, repeats: bool) -> tuple[str, float, int] | None:
        """The feature that alone orders the rows of the last label window best, for any task: its
        name, its within-user AUC, and of how many users (FEATURE_USERS drawn by `seed`, or all).
        Unless things `repeats`, only what the user had not taken is looked at: the rest is on no
        list, and its label is of another kind (who enrolled lately will grade it). None without a
        label window."""
        plan = self.table("fits").to_pandas()
        windows = plan.loc[plan["target"] == "evaluate", "window_as_of"]
        if windows.empty:
            return None
        rows = self.table("training_rows").to_arrow(part=part_name(windows.max()))
        if not rows.num_rows:
            return None
        users = pc.unique(rows["user_id"]).to_pylist()
        drawn = seeded_sample(users, FEATURE_USERS, seed, "drift")
        rows = rows.filter(pc.is_in(rows["user_id"], value_set=pa.array(drawn, pa.string())))
        user, label = query_codes(rows["user_id"]), rows["label"].to_numpy()
        unseen = rows["ui_seen"].to_numpy() == 0
        best = ("", 0.0)
        for name in (n for n in rows.column_names if n not in NOT_FEATURES):
            value = rows[name].to_numpy()
            for of_task in (np.ones_like(unseen), unseen, ~unseen) if repeats else (unseen,):
                auc = within_user_auc(user[of_task], value[of_task], label[of_task])
                best = max(best, (name, auc), key=lambda found: found[1])
        return best[0], best[1], len(drawn)

    def cold_taken(self) -> tuple[int, int]:
        """Of the items on offer at the evaluate cutoff that had no event before it: how many there
        are, and how many were taken within the horizon."""
        as_of = cutoff_of(self.table("cutoffs"), "evaluate")
        assert as_of is not None
        items = self.table("items").to_pandas(["item_id", "available_from", "available_to"])
        known = interactions_as_of(self.table("interactions"), as_of, ["item_id"])["item_id"]
        met = items["item_id"].isin(pc.unique(known).to_pandas()).to_numpy()
        cold = items[~met & within_dates(items, as_of)]
        taken = self.table("labels").to_pandas(["item_id"], part_name(as_of))["item_id"]
        return len(cold), int(cold["item_id"].isin(taken).sum())

    def feature_faults(self) -> list[str]:
        """What is wrong with the features the rankers read, beside those the candidates have."""
        served = feature_names(self.table("candidates").columns)
        return all_spec_faults(self.table("rankers").to_pandas(), served)

    def lists(self) -> pd.DataFrame:
        """What people would be shown."""
        columns = ["placement", "user_id", "item_id", "rank", "policy"]
        return self.table("recommendations").to_pandas(columns)


def _first(lists: Snapshot, task: Task, models: frozenset[str], k: int) -> pd.DataFrame:
    """The first k places of the wanted models' lists for one task."""
    places = first_places(lists, task, k)
    wanted = places["model"].isin(models)
    if BEST_RETRIEVER in models:
        wanted |= places["model"].str.startswith(RETRIEVER)
    return places[wanted].reset_index(drop=True)
