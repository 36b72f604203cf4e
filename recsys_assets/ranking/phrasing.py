"""Saying an explanation in one sentence with the language model, held to the evidence.

Belongs here: the task, and what happens to an answer that is not grounded. Does not belong here:
collecting evidence (`evidence.py`), the check itself (`grounding.py`), the client.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pydantic import BaseModel, Field

from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.request import Facts, Task
from recsys_assets.ranking.evidence import Evidence
from recsys_assets.ranking.grounding import MAX_LENGTH, Key, check
from recsys_assets.ranking.reasons import STATED

PLAIN, CLAUDE = "plain", "claude"


class Sentence(BaseModel, extra="forbid", strict=True):
    sentence: str = Field(description="one sentence to the customer")


TASK = Task(
    name="explanation",
    version="1",
    instructions=(
        "`facts` are all that is known about why `item` is recommended to a customer. Say it to "
        f"them in one short friendly sentence of at most {MAX_LENGTH // 2} characters. Use only "
        "these facts and, as far as you can, their own words. Copy names and numbers exactly as "
        "they stand. Name no other product, category, number, quality or person."
    ),
    payload=Facts,
    answer=Sentence,
    max_tokens=300,
)


@dataclass(frozen=True)
class Phrased:
    """The sentence to show, who wrote it, and why the model's was not used ('' if it was)."""

    text: str
    source: str
    problem: str = ""


def phrase(
    evidence: Evidence, model: LanguageModel | None, names: Collection[Key] = frozenset()
) -> Phrased:
    """The model's sentence if the evidence bears it out, else the plain one.

    `names` are the catalogue's names (`grounding.name_keys`). Of a sensitive item nothing is sent,
    nor of one that only the customer's own words speak for.
    """
    plain = evidence.sentence
    if model is None:
        return Phrased(plain, PLAIN)
    if evidence.sensitive or evidence.reason_code == STATED:
        return Phrased(plain, PLAIN, "nothing about this item is sent")
    answer = answer_all(model, TASK, [Facts(evidence.title, evidence.texts)])[0]
    if not isinstance(answer.content, Sentence):
        return Phrased(plain, PLAIN, answer.problem)
    said = answer.content.sentence.strip()
    if problems := check(said, evidence.texts, names):
        return Phrased(plain, PLAIN, f"not grounded ({'; '.join(map(str, problems[:3]))})")
    return Phrased(said, CLAUDE)
