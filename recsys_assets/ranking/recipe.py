"""What the shop file says about the rankers.

Belongs here: reading the `ranker` section. Does not belong here: training (`ranker.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from recsys_assets.core.config import ConfigError, Shop
from recsys_assets.core.settings.base import check_settings
from recsys_assets.ranking.ranker import RankerSettings, Task
from recsys_assets.retrieval import registry

TASKS: tuple[Task, ...] = get_args(Task)


def check_models(shop: Shop) -> None:
    """Raise ConfigError, naming file and key, unless every model's settings can be used.

    `load_shop` knows no model, so this belongs before the first use of a shop.
    """
    try:
        Recipe.read(shop.ranker, shop.seed)
        registry.check(registry.configured(shop))
    except ValueError as error:
        raise ConfigError(f"{shop.file}: {error}") from error


def tasks_of(shop: Shop) -> tuple[Task, ...]:
    """The tasks of a shop: where things are taken once, nothing is taken again."""
    return tuple(task for task in TASKS if shop.repeats or task != "again")


@dataclass(frozen=True)
class Recipe:
    """How rankers are made: settings per task, and the share of negatives they learn from.

    The evaluate target is measured with `evaluation_seeds` rankers from as many seeds, since one
    seed is one draw; the other targets have one.
    """

    settings: Mapping[Task, RankerSettings]
    negative_share: float = 0.15
    evaluation_seeds: int = 3

    @classmethod
    def read(cls, section: Mapping[str, Any], seed: int) -> "Recipe":
        """From `{negative_share: .., all: {rounds: ..}, new: {..}, again: {..}}`.

        Absent keys keep their defaults. Raises ValueError naming a key that is unknown or wrong.
        """
        check_settings(cls, section, "ranker", besides={"settings"}, more=TASKS)
        settings: dict[Task, RankerSettings] = {}
        for task in TASKS:
            chosen = section.get(task, {})
            check_settings(
                RankerSettings, chosen, f"ranker.{task}", besides={"task", "seed", "threads"}
            )
            given = dict(chosen)
            if "objectives" in given:
                given["objectives"] = tuple(given["objectives"])
            settings[task] = replace(RankerSettings.for_task(task), seed=seed, **given)
            for name in ("blend", "ensemble"):
                if not 0 <= (share := getattr(settings[task], name)) <= 1:
                    raise ValueError(f"ranker.{task}.{name} is {share}, not a share of 0 to 1")
        seeds = int(section.get("evaluation_seeds", 3))
        if seeds < 1:
            raise ValueError(f"ranker.evaluation_seeds is {seeds}, at least 1 is needed")
        return cls(settings, float(section.get("negative_share", 0.15)), seeds)

    def variants(self, target: str, task: Task) -> list[RankerSettings]:
        """The settings of every ranker of a target and task, the one that is served first."""
        first = self.settings[task]
        n = self.evaluation_seeds if target == "evaluate" else 1
        return [replace(first, seed=first.seed + nth * first.seeds) for nth in range(n)]
