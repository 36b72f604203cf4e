"""Tables of exposures and answers beside what was refused: each row is in one of the two."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.config import load_shop
from recsys_assets.core.quality import Verdict
from recsys_assets.ingestion import assets as ingestion
from recsys_assets.ingestion.complete_journey import CompleteJourney
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.source import open_source
from recsys_assets.ingestion.tabular import TabularSource

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
SHOWN = "request_id,user_id,item_id,placement,position,shown_at\n"
ANSWERS = "user_id,question_id,answer,answered_at\n"
TABLES = [
    ingestion.raw_items,
    ingestion.raw_users,
    ingestion.raw_exposures,
    ingestion.raw_promotions,
    ingestion.onboarding_answers,
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_assets.core.assets.release_memory", lambda: None)  # costs 0.1 s


def shop_of(folder: Path, more: str = "") -> Project:
    (folder / "shop.yaml").write_text(
        "name: s\nrepeats: true\npartitions: {start: 2023-01-01}\nsource:\n  kind: files\n"
        "  interactions: {path: sales.csv, event_type: purchase}\n  items: {path: items.csv}\n"
        "  users: {path: users.csv}\n  exposures: {path: shown.csv}\n"
        f"  onboarding_answers: {{path: answers.csv}}\n{more}"
    )
    (folder / "sales.csv").write_text("user_id,item_id,event_time\nu,x,2024-05-31\n")
    (folder / "items.csv").write_text("item_id\nx\n")
    (folder / "users.csv").write_text("user_id\nu\nu\n")
    (folder / "shown.csv").write_text(
        SHOWN + "r1,u,x,for_you,1,2024-06-01T11:59:00\nr2,u,x,for_you,1,2024-06-01T12:10:30\n"
    )
    (folder / "answers.csv").write_text(
        ANSWERS + "v,q,vegan,2024-05-03\nw,q,vegan,2024-06-01T12:10:30\n"
    )
    return Project(home=str(folder / "home"), shop_file=str(folder / "shop.yaml"))


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return moment

    monkeypatch.setattr(ingestion, "datetime", Clock)


def make(project: Project, asset: GatedAsset) -> Verdict:
    asset.producer.produce(project, "")
    return asset.producer.judge(project, "")


def rejects(project: Project) -> list[tuple[str, str]]:
    frame = project.lake.read("rejected_entities").to_pandas()
    return list(zip(frame["role"], frame["reject_reason"].str.split(":").str[0], strict=True))


def test_a_row_that_comes_due_between_two_tables_is_in_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shop_of(tmp_path)
    at(monkeypatch, NOON)
    assert all(make(project, table).passed for table in TABLES)
    at(monkeypatch, NOON + timedelta(minutes=1))  # the clock may run ahead by 10 minutes
    assert make(project, ingestion.rejected_entities).passed
    assert rejects(project) == [
        ("exposures", "in the future"),
        ("onboarding_answers", "in the future"),
        ("users", "duplicate of row 2"),
    ]


def test_a_table_without_an_acceptable_row_says_which_columns_are_wrong_and_where(
    tmp_path: Path,
) -> None:
    project = shop_of(tmp_path)
    text = Path(project.shop_file).read_text().replace(", event_type: purchase", "")
    Path(project.shop_file).write_text(text)
    (tmp_path / "sales.csv").write_text("user_id,item_id,event_time,event_type\nu,x,2024-05-31,\n")
    (tmp_path / "items.csv").write_text("item_id,price\n,1\ny,-1\nz,-2\n")
    assert make(project, ingestion.landed_rows).reasons == [
        "no row of the source is acceptable: event_type: missing value, that is, a required value "
        "is null or blank (1 rows, as row 2 of sales.csv). Correct the files, or what "
        "source.interactions of the shop file says about them"
    ]
    assert make(project, ingestion.raw_items).reasons == [
        "no row of the source is acceptable: price: negative, that is, a number must not be "
        "negative here (2 rows, as row 3 of items.csv); item_id: missing id, that is, an id is "
        "null or blank (1 rows, as row 2 of items.csv). Correct the files, or what source.items of "
        "the shop file says about them"
    ]
    (tmp_path / "items.csv").write_text('item_id,title\nx,"two\nlines"\n')
    [reason] = make(project, ingestion.raw_items).reasons
    assert "row: broken quotes" in reason and "newlines_in_values: true" in reason


def test_partitions_that_start_too_late_are_named_where_they_refuse_every_row(
    tmp_path: Path,
) -> None:
    project = shop_of(tmp_path)
    text = Path(project.shop_file).read_text().replace("2023-01-01", "2024-06-01")
    Path(project.shop_file).write_text(text)
    (reason,) = make(project, ingestion.landed_rows).reasons
    assert (
        "event_time: before the plausible time, that is, a time is before partitions.st" in reason
    )


@pytest.mark.parametrize("role", ["users", "exposures", "onboarding_answers"])
def test_a_row_in_neither_table_is_told_by_its_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    project = shop_of(tmp_path)
    at(monkeypatch, NOON)
    assert all(make(project, table).passed for table in TABLES)
    whole = getattr(TabularSource, role)

    def lossy(self: TabularSource, now: datetime) -> object:
        good, bad = whole(self, now)
        return good, bad.iloc[:0]

    monkeypatch.setattr(TabularSource, role, lossy)
    verdict = make(project, ingestion.rejected_entities)
    assert f"files of {role} have 2 rows; accepted 1 + rejected 0 = 1" in verdict.reasons[0]


def test_tables_that_sum_up_their_files_say_so() -> None:
    assert TabularSource([]).summed_up == frozenset()
    assert CompleteJourney([], "UTC", 0).summed_up == {"users", "promotions"}


def test_answers_and_exposures_are_as_old_as_they_were_on_arrival_and_history_is_exempt(
    tmp_path: Path,
) -> None:
    project = shop_of(tmp_path, "plausible: {max_age_days: 14}\narrival: {settle_seconds: 0}\n")
    shop = load_shop(project.shop_file)

    def read(*, history: bool) -> tuple[list[str], list[str]]:
        home = tmp_path / f"home {history}"
        for inbox in inboxes_of(shop):
            ledger_of(home).accept(inbox, NOON, history=history)
        source, years_later = open_source(shop, home), datetime(2030, 1, 1, tzinfo=UTC)
        answers, shown = source.onboarding_answers(years_later), source.exposures(years_later)
        return answers[0]["user_id"].tolist(), shown[0]["request_id"].tolist()

    assert read(history=True) == (["v"], ["r1"])
    late = "2024-05-17T23:59:59"
    (tmp_path / "answers.csv").write_text(ANSWERS + f"a,q,vegan,{late}\nb,q,vegan,2024-05-19\n")
    (tmp_path / "shown.csv").write_text(
        SHOWN + f"r3,u,x,for_you,1,{late}\nr4,u,x,for_you,1,2024-05-19\n"
    )
    assert read(history=False) == (["b"], ["r4"])
