"""docs/operations.md is the runbook: whoever is told something finds a paragraph on it there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def paragraphs() -> dict[str, str]:
    """Anchor -> text of every third-level heading."""
    found = re.findall(r"^### (.+)\n((?:(?!#).*\n?)*)", PAGE, re.MULTILINE)
    return {title.strip().lower().replace(" ", "-"): text for title, text in found}


def kinds() -> set[str]:
    """The first argument of every `Alert(...)` of the program."""
    found = set()
    for path in sorted((ROOT / "dagster_project").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Alert" and node.args:
                kind = node.args[0]
                assert isinstance(kind, ast.Constant), f"{path}: an alert's kind is a plain text"
                found.add(kind.value)
    return found


def test_every_kind_of_alert_has_its_paragraph_in_the_runbook() -> None:
    assert kinds() >= {"a-run-failed", "what-is-served-is-stale", "the-data-drift"}
    assert {kind for kind in kinds() if len(paragraphs().get(kind, "").split()) < 20} == set()


def test_every_place_of_the_runbook_that_the_program_names_exists() -> None:
    titles = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}
    sources = [*(ROOT / "dagster_project").rglob("*.py"), *(ROOT / "recsys_assets").rglob("*.py")]
    named = {
        anchor
        for path in sources
        for anchor in re.findall(r"operations\.md#([\w-]+)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named - anchors == set()
