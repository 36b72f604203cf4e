"""Settings of the rankers, searched by Optuna on the tune target.

Belongs here: the space, the search and the piece of YAML that comes out. Does not belong here: what
a trial measures (`studies.py`). The weights of the three-part blend, a baseline, are searched on a
complete grid instead (asset `blend_weights`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import yaml

from recsys_assets.ranking.ranker import RankerSettings

SPACE: Mapping[str, tuple[Any, ...]] = {
    "objectives": ("binary", "lambdarank"),
    "learning_rate": (0.05, 0.08, 0.12, 0.2),
    "rounds": (50, 75, 100, 150, 220),
    "num_leaves": (15, 31, 63),
    "min_data_in_leaf": (50, 100, 200, 400),
    "feature_fraction": (0.3, 0.5, 0.8),
    "lambda_l2": (1.0, 5.0, 20.0),
    "blend": (0.0, 0.15, 0.3, 0.5),
}
"""What is tried per setting. Values, not ranges: a trial can be read aloud and repeated."""


def search(
    measure: Callable[[RankerSettings], float], start: RankerSettings, trials: int, seed: int
) -> pd.DataFrame:
    """Try `trials` settings, `start` first, and then what the sampler proposes.

    Tree-structured Parzen estimator (Bergstra et al. 2011), seeded, one after the other: the same
    input gives the same study. `measure` gives the value to make large. A setting that comes up
    again is not measured again. Returns trial (from 0), value and `settings`, in order of trial.
    """
    import optuna  # 1 s

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(3, trials // 3))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rows: list[dict[str, Any]] = []
    known: dict[RankerSettings, float] = {start: measure(start)}
    rows.append({"trial": 0, "value": known[start], "settings": chosen(start)})
    for number in range(1, trials):
        trial = study.ask()
        picked = {name: trial.suggest_categorical(name, list(v)) for name, v in SPACE.items()}
        settings = replace(start, **{**picked, "objectives": (picked["objectives"],)})
        if settings not in known:
            known[settings] = measure(settings)
        study.tell(trial, known[settings])
        rows.append({"trial": number, "value": known[settings], "settings": chosen(settings)})
    return pd.DataFrame(rows)


def as_yaml(best: Mapping[str, Mapping[str, Any]]) -> str:
    """The `ranker` section of a shop file that uses the best settings of each task."""
    return yaml.safe_dump({"ranker": {task: dict(s) for task, s in best.items()}}, sort_keys=True)


def chosen(settings: RankerSettings) -> dict[str, Any]:
    """The settings that are searched, as a shop file writes them."""
    found = {name: getattr(settings, name) for name in SPACE}
    return {**found, "objectives": list(settings.objectives)}
