"""Every benchmark says what it wants instead of taking --help for a folder."""

import importlib
from pathlib import Path

import pytest

import benchmarks.steps

FOLDER = Path(benchmarks.steps.__file__).parent
STARTED_BY_PEERS = "peer_models"
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if "def main(" in path.read_text(encoding="utf-8") and path.stem != STARTED_BY_PEERS
)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_explains_its_arguments(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")
