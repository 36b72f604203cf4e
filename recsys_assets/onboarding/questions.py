"""What to ask somebody new: a few questions whose answers tell users apart best.

Belongs here: choosing questions and options from the catalogue and from what users do, and what a
user with a history would have answered. Does not belong here: reading answers (`answers.py`).

A category is a good option if about half of the users would say yes to it, and if no option already
chosen says the same. Options of one top-level category make one question.
"""

import itertools
import re
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from recsys_assets.content.categories import category_path, in_categories
from recsys_assets.core.config import Shop
from recsys_assets.onboarding.diets import DIETS, GROUPS
from recsys_assets.onboarding.preferences import stem
from recsys_assets.onboarding.shelf import Words

LIKES, AVOID, WORDS = "likes", "avoid", "words"
"""Kinds of questions: choose from categories, choose what to leave out, say it in own words."""

ENOUGH_CATEGORIES = 8
"""With fewer categories on the second level, options come from the first."""

LEAST_USERS = 10
"""With fewer users the catalogue alone decides."""

RULED_OUT = (0.01, 0.6)
"""A diet is offered if it rules out a share of the catalogue between these."""

SAME_BAN = 0.7
"""Two diets that share more of what they rule out (intersection over union) are one option."""

SEPARATOR = "\x1f"


def option_level(items: pd.DataFrame) -> int:
    """The level of the category path that options are taken from."""
    return 2 if category_path(items, 2).replace("", np.nan).nunique() >= ENOUGH_CATEGORIES else 1


def yes_table(
    takings: pd.DataFrame, items: pd.DataFrame, level: int, *, visits: int = 2
) -> pd.DataFrame:
    """Who would say yes to which category: user_id x category path, boolean.

    `takings` is `user_id, item_id, session_id` of events that count as taken. Yes means taken from
    the category on at least `visits` visits.
    """
    paths = pd.Series(category_path(items, level).to_numpy(), index=items["item_id"].to_numpy())
    path = paths.reindex(takings["item_id"]).to_numpy()
    rows = pd.DataFrame({"user_id": takings["user_id"].to_numpy(), "path": path})
    rows["visit"] = takings["session_id"].fillna(takings["item_id"]).to_numpy()
    rows = rows[rows["path"].fillna("") != ""].drop_duplicates()
    counts = rows.groupby(["user_id", "path"]).size().unstack(fill_value=0)
    return counts >= visits


def derive(
    items: pd.DataFrame,
    takings: pd.DataFrame,
    shop: Shop,
    words: Words,
    diets: Mapping[str, Collection[str]] = DIETS,
) -> pd.DataFrame:
    """The questions: question_id, place, kind, question, answer, answer_place, share, items.

    One row per option (`answer` '' where words are asked for). `share` of the users who would say
    yes (null where nobody can know), `items` of the catalogue the option speaks of. Categories that
    are sensitive or excluded by the shop's rules are never asked about.
    """
    settings, rules = shop.onboarding, shop.rules
    hidden = frozenset(rules.sensitive_categories) | frozenset(rules.exclude_categories)
    offered = items[~in_categories(items, hidden) & (items["status"] == "active").to_numpy()]
    level = option_level(offered)
    sizes = category_path(offered, level).value_counts().drop("", errors="ignore")
    yes = yes_table(takings, offered, level, visits=2 if shop.repeats else 1)
    if len(yes) < LEAST_USERS:
        share, table = sizes / sizes.sum(), None
    else:
        share, table = yes.mean(), yes.astype(np.float32)
    chosen = _options(share, table, settings.options, level)
    avoid = _bans(words, diets, settings.options)
    room = settings.questions - 1 - bool(avoid)
    rows: list[tuple[object, ...]] = []
    ids: list[str] = []
    for place, (top, options) in enumerate(chosen[:room], start=1):
        ids.append(_question_id(top, ids))
        names = [path.split(SEPARATOR)[-1] for path in options]
        text = f"Which of these do you {shop.wording.present} often?"
        for nth, (path, name) in enumerate(zip(options, names, strict=True), start=1):
            known = float(share[path]) if table is not None else None
            rows.append((ids[-1], place, LIKES, text, name, nth, known, int(sizes[path])))
    place = len(ids)
    if avoid:
        place += 1
        text = "Is there anything you would rather not see?"
        rows += [
            (AVOID, place, AVOID, text, name, nth, None, n)
            for nth, (name, n) in enumerate(avoid, start=1)
        ]
    text = "Tell us in your own words what you like, and what you do not."
    rows.append((WORDS, place + 1, WORDS, text, "", 1, None, len(offered)))
    columns = (
        "question_id", "place", "kind", "question", "answer", "answer_place", "share", "items"
    )  # fmt: skip
    return pd.DataFrame(rows, columns=list(columns)).astype({"share": "float64"})


def _options(
    share: pd.Series, yes: pd.DataFrame | None, n: int, level: int
) -> list[tuple[str, list[str]]]:
    """Per top-level category its options, best first; the category that splits users most first."""
    split = (share * (1 - share)).sort_index()
    top = split.index.str.split(SEPARATOR).str[0] if level > 1 else pd.Index([""] * len(split))
    found = []
    for name in pd.unique(top):
        own = split[top == name]
        options = _greedy(own, yes, n)
        gain = float(own[options].sum())
        if level == 1:  # one flat list: later questions go on where the first ended
            later = own.drop(options)
            found.append((gain, "first", options))
            while len(later) >= 2 and len(found) < 3:
                options = _greedy(later, yes, n)
                found.append((float(later[options].sum()), f"more {len(found)}", options))
                later = later.drop(options)
        elif len(options) >= 2:
            found.append((gain, str(name), options))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    return [(name, options) for _, name, options in found]


def _greedy(split: pd.Series, yes: pd.DataFrame | None, n: int) -> list[str]:
    """Up to n categories of large p (1 - p) that do not say what a chosen one says."""
    pool = split.sort_values(ascending=False, kind="stable").head(5 * n)
    pool = pool[pool > 0]
    if yes is None or pool.empty:
        return list(pool.index[:n])
    alike = np.abs(np.nan_to_num(np.corrcoef(yes[pool.index].to_numpy(), rowvar=False)))
    alike = np.atleast_2d(alike)
    worth = pool.to_numpy(dtype=float)
    chosen: list[int] = []
    while len(chosen) < min(n, len(pool)):
        value = worth * (1 - alike[:, chosen].max(axis=1)) if chosen else worth.copy()
        value[chosen] = -1.0
        chosen.append(int(np.argmax(value)))
    return [str(pool.index[place]) for place in chosen]


def _bans(words: Words, diets: Mapping[str, Collection[str]], n: int) -> list[tuple[str, int]]:
    """Up to n things to leave out that mean something here and differ from each other, with the
    number of items each rules out."""
    found: list[tuple[str, np.ndarray]] = []
    for name, banned in {**diets, **GROUPS}.items():
        out = words.ruled_out(frozenset(map(stem, banned)))
        same = any((out & other).sum() > SAME_BAN * (out | other).sum() for _, other in found)
        if RULED_OUT[0] <= out.mean() <= RULED_OUT[1] and not same:
            found.append((name, out))
    return [(name, int(out.sum())) for name, out in found[:n]]


def _question_id(top: str, others: Collection[str]) -> str:
    """An id of its own for the question about a top-level category, in any script."""
    slug = re.sub(r"\W+", "_", top.casefold()).strip("_") or "general"
    plain = f"{LIKES}_{slug}"
    tries = (plain if n == 1 else f"{plain}_{n}" for n in itertools.count(1))
    return next(name for name in tries if name not in others)
