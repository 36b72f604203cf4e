"""Exports are safe to open, and the README's table is what the scoreboard says."""

import io
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from rich.console import Console
from rich.table import Table as Grid

from dagster_project import cli, show
from dagster_project.commands import arrivals, explain, forget, onboard, releases, search
from dagster_project.console import Console as PrintedConsole
from recsys_assets.core.lake import FORMAT, Lake, LakeError
from recsys_assets.publishing.serving import Served, exported
from recsys_assets.staging.tables import NOT_MADE_YET
from tests.publishing import golden
from tests.stored import approved, stored


def lake_with(tmp_path: Path, asset: str, frame: pd.DataFrame) -> Lake:
    lake = Lake(tmp_path / "lake")
    approved(lake, asset, frame)
    return lake


def test_an_item_that_came_after_the_release_is_told_from_one_that_never_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(shutil.copytree(golden.FOLDER / f"format-{FORMAT}", tmp_path / "home") / "lake")
    served = Served.open(lake)
    approved(lake, "items", pa.table({"item_id": ["007", "i9"], "title": ["x", "y"]}))
    show.related(served, PrintedConsole(), "i9", 5)
    assert "is newer than release" in capsys.readouterr().out
    show.related(served, PrintedConsole(), "007", 5)
    assert "x (007)" in capsys.readouterr().out
    with pytest.raises(LakeError, match="'i8' is not in the catalogue"):
        show.related(served, PrintedConsole(), "i8", 5)


@pytest.mark.parametrize(
    ("reason", "live", "said"),
    [
        ("", "new", "new is served."),
        ("", "old", "new is not served: it was, but old is now"),
        ("blocked", "old", "new is not served: blocked"),
        ("blocked", "new", "new is served."),
    ],
)
def test_a_run_says_what_is_served_when_it_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reason: str, live: str, said: str
) -> None:
    line = pd.DataFrame({"release_id": ["new"], "reason": [reason]})
    table = stored(Lake(tmp_path / "lake"), "served_release", line)
    show.standing(table, live, PrintedConsole())
    assert capsys.readouterr().out.startswith(f"Release {said}")


def test_somebody_known_without_a_list_is_not_called_unknown_nor_shown_what_is_popular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(shutil.copytree(golden.FOLDER / f"format-{FORMAT}", tmp_path / "home") / "lake")
    columns = {
        "recommendations": {"user_id": ["a"], "placement": ["for_you"], "item_id": ["i1"]},
        "users": {"user_id": ["a", "everything"]},
        "popular_recommendations": {"placement": ["for_you"], "item_id": ["i2"]},
        "items": {"item_id": ["i1", "i2"], "title": ["x", "y"]},
    }

    tables = {name: stored(lake, name, pa.table(rows)) for name, rows in columns.items()}
    served = Served.open(lake)
    served.manifest.tables.update(dict.fromkeys(tables, ()))
    monkeypatch.setattr(Served, "table", lambda _, name: tables[name])
    assert [served.lists(user)[1] for user in ("a", "everything", "stranger")] == [
        True, True, False,
    ]  # fmt: skip
    assert served.lists("stranger")[0]["item_id"].tolist() == ["i2"]
    show.recommendations(served, PrintedConsole(), "everything", frozenset(), None, 5)
    shown = capsys.readouterr().out
    assert "'everything' has no list: all that is on offer was taken before" in shown
    assert "popular" not in shown


def test_related_items_show_their_category_and_what_backs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = shutil.copytree(golden.FOLDER / f"format-{FORMAT}", tmp_path / "home")
    show.related(Served.open(Lake(home / "lake")), PrintedConsole(), "i2", 5)
    shown = capsys.readouterr().out
    assert "x > x > x" in shown and "3 users" in shown and "3 baskets" in shown
    served = Served.open(Lake(home / "lake"))
    unbacked = served.related("bought_together", "i2").assign(support=0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Served, "related", lambda *_: unbacked)
        show.related(served, PrintedConsole(), "i2", 5)
    shown = capsys.readouterr().out
    assert "its category" in shown and "text, popularity" in shown and "0 baskets" not in shown


@pytest.mark.parametrize(
    "cell", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "\n=1", "\uff1d1"]
)
def test_a_cell_that_a_spreadsheet_would_run_is_neutralised(tmp_path: Path, cell: str) -> None:
    lake = lake_with(tmp_path, "items", pd.DataFrame({"title": [cell, "milk"]}))
    show.export(exported(lake, "items"), tmp_path / "items.csv")
    assert pa_csv.read_csv(tmp_path / "items.csv")["title"].to_pylist() == [f"'{cell}", "milk"]


def test_parquet_exports_keep_texts_as_they_are(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, "items", pd.DataFrame({"title": ["=1", "007"]}))
    show.export(exported(lake, "items"), tmp_path / "items.parquet")
    assert pd.read_parquet(tmp_path / "items.parquet")["title"].tolist() == ["=1", "007"]


def test_a_title_that_gives_orders_to_a_terminal_is_only_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    title = "milk\x1b]52;c;aGk=\x07\x9b2J\u202eklim, 1 l\nof it"
    grid = Grid(title=title)
    grid.add_column(title)
    grid.add_row(title)
    out = PrintedConsole()
    out.print(title, grid)
    said = capsys.readouterr().out
    assert said.count("milk\ufffd]52;c;aGk=") == 4
    assert not set(said) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_a_list_that_this_user_does_not_have_is_no_missing_placement() -> None:
    lists = pd.DataFrame({"placement": ["for_you", "discover"], "item_id": ["i1", "i2"]})
    served = SimpleNamespace(lists=lambda user_id: (lists, True))
    said = "user 'u1' has no list 'buy_again'; there are: for_you, discover"
    with pytest.raises(LakeError, match=said):
        show.recommendations(served, PrintedConsole(), "u1", frozenset(), "buy_again", 5)  # type: ignore[arg-type]


def test_another_file_type_is_refused_with_the_remedy(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, "items", pd.DataFrame({"title": ["x"]}))
    with pytest.raises(LakeError, match=r"\.parquet or \.csv"):
        show.export(exported(lake, "items"), tmp_path / "items.xlsx")


def test_an_export_of_no_table_says_where_their_names_are(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="there is no table 'nosuch': `recsys status`"):
        exported(lake_with(tmp_path, "items", pd.DataFrame({"title": ["x"]})), "nosuch")


@pytest.mark.parametrize("table", ["quarantine", "rejected_entities"])
def test_refused_rows_are_those_of_the_newest_files_also_when_their_table_was(
    tmp_path: Path, table: str
) -> None:
    lake = lake_with(tmp_path, table, pd.DataFrame({"row": [1]}))
    (version,) = stored(lake, table, pa.table({"row": [1, 2]})).versions
    lake.propose([version])
    lake.reject(version, ["too many"])
    assert exported(lake, table)["row"].to_pylist() == [1, 2]


@pytest.mark.parametrize("texts", [{}, {"warnings": "- [x] is nowhere"}])
def test_what_a_table_warns_of_is_printed(tmp_path: Path, texts: dict[str, str]) -> None:
    lake = Lake(tmp_path / "lake")
    made = stored(lake, "recommendations", pa.table({"x": [1]}), report={"texts": texts})
    out = Console(file=io.StringIO(), width=80)
    show.warnings(made, out)
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue() == "".join(f"{text}\n" for text in texts.values())


@pytest.mark.parametrize(("rows", "said"), [(0, ""), (1211, "1,211 rows wait until their day")])
def test_rows_that_wait_for_the_end_of_their_month_are_told(
    tmp_path: Path, rows: int, said: str
) -> None:
    lake = Lake(tmp_path / "lake")
    out = Console(file=io.StringIO(), width=80)
    show.waiting(lake, out)  # nothing was made yet
    report = {"numbers": {NOT_MADE_YET: rows}}
    approved(lake, "quarantine", pa.table({"x": [1]}), report=report)
    show.waiting(lake, out)
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue()[: len(said)] == said
    assert bool(out.file.getvalue()) == bool(rows)


def test_a_run_whose_check_was_not_selected_is_not_said_to_have_passed_it(tmp_path: Path) -> None:
    lake, out = Lake(tmp_path / "lake"), Console(file=io.StringIO(), width=200)
    (version,) = stored(lake, "items", pa.table({"x": [1]})).versions
    lake.propose([version])
    show.green("r1", lake, out)
    lake.approve([version])
    show.green("r1", lake, out)
    assert isinstance(out.file, io.StringIO)
    first, last = out.file.getvalue().splitlines()
    assert "not read by anything: items. " in first and "every table" not in first
    assert last == "Run r1 is green: every table passed its check."


@pytest.fixture
def measured(tmp_path: Path) -> Lake:
    rows = [
        ("retriever: ease", "all", "", 0.41), ("retriever: als", "all", "", 0.3),
        ("retriever: ease", "new", "", 0.04), ("retriever: als", "new", "", 0.05),
        ("retriever: content", "all", "", 0.2),
        ("ours", "all", "", 0.4321), ("ours", "new", "", 0.06), ("popularity_7d", "all", "", 0.15),
        ("ours", "all", "popularity_7d", 0.2821),
    ]  # fmt: skip
    board = pd.DataFrame(
        [
            {"target": "evaluate", "task": task, "model": model, "baseline": other, "slice": "all",
             "metric": "ndcg@10", "value": value, "low": value - 0.01, "high": value + 0.01,
             "n_seeds": 3, "seed_low": 0.43, "seed_high": 0.44}
            for model, task, other, value in rows
        ]
    )  # fmt: skip
    lake_with(tmp_path, "scoreboard", board)
    policy = {"task": "all", "placement": "for_you", "model": "frequency", "reason": "it wins"}
    return lake_with(tmp_path, "policies", pd.DataFrame([policy]))


def test_the_markdown_table_replaces_only_what_is_between_the_marks(
    measured: Lake, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- scoreboard:start -->\nold\n<!-- scoreboard:end -->\nz\n")
    show.write_into_markdown(measured.served, readme)
    text = readme.read_text()
    assert text.startswith("a\n") and text.endswith("z\n") and "old" not in text
    assert "| **ours** | 0.4321 (0.4221 to 0.4421) |  | 0.0600 (0.0500 to 0.0700) |  |" in text
    assert "| popularity_7d | 0.1500 |  |  |  |" in text
    assert "`for_you` publishes frequency: NDCG@10 0.4321 (0.4221 to 0.4421), mean of 3" in text
    assert "paired by user +0.2821 (+0.2721 to +0.2921) against popularity_7d" in text
    show.write_into_markdown(measured.served, readme)
    assert readme.read_text() == text, "writing it again changes nothing"


def test_the_markdown_table_shows_of_the_retrievers_the_best_of_each_task(
    measured: Lake, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- scoreboard:start --><!-- scoreboard:end -->")
    show.write_into_markdown(measured.served, readme)
    text = readme.read_text()
    assert "| retriever: ease | 0.4100 |  | 0.0400 |  |" in text
    assert "| retriever: als | 0.3000 |  | 0.0500 |  |" in text
    assert "content" not in text and "1 more retrievers alone" in text


def test_the_printed_scoreboard_says_what_is_published_and_why(measured: Lake) -> None:
    out = Console(width=140, record=True, file=io.StringIO())
    show.scoreboard(measured.served, out)
    text = " ".join(out.export_text().split())
    assert "for_you: NDCG@10 0.4321, mean of 3 seeds (0.4300 to 0.4400)" in text
    assert "published is frequency (it wins, on the period before)" in text
    assert "against popularity_7d" in text
    assert "whatever the user takes next, taken before left out" in text, "no task again"


@pytest.mark.parametrize("width", [60, 80, show.WIDE - 1, show.WIDE])
def test_no_number_of_the_printed_scoreboard_is_cut(tmp_path: Path, width: int) -> None:
    model = "retriever: popularity_new_28d of a long name"
    board = pd.DataFrame(
        [
            {"target": "evaluate", "task": "all", "model": model, "baseline": "", "slice": "all",
             "metric": f"{metric}@10", "value": 0.4321, "low": 0.41, "high": 0.43}
            for metric in ("ndcg", *show.METRICS)
        ]
    )  # fmt: skip
    lake_with(tmp_path, "scoreboard", board)
    none = pd.DataFrame({"task": pd.Series([], dtype=str)})
    out = Console(width=width, record=True, file=io.StringIO())
    show.scoreboard(lake_with(tmp_path, "policies", none).served, out)
    text = out.export_text()
    assert "…" not in text and "0.410-0.430" in text
    assert ("novelty" in text) == (width >= show.WIDE)


@pytest.mark.parametrize("title", ["Cheese [organic] 200 g", "Milk [/b] 1 l", "Cat :cat: food"])
def test_a_title_is_printed_as_it_stands_whatever_brackets_it_holds(title: str) -> None:
    rows = [{"placement": "for_you", "item_id": "i1", "score": 1.0, "reason": title,
             "retrievers": "x"}]  # fmt: skip
    served = SimpleNamespace(
        lists=lambda user: (pd.DataFrame(rows), False), titles=lambda ids: {"i1": title},
        release_id="r", as_of=pd.Timestamp("2024-01-01", tz="UTC"),
    )  # fmt: skip
    with cli.out.capture() as got:
        show.recommendations(served, cli.out, "u [x]", frozenset(), None, 5)  # type: ignore[arg-type]
    said = " ".join(got.get().replace("│", " ").split())
    assert "'u [x]'" in said and all(word in said for word in title.split())


@pytest.mark.parametrize("command", [arrivals, explain, forget, onboard, releases, search])
def test_no_command_reads_markup_in_what_it_prints(command: ModuleType) -> None:
    grid = Grid("a [x] heading")
    grid.add_row("Milk [/b] :cat:")
    with command.out.capture() as got:
        command.out.print(grid)
        command.out.print("[red]")
    assert all(text in got.get() for text in ("[x]", "Milk [/b] :cat:", "[red]"))
