"""The weekly studies on the small shop."""

import shutil
from pathlib import Path

from recsys_assets.core.assets import Project
from recsys_assets.evaluation import study_assets
from tests.end_to_end.conftest import ShopRun, copied


def test_a_study_is_run_by_its_job(shop_run: ShopRun, tmp_path: Path) -> None:
    other = ShopRun(shop_run.folder, tmp_path / "home")
    shutil.copytree(shop_run.home / "lake", other.home / "lake")
    done = other.recsys("run", "--job", "evaluate_cutoffs", "--select", "calibration+")
    assert done.returncode == 0, done.stderr
    assert "calibration" in done.stdout
    assert len(other.lake.read("calibration").to_pandas())


def test_the_studies_of_the_weekly_run_say_what_a_small_shop_cannot_learn(
    shop_run: ShopRun, tmp_path: Path
) -> None:
    shop = copied(shop_run, tmp_path / "shop")
    text = (shop.folder / "shop.yaml").read_text(encoding="utf-8")
    few = "ranker:\n  again: {min_data_in_leaf: 100000, rounds: 5}\n"
    settings = shop.folder / "studies.yaml"
    settings.write_text(
        text.replace("ranker:\n", few) + "studies: {cutoffs: 2, users: 30, trials: 2}\n",
        encoding="utf-8",
    )
    project = Project(home=str(shop.home), shop_file=str(settings))
    for study in study_assets.ASSETS:
        study.producer.produce(project, "run")
        assert study.producer.judge(project, "run").passed
    lake = project.lake

    ablation = lake.served("ablation").to_pandas()
    assert set(ablation["task"]) == {"all", "new"}
    assert "no ranker" in lake.served("ablation").report()["texts"]["again"]
    parts = {"retriever", "features", "windows"}
    for task in ("all", "new"):
        assert parts < set(ablation.loc[ablation["task"] == task, "kind"])

    trials = lake.served("tuned_settings").to_pandas()
    assert trials.groupby("task").size().to_dict() == {"all": 2, "new": 2, "again": 2}
    first = trials[trials["trial"] == 0].set_index("task")["ndcg"]
    assert first["again"] == 0, "what cannot be learned puts nothing in order"
    assert first["all"] > 0 < first["new"]
    assert trials["others_ndcg"].between(0, 1).all()
    said = lake.served("tuned_settings").report()["texts"]
    assert trials["is_confirmed"].any() == ("yaml" in said["for the shop file"])
    for task, rows in trials.groupby("task"):
        assert ("not proposed" in said[task]) != rows["is_confirmed"].any()

    cutoffs = lake.served("scoreboard_cutoffs").to_pandas()
    earlier = cutoffs[cutoffs["role"] == "earlier"]
    assert set(earlier["task"]) == {"all", "new", "again"}
    assert (earlier["as_of"] < cutoffs["as_of"].max()).all()
    said = lake.served("scoreboard_cutoffs").report()["texts"]
    assert [t for t in said if "no ranker" in said[t]] == [f"{earlier['as_of'].iloc[0]:%F} again"]
    calibration = lake.served("calibration").to_pandas()
    assert set(calibration["task"]) <= {"all", "new", "again"}
