"""The documentation's shop files: what people copy must load, and every key must be explained."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from recsys_assets.core.config import ConfigError, Shop, load_shop
from recsys_assets.core.settings.sources import EVENT_TYPES
from recsys_assets.ranking.recipe import check_models

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/data.md")
REFERENCE = ROOT / "docs" / "data.md"


def _shops(document: str) -> list[str]:
    """The YAML blocks of a document that describe a whole shop."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```ya?ml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if re.search(r"^source:", block, re.MULTILINE)]


EXAMPLES = [
    pytest.param(block, id=f"{document}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(_shops(document), start=1)
]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    for part in get_args(annotation):
        yield from _models(part)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_for_newcomers_shows_a_whole_shop_file(document: str) -> None:
    assert _shops(document)


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_documented_shop_file_loads(text: str, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(text, encoding="utf-8")
    shop = load_shop(path)
    assert shop.file == path
    check_models(shop)


def _try_the_files() -> str:
    text = REFERENCE.read_text(encoding="utf-8")
    snippet: str = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    return snippet


def test_trying_the_files_as_documented_refuses_what_a_run_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippet = _try_the_files()
    smallest = _shops("docs/data.md")[0]
    (tmp_path / "shop.yaml").write_text(f"{smallest}retrieval: {{als: {{params: {{wrong: 1}}}}}}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"retrieval\.als\.params\.wrong: unknown key"):
        exec(snippet, {})


def test_trying_the_files_as_documented_counts_the_causes_of_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.yaml").write_text(
        _shops("docs/data.md")[0].replace("path: sales.csv", "path: sales").replace("users:", "#")
    )
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    (tmp_path / "sales").mkdir()
    head = "user_id,item_id,event_time,event_id\n"
    row = "u,i,2024-05-01T12:00:00Z"
    (tmp_path / "sales" / "bad.csv").write_text(f"{head}{row},1\nv{row},1\nw{row},1\n,,,2\n")
    (tmp_path / "sales" / "good.csv").write_text(f"{head}{row},3\n")
    monkeypatch.chdir(tmp_path)
    exec(_try_the_files(), {})
    assert capsys.readouterr().out.splitlines() == [
        "[]",
        "sales/bad.csv {'conflicts with row': 2, 'missing id': 1}",
        "sales/good.csv {}",
    ]


def test_the_reference_names_every_key_of_a_shop_file() -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", REFERENCE.read_text(encoding="utf-8")))
    explained = set(re.findall(r"\w+", code))
    keys = {key for model in _models(Shop) for key in model.model_fields}
    assert sorted((keys | set(EVENT_TYPES)) - explained) == []
