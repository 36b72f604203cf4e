"""The graph as a whole: every asset is gated, described and owned, and stages know their place."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml

from dagster_project.definitions import build, gated_assets
from recsys_assets.core.assets import CADENCE, CHECK, OWNER, Project, imported_modules, is_module
from recsys_assets.core.config import ConfigError, packaged_shop

ROOT = Path(__file__).parents[2]
STAGES = (
    "language_model", "ingestion", "staging", "content", "collaborative", "enrichment", "indexing",
    "retrieval", "onboarding", "ranking", "evaluation", "publishing",
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(home=str(tmp_path_factory.mktemp("home")), shop_file=str(packaged_shop()))


@pytest.fixture(scope="module")
def defs(project: Project) -> dg.Definitions:
    return build(project)


def test_a_mistake_in_a_models_settings_is_refused_before_there_is_a_graph(tmp_path: Path) -> None:
    text = packaged_shop().read_text().replace("all: {rounds", "all: {num_leafs")
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"ranker\.all\.num_leafs: unknown key"):
        build(Project(home=str(tmp_path), shop_file=str(tmp_path / "shop.yaml")))


def test_every_materializable_asset_has_exactly_one_blocking_check(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    checks = [k for k in graph.asset_check_keys if graph.get(k).blocking]
    assert {k.name for k in checks} == {CHECK}
    assert {k.asset_key for k in checks} == set(graph.materializable_asset_keys)
    assert len(checks) == len(graph.materializable_asset_keys)


def test_dagster_loads_the_code_location_whole(defs: dg.Definitions) -> None:
    """Names that meet each other are only noticed when everything is put together, as the UI
    does."""
    assert {job.name for job in defs.get_repository_def().get_all_jobs()} >= {"daily", "retention"}


def test_imports_read_by_line_are_those_of_the_syntax_tree() -> None:
    """What a code version covers is read by line (`imported_modules`), for speed."""
    files = sorted((ROOT / "recsys_assets").rglob("*.py"))
    assert len(files) > 100
    for file in files:
        source = file.read_text()
        names: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        ours = {name for name in names if name.split(".")[0] == "recsys_assets"}
        assert imported_modules(source) == {name for name in ours if is_module(name)}, file


def test_an_asset_added_without_a_gate_is_noticed(defs: dg.Definitions) -> None:
    @dg.asset
    def stray() -> None: ...

    merged = dg.Definitions.merge(defs, dg.Definitions(assets=[stray]))
    graph = merged.resolve_asset_graph()
    gated = {k.asset_key for k in graph.asset_check_keys if graph.get(k).blocking}
    assert set(graph.materializable_asset_keys) - gated == {dg.AssetKey("stray")}


def test_only_the_raw_interactions_are_partitioned(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    partitioned = {
        k.to_user_string() for k in graph.materializable_asset_keys if graph.get(k).is_partitioned
    }
    assert partitioned == {"raw_interactions"}


def test_every_asset_is_described_owned_grouped_and_has_a_column_schema(
    defs: dg.Definitions,
) -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        name = key.to_user_string()
        assert node.description and len(node.description) > 40, name
        assert node.owners == [OWNER], name
        assert node.group_name != "default", name
        assert 1 <= len(node.kinds) <= 3, name
        schema = node.metadata["dagster/column_schema"]
        assert all(c.description for c in schema.columns), name


def test_a_check_says_what_it_looks_at(project: Project) -> None:
    said = {g.table.name: g.check.get_spec_for_check_key(g.check.check_key).description or ""
            for g in gated_assets(project)}  # fmt: skip
    assert "contract: 6 columns; models have trees; read what is served;" in said["rankers"]
    assert "features know nothing later" in said["item_features"]


def test_the_main_job_runs_all_that_is_not_weekly_and_the_weekly_job_the_rest_too(
    defs: dg.Definitions, project: Project
) -> None:
    graph = defs.resolve_asset_graph()
    for job, wanted in (("recommend", False), ("weekly", True)):
        names = {n.name for n in defs.resolve_job_def(job).graph.nodes}
        for gated in gated_assets(project):
            weekly = graph.get(gated.asset.key).tags.get(CADENCE) == "weekly"
            for name in (gated.table.name, f"{gated.table.name}_{CHECK}"):
                assert (name in names) == (wanted or not weekly), (job, name)


def test_nothing_that_is_served_waits_for_a_study(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    weekly = {
        k for k in graph.materializable_asset_keys if graph.get(k).tags.get(CADENCE) == "weekly"
    }
    assert {k.to_user_string() for k in weekly} >= {"scoreboard_cutoffs", "tuned_settings"}
    below = {child.to_user_string() for k in weekly for child in graph.get(k).child_keys}
    assert below - {k.to_user_string() for k in weekly} <= {"report_page"}


def modules() -> list[Path]:
    return [*(ROOT / "recsys_assets").rglob("*.py"), *(ROOT / "dagster_project").rglob("*.py")]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_the_core_and_the_stages_before_it(stage: str) -> None:
    later = STAGES[STAGES.index(stage) + 1 :]
    for path in (ROOT / "recsys_assets" / stage).rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("dagster_project"), path
            for other in later:
                assert not name.startswith(f"recsys_assets.{other}"), f"{path} imports {name}"
            for other in STAGES:
                if other != stage:
                    own = name.startswith(f"recsys_assets.{other}.") and "assets" in name[14:]
                    assert not own, f"{path} imports the assets of {other}"


def test_the_core_imports_no_stage() -> None:
    for path in (ROOT / "recsys_assets" / "core").rglob("*.py"):
        for name in imports(path):
            assert not any(name.startswith(f"recsys_assets.{s}") for s in STAGES), path


def test_one_module_speaks_to_the_language_model_service() -> None:
    users = {p.relative_to(ROOT) for p in modules() if "anthropic" in imports(p)}
    assert users == {Path("recsys_assets/language_model/service.py")}


def test_no_module_imports_relatively_or_serialises_with_pickle() -> None:
    banned = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    for path in modules():
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & banned, path
        assert "allow_pickle=True" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("module", "also"), [("dagster_project.definitions", ""), ("dagster_project.cli", "dagster")]
)
def test_what_everybody_waits_for_imports_no_heavy_library(module: str, also: str) -> None:
    heavy = (
        "torch sentence_transformers great_expectations lightgbm anthropic implicit matplotlib "
        f"transformers weaviate faiss {also}"
    ).split()
    program = (
        f"import sys, {module}\n"
        f"heavy = set({heavy}) & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_code_location_has_one_name_however_it_is_opened_and_wherever_it_lies() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    (place,) = (entry["python_module"] for entry in workspace["load_from"])
    assert settings["tool"]["dg"]["project"]["code_location_name"] == place["location_name"]
