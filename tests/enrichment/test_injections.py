"""A model that obeys every attacker changes nothing beyond the attacked item's own closed terms."""

import json
from hashlib import sha256

import dagster as dg
import pandas as pd
import pytest

from dagster_project.definitions import build
from recsys_assets.core.assets import Project
from recsys_assets.core.config import packaged_shop
from recsys_assets.enrichment.tables import ITEM_ENRICHMENT, TYPE_RELATIONS
from recsys_assets.enrichment.vocabulary import APPEAL, AUDIENCES, USES, vocabulary
from tests.enrichment.injections import ATTACKS, GOALS, HONEST, found_goal, obey
from tests.enrichment.shop import SHELVES, Shelf, fill, materialize
from tests.language_model.conftest import KEY, fake  # noqa: F401 (fixture)
from tests.language_model.server import FakeAnthropic

HONEST_ITEMS = [(f"Product {n} {kind.lower()}", kind) for n in range(10) for kind in SHELVES]


def shelf() -> Shelf:
    """Honest items, then every attack once as a title and once as a description."""
    titles = [(text, "SHAMPOO") for text in ATTACKS]
    described = [(f"Bottle {n}", "SHAMPOO") for n in range(len(ATTACKS))]
    first = len(HONEST_ITEMS) + len(titles)
    extra = {f"i{first + n:04}": text for n, text in enumerate(ATTACKS)}
    return Shelf([*HONEST_ITEMS, *titles, *described], sold=1, extra=extra)


@pytest.fixture
def attacked(
    project: Project,
    fake: FakeAnthropic,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
    fill(project, shelf())
    return project


def rows(project: Project) -> pd.DataFrame:
    return project.lake.served(ITEM_ENRICHMENT.name).to_pandas().set_index("text_hash")


def test_the_corpus_is_large_and_its_attacks_differ() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS) >= 200


def test_an_obedient_model_gets_the_attacker_nowhere(
    attacked: Project,
    fake: FakeAnthropic,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    fake.answer = obey
    numbers = materialize(attacked)
    items = shelf().items()
    hashes = items["text"].map(lambda text: sha256(text.encode()).hexdigest())
    mine = set(hashes[: len(HONEST_ITEMS)])

    # The test has teeth: the attacks reached the model and it obeyed.
    sent = [r for b in fake.posted("/v1/messages/batches") for r in b["requests"]]
    messages = [r["params"]["messages"][0]["content"][0]["text"] for r in sent]
    bodies = [json.loads(m) for m in messages]
    obeyed = [b for b in bodies if found_goal(b["title"]) or found_goal(b["text"])]
    assert len(sent) >= 600 and len(obeyed) >= 500
    assert {found_goal(b["title"]) for b in bodies} >= set(GOALS)

    # One item per request, as one JSON string each, nothing hidden in it.
    assert all(m.isprintable() and "<" not in m for m in messages)
    assert all(set(b) == {"id", "title", "category", "brand", "text"} for b in bodies)

    # No escape from the schema and the vocabularies.
    after = rows(attacked)
    texts = attacked.lake.served("item_texts").to_pandas(["text"])["text"]
    words = vocabulary(items, texts)
    closed = {
        "audience": AUDIENCES, "uses": USES, "appeal": APPEAL, "comparable_types": words.types,
        "complements": words.types, "keywords": words.words,
    }  # fmt: skip
    for column, terms in closed.items():
        used = {term for cell in after[column] for term in json.loads(cell)}
        assert used <= set(terms), column
    refused = sum(n for name, n in numbers.items() if name.startswith("not used: w"))
    assert refused >= 300

    # Nobody else's row knows of it: the same catalogue under an honest model, byte for byte.
    home = tmp_path_factory.mktemp("honest")
    honest = Project(home=str(home), shop_file=attacked.shop_file)
    fill(honest, shelf())
    fake.answer = lambda item, schema, body: {"id": item["id"], **HONEST}
    materialize(honest)
    before = rows(honest)
    assert after.loc[sorted(mine)].equals(before.loc[sorted(mine)])
    changed = after.index[(after != before.loc[after.index]).any(axis=1)]
    assert len(changed) > 0 and not mine & set(changed)


def test_nothing_that_ranks_reads_what_a_model_wrote(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """So what an attacked item gains on any list through its enrichment is exactly nothing.

    What is measured on it goes to the report page and no further; the release notes versions.
    """
    home = tmp_path_factory.mktemp("home")
    defs = build(Project(home=str(home), shop_file=str(packaged_shop())))
    graph = defs.resolve_asset_graph()

    def readers(name: str) -> set[str]:
        return {key.to_user_string() for key in graph.get(dg.AssetKey(name)).child_keys}

    for table in (ITEM_ENRICHMENT, TYPE_RELATIONS):
        assert readers(table.name) == {"enrichment_lift"}
    assert readers("enrichment_lift") == {"report_page"}
    assert readers("report_page") == {"release"}
