"""Asks a few questions and is killed on the way: a program for `test_bulk.py` and `test_ledger.py`.

Arguments: home, base_url, number of items, batch_from.
"""

import sys
from pathlib import Path

from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import Clock, LanguageModel
from recsys_assets.language_model.request import ItemText
from recsys_assets.language_model.service import Service
from tests.language_model.conftest import KEY, TASK


def main(home: str, url: str, items: str, batch_from: str) -> None:
    clock = Clock()
    settings = LanguageModelSettings(batch_from=int(batch_from))
    model = LanguageModel(
        Service(KEY, clock.monotonic, url), settings, Path(home), "killed", "tagging"
    )
    answer_all(model, TASK, [ItemText(f"item {n}") for n in range(int(items))])


if __name__ == "__main__":
    main(*sys.argv[1:])
