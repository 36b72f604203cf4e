"""Users who said what they like: their words beside their behaviour, and their bans.

Belongs here: the weight between the two kinds of evidence, applying bans, and saying so. Does not
belong here: reading words and finding items for them (onboarding), business rules (`rules.py`).

Both kinds are places in a list, so they are blended as reciprocal ranks: after n visits an item
scores w / (20 + place by behaviour) + (1 - w) / (20 + place by words), w = (n + k) / (n + 2 k).
"""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.core.config import Shop
from recsys_assets.onboarding.answers import visits
from recsys_assets.onboarding.shelf import Words
from recsys_assets.ranking.reasons import NEW_CATEGORY, PLAIN, POPULAR, STATED
from recsys_assets.ranking.rules import ONBOARDING, RANKER, STAND_IN

DAMPING = 20.0
"""As in the ranker's own fused places."""

FILLER = 1e-6
NAME = "stated_preferences"
"""What stands among `retrievers` where words brought an item in."""

_PAIR = ["user_id", "item_id"]


@dataclass(frozen=True, eq=False)
class Stated:
    """What users said, ready to be weighed against candidates by behaviour.

    `candidates` is `user_id, item_id, place, wished, terms`; `weight` that of behaviour by user,
    for those whose words still count; `avoid` the stems a user rules out, for all who named any.
    """

    candidates: pd.DataFrame
    weight: pd.Series
    avoid: dict[str, frozenset[str]]
    words: Words | None

    @classmethod
    def build(
        cls,
        preferences: pd.DataFrame,
        candidates: pd.DataFrame,
        known: pd.DataFrame,
        catalogue: pd.DataFrame,
        shop: Shop,
    ) -> "Stated":
        """From the tables `stated_preferences` and `stated_candidates`, and the events `known`."""
        avoid = bans(preferences)
        users = pd.Series(candidates["user_id"].unique(), dtype="str")
        weight = behaviour_weight(visits(known, users), shop.onboarding.k)
        return cls(candidates, weight, avoid, Words.build(catalogue) if avoid else None)

    @property
    def with_bans(self) -> pd.Series:
        return pd.Series(sorted(self.avoid), dtype="str", name="user_id")

    def without_bans(self, users: pd.Series) -> pd.Series:
        return users[~users.isin(self.with_bans)]

    def weighed(self, rows: pd.DataFrame, taken: pd.DataFrame) -> pd.DataFrame:
        """Candidates by behaviour with what words speak for, without what bans rule out.

        Something that a user takes themselves (`taken`) is not kept from them.
        """
        if not len(self.weight) and not self.avoid:
            return rows
        rows = blend(rows, self.candidates, self.weight)
        out = self._banned(rows)
        own = pd.MultiIndex.from_frame(taken[taken["user_id"].isin(self.with_bans)][_PAIR])
        return rows[~out | pd.MultiIndex.from_frame(rows[_PAIR]).isin(own)].reset_index(drop=True)

    def policy(self, made: pd.DataFrame) -> pd.Series:
        """`policy` of made lists: where words still count, they and the ranker chose together."""
        mixed = made["user_id"].isin(self.weight.index) & made["policy"].isin([RANKER, STAND_IN])
        return made["policy"].mask(mixed, ONBOARDING)

    def found_by(self, shown: pd.DataFrame) -> pd.Series:
        """`retrievers` of shown rows, the stated preferences named among them."""
        found = shown["retrievers"].fillna("")
        if not len(self.weight):
            return found
        asked = self.candidates.loc[self.candidates["wished"], _PAIR]
        wished = pd.MultiIndex.from_frame(shown[_PAIR]).isin(pd.MultiIndex.from_frame(asked))
        wished &= (shown["policy"] == ONBOARDING).to_numpy()
        return found.mask(wished & (found == ""), NAME).mask(
            wished & (found != ""), found + ", " + NAME
        )

    def say(self, shown: pd.DataFrame, why: pd.DataFrame) -> pd.DataFrame:
        """`why` (row-aligned with `shown`) with a reason of its own where only words speak for an
        item: what behaviour knows is said first."""
        if not len(self.weight):
            return why
        terms = self._terms(shown)
        weak = why["reason_code"].isin([POPULAR, NEW_CATEGORY, PLAIN]).to_numpy()
        rows = weak & (terms != "").to_numpy() & (shown["policy"] == ONBOARDING).to_numpy()
        why = why.reset_index(drop=True)
        said = terms[rows].to_numpy(dtype=object)
        why.loc[rows, "reason"] = [f"Fits what you told us: {t}" for t in said]
        why.loc[rows, "reason_code"] = STATED
        why.loc[rows, "reason_evidence"] = [json.dumps({"terms": t}) for t in said]
        return why

    def _terms(self, shown: pd.DataFrame) -> pd.Series:
        found = shown[_PAIR].merge(self.candidates[[*_PAIR, "terms"]], on=_PAIR, how="left")
        return found["terms"].fillna("")

    def _banned(self, rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
        out = np.zeros(len(rows), dtype=bool)
        if self.words is None:
            return out
        position = self.words.places(rows["item_id"])
        avoid = rows["user_id"].map(self.avoid)
        for words in set(self.avoid.values()):
            own = (avoid == words).to_numpy()
            out[own] = self.words.ruled_out(words)[position[own]]
        return out


def bans(preferences: pd.DataFrame) -> dict[str, frozenset[str]]:
    """The stems that each user of the table `stated_preferences` rules out, if any."""
    firsts = preferences.drop_duplicates("user_id")
    return {
        str(user): words
        for user, text in zip(firsts["user_id"], firsts["avoid"], strict=True)
        if (words := frozenset(json.loads(text)))
    }


def behaviour_weight(visits: pd.Series, k: float) -> pd.Series:
    """Weight of behaviour after n visits: (n + k) / (n + 2 k), half without any.

    Half, since the ranker's order for somebody without history (what is popular) is worth about as
    much as their words, and both together more than either.
    """
    return ((visits + k) / (visits + 2 * k)).astype(float)


def blend(rows: pd.DataFrame, stated: pd.DataFrame, weight: pd.Series) -> pd.DataFrame:
    """Candidates `user_id, item_id, score` in which words count beside behaviour.

    `rows` are the candidates by behaviour, `stated` is `user_id, item_id, place, wished`, `weight`
    that of behaviour by user; users without a weight keep their rows as they are.
    """
    mixed = rows["user_id"].isin(weight.index)
    own = rows[mixed].sort_values(["user_id", "score", "item_id"], ascending=[True, False, True])
    own = own.assign(by_behaviour=1 / (DAMPING + 1 + own.groupby("user_id").cumcount()))
    said = stated.loc[stated["user_id"].isin(weight.index), [*_PAIR, "place", "wished"]]
    # What is only popular fills up a list behind everything else: the ranker knows it better.
    said = said.assign(
        by_words=(1 / (DAMPING + said["place"])).where(said["wished"], FILLER / said["place"])
    )
    both = own[[*_PAIR, "by_behaviour"]].merge(said[[*_PAIR, "by_words"]], on=_PAIR, how="outer")
    both = both.fillna({"by_behaviour": 0.0, "by_words": 0.0})
    w = both["user_id"].map(weight).astype(float)
    score = w * both["by_behaviour"] + (1 - w) * both["by_words"]
    both = both[_PAIR].assign(score=score.astype(np.float32))
    return pd.concat([rows[~mixed], both], ignore_index=True)
