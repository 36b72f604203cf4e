"""Are the first lists about what was said? Precision and coverage of 18 wishes, read by words.

Every wish of `onboarding_wishes.yaml` is read without a language model and gets its first list, as
`recsys onboard` makes it, from the catalogue that is served. A product of the list is right if its
category path answers a part of the wish; a part is covered if one of the first ten answers it.

    RECSYS_HOME=.recsys python -m benchmarks.onboarding_wishes [develop|judge] [--lists]
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from dagster_project import resources
from recsys_assets.ranking.first_list import FirstList, first_list

N = 10
LABELS = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Wish:
    """What a household says, and the category paths that answer its parts."""

    says: str
    parts: dict[str, list[str]]
    wrong: list[str]

    def answered(self, path: str) -> list[str]:
        """The parts that a product of this category path answers."""
        if any(re.search(pattern, path) for pattern in self.wrong):
            return []
        return [
            part
            for part, patterns in self.parts.items()
            if any(re.search(pattern, path) for pattern in patterns)
        ]


def measured(wish: Wish, paths: pd.Series, found: FirstList) -> tuple[float, float, list[str]]:
    """Precision and share of parts covered among the first N, and a line per item."""
    listed = found.rows.head(N)
    answers = [wish.answered(paths[item]) for item in listed["item_id"]]
    covered = {part for parts in answers for part in parts}
    lines = [
        f"    {'+' if parts else '-'} {paths[item]}  [{title}]  {reason}"
        for parts, item, title, reason in zip(
            answers, listed["item_id"], listed["title"], listed["reason"], strict=True
        )
    ]
    return sum(map(bool, answers)) / N, len(covered) / len(wish.parts), lines


def main() -> None:
    halves = yaml.safe_load(LABELS.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("half", nargs="?", choices=sorted(halves), help="of the wishes; else both")
    parser.add_argument("--lists", action="store_true", help="print every first list, too")
    arguments = parser.parse_args()
    project = resources.project()
    items = project.lake.served("items").to_pandas(
        ["item_id", "category_1", "category_2", "category_3"]
    )
    path = items["category_1"] + " > " + items["category_2"] + " > " + items["category_3"]
    paths = pd.Series(path.to_numpy(), index=items["item_id"])
    for half in [arguments.half] if arguments.half else list(halves):
        rows = []
        for name, entry in halves[half].items():
            wish = Wish(**entry)
            found = first_list(project.lake, project.shop, wish.says, N, None)
            precision, covered, lines = measured(wish, paths, found)
            rows.append((name, precision, covered, "; ".join(found.queries)))
            if arguments.lists:
                print(f"{name}: {wish.says}\n  {found.queries}", *lines, sep="\n", flush=True)
        table = pd.DataFrame(rows, columns=["wish", "precision@10", "parts covered", "queries"])
        print(f"\n{half}\n{table.to_string(index=False)}")
        print(f"mean {table['precision@10'].mean():.3f} {table['parts covered'].mean():.3f}")


if __name__ == "__main__":
    main()
