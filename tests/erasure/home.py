"""A home by hand that holds three users in every kind of store, for tests of forgetting one."""

import gzip
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from recsys_assets.collaborative.tables import ALS_FACTORS
from recsys_assets.core.assets import Project
from recsys_assets.core.lake import Lake, Version, VersionKey
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.tables import LANDED_ROWS, REJECTED_ENTITIES
from recsys_assets.publishing import manifest
from recsys_assets.publishing.releases import RELEASE, Known, Releases

NOW = datetime(2026, 1, 10, tzinfo=UTC)
GONE = "ann-17"
"""Who is forgotten; `bob` and `eve` stay."""
SHOP = """\
name: s
repeats: true
time_zone: UTC
partitions: {granularity: month, start: 2025-12-01}
arrival: {settle_seconds: 0}
source:
  kind: files
  interactions: {path: "sales*.csv", event_type: purchase}
  items: {path: items.csv}
  users: {path: users.csv}
"""
SALES = """\
user_id,item_id,event_time
ann-17,i1,2026-01-01
bob,i1,2026-01-01
ann-17,i2,someday
eve,i2,2026-01-03
"""
PAGE = (
    '<body><h2 id="short">ok</h2><h2 id="examples">Examples</h2>User A took soup'
    '<h2 id="end"></h2></body>'
)


def build(folder: Path) -> Project:
    """The home below `folder`, with two releases of which the older is served and pinned."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "shop.yaml": SHOP,
        "sales.csv": SALES,
        "items.csv": "item_id,title\ni1,a\ni2,b\n",
        "users.csv": "user_id\nann-17\nbob\nann-17\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    home = folder / "home"
    home.mkdir()
    project = Project(home=str(home), shop_file=str(folder / "shop.yaml"))
    (inbox,) = inboxes_of(project.shop)
    ledger_of(home).accept(inbox, NOW)
    releases = Releases(project.lake)
    for round_ in (1, 2):
        _release(project.lake, releases, round_)
    releases.rollback(1, why="ann-17 complained")
    _bad_candidate(project.lake)
    _texts(home)
    return project


def _landed(batch: str) -> dict[str, pa.Table]:
    rows = [
        {"row": 2, "user_id": GONE, "item_id": "i1", "event_id": "e1"},
        {"row": 3, "user_id": "bob", "item_id": "i1", "event_id": "e2"},
        {"row": 4, "user_id": GONE, "item_id": "i2", "reject_field": "event_time",
         "reject_reason": "not a timestamp: 'someday'"},
        {"row": 5, "user_id": "eve", "item_id": "i2", "event_id": "e3"},
    ]  # fmt: skip
    schema = LANDED_ROWS.arrow_schema()
    rows = [{"batch": batch, "file": "sales.csv", **r} for r in rows]
    good = [r for r in rows if "reject_reason" not in r]
    bad = [r for r in rows if "reject_reason" in r]
    return {
        "sales.csv@": pa.Table.from_pylist(bad, schema=schema),
        "sales.csv@2026-01-01": pa.Table.from_pylist(good, schema=schema),
    }


def _release(lake: Lake, releases: Releases, round_: int) -> None:
    batch, users_batch = (
        next(f.batch for f in ledger_of(lake.root.parent).source_files() if f.role == role)
        for role in ("interactions", "users")
    )
    when = NOW.replace(day=round_)
    lists = {
        "placement": ["for_you"] * 3, "user_id": [GONE, "bob", "eve"], "rank": [1] * 3,
        "item_id": ["i1", "i2", f"i{round_}"], "reason": ["You took it"] * 3,
    }  # fmt: skip
    place = {"batch": [batch], "file": ["sales.csv"], "row": [4]}
    tables: dict[str, dict[str, pa.Table]] = {
        "landed_rows": _landed(batch),
        "interactions": {
            "": pa.table({"event_id": ["e1", "e2", "e3"], "user_id": [GONE, "bob", "eve"],
                          "n": [round_] * 3})
        },
        "quarantine": {
            "": pa.table({**place, "reject_field": ["event_time"],
                          "reject_reason": ["not a timestamp: 'someday'"]})
        },
        "rejected_entities": {
            "": pa.Table.from_pylist(
                [{"batch": users_batch, "file": "users.csv", "row": 4, "role": "users",
                  "reject_field": "user_id", "reject_reason": "duplicate of row 2"}],
                schema=REJECTED_ENTITIES.arrow_schema(),
            )
        },
        "als_factors": {
            "a": pa.Table.from_pylist(
                [{"as_of": when, "kind": k, "id": i, "vector": [1.0, float(round_)]}
                 for k, i in (("item", "i1"), ("user", GONE), ("user", "bob"))],
                schema=ALS_FACTORS.arrow_schema(),
            ),
            "b": pa.Table.from_pylist(
                [{"as_of": when, "kind": "user", "id": "bob", "vector": [1.0, 2.0]}],
                schema=ALS_FACTORS.arrow_schema(),
            ),
        },
        "recommendations": {"": pa.table(lists)},
        "items": {"": pa.table({"item_id": ["i1", "i2"], "title": ["a", "b"]})},
        "examples": {"": pa.table({"example": ["A"], "title": ["soup"]})},
        "report_page": {"": pa.table({"name": ["scoreboard"], "html": [PAGE]})},
    }  # fmt: skip
    rows = [manifest.row("fact", "as_of", "", f"day {round_}")]
    for name, parts in tables.items():
        version = _put(lake, name, parts)
        rows.append(manifest.row("table", name, "", version.content_id, version.id))
    release = _put(lake, RELEASE, {"": pa.Table.from_pylist(rows)})
    verdict = pa.table(
        {"release_id": [release.id], "incumbent": [releases.state().live],
         "criterion": ["golden user"], "text": [f"golden user {GONE} has a list"]}
    )  # fmt: skip
    judged = _put(lake, "release_verdict", {"": verdict})
    known = Known(release.id, True, [], judged.id, against=releases.state().live)
    releases.judged(known, "run")
    assert releases.offer(release.id, "run") == ""


def _put(lake: Lake, name: str, parts: dict[str, pa.Table]) -> Version:
    key = VersionKey(code="c", config="", libraries="l", inputs={"x": "y"})
    report = {"texts": {"note": f"looked at {GONE}"}} if name == "interactions" else {}
    version = lake.store(
        name, parts.items(), key, report=lambda: report, part_key=lambda part: f"key of {part}"
    )
    lake.propose([version])
    lake.approve([version])
    return version


def _bad_candidate(lake: Lake) -> None:
    key = VersionKey(code="bad", config="", libraries="l", inputs={})
    version = lake.store("interactions", [("", pa.table({"user_id": [GONE], "n": [9]}))], key)
    lake.propose([version])
    lake.reject(version, [f"user {GONE} came twice"])


def _texts(home: Path) -> None:
    base_path = home / "dagster" / "history" / "runs.db"
    base_path.parent.mkdir(parents=True)
    base = sqlite3.connect(base_path)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("CREATE TABLE event_logs (id INTEGER PRIMARY KEY, event TEXT)")
    events = [(json.dumps({"metadata": f"golden user {GONE} has no list {n}"}),) for n in range(50)]
    base.executemany("INSERT INTO event_logs (event) VALUES (?)", events)
    base.commit()
    base.execute("DELETE FROM event_logs WHERE id > 5")  # its pages stay in the file
    base.commit()
    base.close()
    logs = home / "dagster" / "logs"
    logs.mkdir()
    (logs / "run.log").write_text(f"warning: user {GONE} and bob\n", encoding="utf-8")
    (home / "alerts.jsonl").write_text(
        json.dumps({"key": "k", "what": f"{GONE} has no list"}) + "\n", encoding="utf-8"
    )
    with gzip.open(home / "dagster" / "old.log.gz", "wt", encoding="utf-8") as stream:
        stream.write("nothing of interest\n")
