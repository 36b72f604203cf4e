"""What was spent can be read without a key."""

from pathlib import Path

import pytest

from dagster_project.commands.spend import spend
from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.language_model.client import ledger
from recsys_assets.language_model.prices import Usage


def test_the_command_adds_up_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    spend()
    assert "Nothing was ever asked" in capsys.readouterr().out
    books = ledger(tmp_path, LanguageModelSettings())
    for run, dollars in (("r1", 0.25), ("r2", 0.5)):
        reservation = books.reserve(run, "item_enrichment", "claude-haiku-5-5", 0.9)
        books.settle(reservation, Usage(1000, 20, 3000, 0), dollars, calls=1)
    books.reserve("r3", "explain", "claude-haiku-5-5", 0.125)
    spend()
    printed = capsys.readouterr().out
    assert "0.7500" in printed and "6,000" in printed and "r1" not in printed
    assert "0.8750 of 10.00 dollars" in printed
    assert "Open calls" in printed
    spend(runs=True)
    assert "r1" in capsys.readouterr().out
