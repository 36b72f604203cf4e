"""Onboarding assets: what to ask, what users said, and what that speaks for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.content import embed
from recsys_assets.content.vectors import TextVectors
from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import serving_cutoff, visits_as_of
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.language_model.client import available, connect
from recsys_assets.onboarding import answers, questions, reading, tables
from recsys_assets.onboarding.diets import known_diets
from recsys_assets.onboarding.shelf import Words, shelf_of

GROUP = "onboarding"


def _there_is_a_question(candidate: Snapshot) -> Iterator[Failure]:
    frame = candidate.to_pandas(["question_id", "kind"])
    if (frame["kind"] == questions.WORDS).sum() != 1:
        yield Failure("exactly one question asks for words", "kind")
    if frame["question_id"].nunique() > 5:
        yield Failure("more than five questions are asked", "question_id")


@table_asset(
    tables.ONBOARDING_QUESTIONS,
    group=GROUP,
    kinds=["python"],
    config=("onboarding", "rules", "wording", "repeats"),
    rules=[_there_is_a_question],
)
def onboarding_questions(
    interactions: Snapshot, items: Snapshot, cutoffs: Snapshot, shop: Shop, report: Report
) -> pd.DataFrame:
    """The few questions whose answers tell this shop's users apart best.

    Options are categories that about half of the users would say yes to and that do not repeat each
    other, diets that rule out a fair share of the catalogue, and one question for free words.
    """
    as_of = serving_cutoff(cutoffs, shop)
    known = visits_as_of(interactions, as_of)
    catalogue = items.to_pandas()
    taken = known[known["counts_as_taken"]]
    asked = questions.derive(catalogue, taken, shop, Words.build(catalogue), known_diets(shop))
    report.numbers |= {"questions": int(asked["question_id"].nunique()), "options": len(asked)}
    return asked.assign(as_of=as_of)


@table_asset(
    tables.STATED_PREFERENCES,
    group=GROUP,
    kinds=["sentencetransformers", "python"],
    config=("onboarding", "rules", "encoder", "language_model"),
    inputs_hash=lambda shop: str(available(shop.language_model)),
)
def stated_preferences(
    onboarding_answers: Snapshot,
    items: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    project: Project,
    report: Report,
) -> pd.DataFrame:
    """A profile for everybody who answered: search queries, their vectors, and what to leave out.

    Free words are read by the language model where a key is set, else by their key terms. Answers
    given after the cutoff that is served wait for the next one.
    """
    as_of = serving_cutoff(cutoffs, shop)
    said = onboarding_answers.to_pandas()
    kept = answers.standing(said, as_of)
    report.numbers |= {
        "answers": len(said),
        "answers used": len(kept),
        "answers after the cutoff": int((said["answered_at"] >= as_of).sum()),
    }
    if kept.empty:
        return tables.STATED_PREFERENCES.empty().to_pandas()
    words = Words.build(items.to_pandas())
    model = connect(
        Path(project.home), shop.language_model, f"live {as_of:%F}", "stated_preferences"
    )
    diets = known_diets(shop)
    profiles = {
        str(user): answers.profile(
            list(zip(rows["question_id"], rows["answer"], strict=True)),
            lambda text: reading.read(text, words, model, diets),
            diets,
        )
        for user, rows in kept.groupby("user_id", sort=True)
    }
    encoder = embed.load_encoder(shop.encoder.model)

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return embed.embed(encoder, texts)

    made = answers.as_frame(profiles, words, encode, as_of, answers.unnamed_stems(shop))
    sources = made["source"].value_counts()
    report.numbers |= {"profiles": len(profiles)} | {f"by {s}": int(n) for s, n in sources.items()}
    if model is not None:
        report.numbers |= model.numbers()
    return made


@table_asset(
    tables.STATED_CANDIDATES,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("onboarding", "rules", "cutoffs"),
)
def stated_candidates(
    stated_preferences: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    text_vectors: TextVectors,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """For users who said what they like and have done little yet: what that speaks for.

    Their wishes take turns, and nothing that they ruled out is among them. `recommendations`
    weighs them against behaviour.
    """
    as_of = serving_cutoff(cutoffs, shop)
    stated = stated_preferences.to_pandas()
    if stated.empty:
        return tables.STATED_CANDIDATES.empty().to_pandas()
    known = visits_as_of(interactions, as_of)
    visits = answers.visits(known, stated["user_id"])
    few = visits[visits <= shop.onboarding.few].index
    shelf = shelf_of(items, text_vectors, known, as_of, shop)
    made = answers.candidates(stated[stated["user_id"].isin(few)], shelf)
    report.numbers |= {"users": len(few), "with too long a history": len(visits) - len(few)}
    return made.assign(as_of=as_of)


ASSETS: list[GatedAsset] = [onboarding_questions, stated_preferences, stated_candidates]
