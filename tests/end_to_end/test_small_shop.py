"""The whole job on a small real shop that only a YAML file describes, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys_assets.core.lake import part_name
from tests.end_to_end.conftest import BAD_LINES, RESENT, ShopRun, copied


@pytest.fixture(scope="session")
def lists(shop_run: ShopRun) -> pd.DataFrame:
    return shop_run.lake.read("recommendations").to_pandas()


def test_every_user_with_or_without_history_gets_every_complete_placement(
    lists: pd.DataFrame, shop_run: ShopRun
) -> None:
    everyone = set(shop_run.lake.read("users").to_pandas()["user_id"])
    assert "h99999" in everyone
    for placement in ("for_you", "discover"):
        rows = lists[lists["placement"] == placement]
        assert set(rows["user_id"]) == everyone
        assert (rows.groupby("user_id").size() == 10).all()
        assert not rows.duplicated(["user_id", "item_id"]).any()


def test_discover_holds_nothing_that_was_taken_and_buy_again_nothing_else(
    lists: pd.DataFrame, sales: pd.DataFrame
) -> None:
    pairs = pd.MultiIndex.from_frame(sales[["who", "what"]])
    keys = pd.MultiIndex.from_frame(lists[["user_id", "item_id"]])
    taken = keys.isin(pairs)
    assert not taken[lists["placement"] == "discover"].any()
    assert taken[lists["placement"] == "buy_again"].all()


def test_a_reason_that_counts_counts_right(lists: pd.DataFrame, sales: pd.DataFrame) -> None:
    # A line of quantity 0 is a purchase too: the shop file gives such lines no type of their own.
    times = sales.groupby(["who", "what"])["receipt"].nunique()
    rows = lists[lists["reason_code"] == "repeat"]
    assert len(rows) > 100
    for row in rows.to_dict("records"):
        stated = json.loads(row["reason_evidence"])["n_taken"]
        assert stated == times[(row["user_id"], row["item_id"])]
        assert str(stated) in row["reason"] or "once" in row["reason"] or "twice" in row["reason"]


def test_sensitive_categories_are_never_named(lists: pd.DataFrame) -> None:
    assert not lists["reason"].str.upper().str.contains("COLD AND FLU").any()


def test_the_scoreboard_has_us_and_every_baseline_for_both_tasks(shop_run: ShopRun) -> None:
    board = shop_run.lake.read("scoreboard").to_pandas()
    rows = board[(board["target"] == "evaluate") & (board["metric"] == "ndcg@10")]
    for task in ("all", "new"):
        models = set(rows[rows["task"] == task]["model"])
        assert {"ours", "ours_no_rules", "popularity_7d", "als", "item_neighbours"} <= models
        assert {"blend_given", "blend_tuned"} <= models
    assert {"personal_frequency", "personal_frequency_decayed"} <= set(rows["model"])


def test_anybody_can_recompute_the_scoreboard_from_the_lists(shop_run: ShopRun) -> None:
    lists = shop_run.lake.read("evaluation_lists").to_pandas()
    as_of = lists["as_of"].iloc[0]
    labels = shop_run.lake.read("labels").to_pandas()
    labels = labels[labels["as_of"] == as_of]
    board = shop_run.lake.read("scoreboard").to_pandas()
    board = board[(board["target"] == "evaluate") & (board["slice"] == "all")]
    board = board[(board["baseline"] == "") & (board["metric"] == "recall@10")]
    for task, relevant in (("all", labels), ("new", labels[labels["is_new"]])):
        wanted = relevant.groupby("user_id")["item_id"].agg(set)
        for model in ("ours", "popularity_7d", "retriever: ease"):
            own = lists[(lists["task"] == task) & (lists["model"] == model) & (lists["rank"] <= 10)]
            assert own["seed"].nunique() == (3 if model == "ours" else 1)
            per_seed = []
            for _, rows in own.groupby("seed"):
                shown = rows.groupby("user_id")["item_id"].agg(set).reindex(wanted.index)
                recall = [
                    len(w & s) / len(w) if isinstance(s, set) else 0.0
                    for w, s in zip(wanted, shown, strict=True)
                ]
                per_seed.append(sum(recall) / len(recall))
            value = board[(board["task"] == task) & (board["model"] == model)]["value"].item()
            assert value == pytest.approx(sum(per_seed) / len(per_seed)), (task, model)


def test_what_is_published_is_what_the_policy_says(lists: pd.DataFrame, shop_run: ShopRun) -> None:
    policies = shop_run.lake.read("policies").to_pandas().set_index("placement")
    stand_ins = shop_run.lake.read("stand_ins").to_pandas()
    for placement, policy in policies.iterrows():
        shown = lists[lists["placement"] == placement]
        assert set(shown["policy"]) - {"explore", "fallback", "onboarding"} == {
            "ranker" if policy["model"] == "ranker" else "stand_in"
        }
        own = stand_ins[(stand_ins["placement"] == placement)]
        assert (policy["model"] == "ranker") == own.empty


def test_rows_in_are_accepted_quarantined_or_deduplicated(
    shop_run: ShopRun, sales: pd.DataFrame
) -> None:
    lake = shop_run.lake
    bad = BAD_LINES.count("\n")
    assert lake.read("landed_rows").rows == len(sales) + bad + RESENT
    assert lake.read("quarantine").rows == bad
    assert lake.read("interactions").rows == len(sales), "what came twice counts once"


def test_each_bad_row_is_in_quarantine_with_file_row_field_and_reason(
    shop_run: ShopRun, sales: pd.DataFrame
) -> None:
    rows = shop_run.lake.read("quarantine").to_pandas().sort_values("row")
    assert set(rows["file"]) == {"sales.csv"}
    first = len(sales) + 2  # the header is line 1
    assert rows["row"].tolist() == list(range(first, first + len(rows)))
    found = list(
        zip(rows["reject_field"].fillna(""), rows["reject_reason"].str.split(":").str[0],
            strict=True)
    )  # fmt: skip
    assert found == [
        ("user_id", "missing id"),
        ("item_id", "missing id"),
        ("event_time", "not a timestamp"),
        ("event_time", "before the plausible time"),
        ("event_time", "in the future"),
        ("quantity", "not finite"),
        ("value", "not finite"),
        ("row", "wrong number of values"),
        ("item_id", "unknown item"),
    ]


def test_nothing_in_metadata_or_logs_names_a_user(shop_run: ShopRun, sales: pd.DataFrame) -> None:
    someone = sales["who"].iloc[0].encode()
    for path in (shop_run.home / "dagster").rglob("*"):
        if path.is_file():
            assert someone not in path.read_bytes(), path


@pytest.fixture(scope="module")
def spare(shop_run: ShopRun, tmp_path_factory: pytest.TempPathFactory) -> ShopRun:
    """A copy of the small shop for commands that write."""
    return copied(shop_run, tmp_path_factory.mktemp("spare") / "shop")


def test_a_second_run_with_nothing_changed_recomputes_nothing(spare: ShopRun) -> None:
    before = {a: spare.lake.entries(a) for a in spare.lake.assets()}
    done = spare.recsys("run")
    assert done.returncode == 0, done.stderr
    assert before == {a: spare.lake.entries(a) for a in spare.lake.assets()}
    lines = [line for line in done.stdout.splitlines() if " rows " in line]
    assert len(lines) > 25
    assert all("unchanged" in line for line in lines), done.stdout


def test_a_window_is_learned_from_its_users_and_a_target_made_for_everybody(
    shop_run: ShopRun,
) -> None:
    lake = shop_run.lake
    everybody = set(lake.read("users").to_pandas()["user_id"])
    learned = lake.read("training_rows").to_pandas(["as_of", "user_id"])
    asked = dict[pd.Timestamp, set[str]]()
    for row in lake.read("cutoffs").to_pandas().to_dict("records"):
        part = part_name(row["as_of"])
        asked[row["as_of"]] = users = set(lake.read("candidates").to_pandas(part=part)["user_id"])
        assert users == everybody if pd.notna(row["target"]) else len(users) == 100 < len(everybody)
        for grain in ("user_features", "user_item_features", "user_category_features"):
            assert set(lake.read(grain).to_pandas(part=part)["user_id"]) <= users
    windows = [set(rows["user_id"]) for _, rows in learned.groupby("as_of")]
    assert all(set(r["user_id"]) <= asked[as_of] for as_of, r in learned.groupby("as_of"))
    assert all(0 < len(users) <= 100 for users in windows)
    assert len(set.union(*windows)) > 100  # the next window asks others


def test_the_command_line_answers_for_a_heavy_a_light_and_an_unknown_user(
    shop_run: ShopRun, sales: pd.DataFrame
) -> None:
    counts = sales["who"].value_counts()
    for user in (counts.index[0], counts.index[-1]):
        shown = shop_run.recsys("recommend", user)
        assert shown.returncode == 0, shown.stderr
        assert "For you" in shown.stdout and "New to you" in shown.stdout
        assert "release" in shown.stdout
    unknown = shop_run.recsys("recommend", "nobody")
    assert unknown.returncode == 0
    assert "Nobody knows user 'nobody'" in unknown.stdout


def test_excluded_items_are_not_shown(shop_run: ShopRun, lists: pd.DataFrame) -> None:
    first = lists[lists["placement"] == "for_you"].iloc[0]
    shown = shop_run.recsys("recommend", first["user_id"], "--exclude", first["item_id"])
    assert first["item_id"] not in shown.stdout.split()


def test_a_related_item_is_shown_with_its_title(shop_run: ShopRun) -> None:
    item = shop_run.lake.read("bought_together").to_pandas()["item_id"].iloc[0]
    shown = shop_run.recsys("similar", item)
    assert shown.returncode == 0, shown.stderr
    assert "Goes with it" in shown.stdout


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_any_table_can_be_exported(shop_run: ShopRun, tmp_path: Path, suffix: str) -> None:
    read: dict[str, Callable[[Path], int]] = {
        ".parquet": lambda p: pq.read_table(p).num_rows,
        ".csv": lambda p: len(pd.read_csv(p, dtype=str)),
    }
    for table in ("recommendations", "text_embeddings"):
        target = tmp_path / f"{table}{suffix}"
        done = shop_run.recsys("export", table, str(target))
        assert done.returncode == 0, done.stderr
        assert read[suffix](target) == shop_run.lake.read(table).rows


def test_an_error_that_people_can_act_on_is_one_line(shop_run: ShopRun) -> None:
    wrong = shop_run.recsys("export", "no_such_table", "x.csv")
    assert wrong.returncode == 1
    assert "there is no table 'no_such_table'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_run_of_what_does_not_exist_says_so(spare: ShopRun) -> None:
    wrong = spare.recsys("run", "--job", "monthly")
    assert wrong.returncode == 2
    assert "'monthly' is none of recommend, weekly," in wrong.stderr
    wrong = spare.recsys("run", "--select", "monthly")
    assert wrong.returncode == 1
    assert "no step of job recommend is meant by 'monthly'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_status_lists_every_table_as_approved(shop_run: ShopRun) -> None:
    shown = shop_run.recsys("status").stdout
    for asset in shop_run.lake.assets():
        assert asset in shown
    assert shown.count("approved") == len(shop_run.lake.assets())
