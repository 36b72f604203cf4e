"""A built wheel carries everything it runs on: the SQL, the shops, the command."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return next(target.glob("*.whl"))


def test_the_wheel_contains_every_sql_file_and_every_shop(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "sql").rglob("*.sql"):
        assert f"recsys_assets/_sql/{path.relative_to(ROOT / 'sql')}" in names
    for path in (ROOT / "recsys_assets" / "shops").glob("*.yaml"):
        assert f"recsys_assets/shops/{path.name}" in names


def test_the_unpacked_wheel_loads_the_graph_far_from_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = (
        "import recsys_assets, dagster_project.definitions as d\n"
        "from recsys_assets.core.warehouse import sql_root, sql_text\n"
        f"assert str(sql_root()).startswith({str(site)!r}), sql_root()\n"
        "assert 'SELECT' in sql_text('staging/interactions')\n"
        "print(len(d.defs.resolve_asset_graph().materializable_asset_keys))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "RECSYS_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25
