"""What it would bring to know the plans of promotions: the rankers of a target, learned twice.

Once with promotions as the shop file has them known, once as if each had been known some days
before it starts, at the label windows and at the target alike; everything else is the finished
run's own. Printed per task are both NDCG@10 (mean of the target's seeds) and the paired 95%
interval of the difference.

    RECSYS_HOME=.recsys python -W ignore -m benchmarks.known_plans [--target tune] [--days 7]
"""

import argparse

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dagster_project import resources
from recsys_assets.core.cutoffs import cutoff_of
from recsys_assets.core.lake import part_name
from recsys_assets.core.metrics import paired_bootstrap, per_user_metrics
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.evaluation.held_out import relevant_pairs, top
from recsys_assets.ranking import features, ranker, training
from recsys_assets.ranking.recipe import Recipe, tasks_of
from recsys_assets.ranking.scoring import candidate_history, score_column, score_or_fuse
from recsys_assets.retrieval.hidden import hidden_at
from recsys_assets.retrieval.learners import learners


class Finished:
    """The tables of a finished run that the rankers of a target are made from."""

    def __init__(self, target: str) -> None:
        project = resources.project()
        self.lake, self.shop, self.warehouse = project.lake, project.shop, Warehouse()
        self.target, self.recipe = target, Recipe.read(self.shop.ranker, self.shop.seed)
        moment = cutoff_of(self.lake.read("cutoffs"), target)
        fits = self.lake.read("fits").to_pandas()
        self.windows = sorted(fits.loc[fits["target"] == target, "window_as_of"])
        if moment is None or not self.windows:
            raise SystemExit(f"the run in {project.home} has no rankers of {target}")
        self.as_of = moment
        self.items = self.lake.read("items").paths()
        self.catalogue = self.lake.read("items").to_arrow(["item_id"])["item_id"].to_pylist()
        self.users = self.lake.read("users").to_arrow()
        self.promotions = self.lake.read("raw_promotions").to_arrow()

    def table(self, name: str, as_of: pd.Timestamp) -> pa.Table:
        return self.lake.read(name).to_arrow(part=part_name(as_of))

    def grains(self, as_of: pd.Timestamp, promotions: pa.Table) -> dict[str, pa.Table]:
        """The feature tables at a cutoff; what depends on promotions is made anew."""
        made = {n: self.table(n, as_of) for n in features.FEATURE_TABLES if n != "item_features"}
        made["item_features"] = features.feature_table(
            "item_features",
            self.warehouse,
            user_item_days=self.table("user_item_days", as_of),
            interactions=self.lake.read("interactions").paths(),
            items=self.items,
            users=self.users,
            promotions=promotions,
            as_of=as_of,
            horizon_days=self.shop.cutoffs.horizon_days,
        )
        return made

    def window(self, as_of: pd.Timestamp, promotions: pa.Table) -> pa.Table:
        """The labelled rows of a label window, as `training_rows` has them."""
        users = learners(
            self.users["user_id"].to_pylist(), as_of, self.shop.cutoffs, self.shop.seed
        )
        shown, tables = training.hide(
            self.warehouse,
            features.rows_of_users(self.table("candidates", as_of), users),
            self.items,
            features.tables_of_users(self.grains(as_of, promotions), users),
            user_item_days=self.table("user_item_days", as_of),
            promotions=promotions,
            hidden=list(hidden_at(self.catalogue, as_of, self.shop.seed)),
            proposed=self.table("hidden_candidates", as_of),
        )
        return training.training_frame(
            self.warehouse, shown, self.table("labels", as_of), self.items, tables,
            negative_share=self.recipe.negative_share, seed=self.shop.seed,
        )  # fmt: skip

    def per_user(self, known_days: int) -> dict[str, "pd.Series[float]"]:
        """Task -> NDCG@10 per user where promotions are known `known_days` earlier than they are;
        with rankers, learned from windows where they were too."""
        early = pc.subtract(
            self.promotions["known_from"], pa.scalar(pd.Timedelta(days=known_days).to_pytimedelta())
        )
        at = self.promotions.column_names.index("known_from")
        promotions = self.promotions.set_column(
            at, "known_from", early.cast(self.promotions["known_from"].type)
        )
        tasks = tasks_of(self.shop)
        variants = {task: self.recipe.variants(self.target, task) for task in tasks}
        frame = pa.concat_tables([self.window(w, promotions) for w in self.windows])
        models = {
            score_column(task, model.settings["seed"], self.shop.seed): model
            for task, grown, _ in ranker.train_tasks(frame, variants)
            for model in grown
        }
        del frame
        tables, proposed = self.grains(self.as_of, promotions), self.table("candidates", self.as_of)
        seen = candidate_history(self.warehouse, proposed, tables)["seen"].to_numpy()
        scores = score_or_fuse(self.warehouse, models, proposed, self.items, tables, seen)
        pairs = proposed.select(["user_id", "item_id"]).to_pandas()
        relevant = relevant_pairs(
            self.table("labels", self.as_of).to_pandas(), self.as_of, pd.Index([]),
            repeats=self.shop.repeats,
        )  # fmt: skip
        found = {}
        for task in tasks:
            columns = [n for n in scores if n == f"score_{task}" or n.startswith(f"score_{task}_")]
            values = []
            for name in columns:
                score = scores[name].to_numpy(zero_copy_only=False)
                known = np.isfinite(score)
                best = top(pairs[known].assign(score=score[known]), 10)
                own = per_user_metrics(best, relevant[task], (10,)).set_index("user_id")
                values.append(own["ndcg@10"])
            found[task] = pd.concat(values, axis=1).mean(axis=1)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=("tune", "evaluate"), default="tune")
    parser.add_argument("--days", type=int, default=7)
    given = parser.parse_args()
    finished = Finished(given.target)
    without, ahead = finished.per_user(0), finished.per_user(given.days)
    for task, alone in without.items():
        row = paired_bootstrap(ahead[task].to_frame("ndcg"), alone.to_frame("ndcg")).iloc[0]
        print(
            f"{task}: NDCG@10 {alone.mean():.4f}; known {given.days} days before they start "
            f"{ahead[task].mean():.4f}, {row['value']:+.4f} ({row['low']:+.4f} to "
            f"{row['high']:+.4f}), {len(alone):,} users"
        )


if __name__ == "__main__":
    main()
