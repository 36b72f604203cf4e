"""Putting the head of a list, or of search results, in order with the language model.

Belongs here: the task, and the check that an answer is an order of exactly what was sent. Does not
belong here: lists and searches. Off unless asked for: it costs a request a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, Field

from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.request import Choices, Task

HEAD = 20
"""At most so many items from the top are put in order; the rest stays behind them."""


class Order(BaseModel, extra="forbid", strict=True):
    order: list[int] = Field(description="positions of the titles, the best first, each once")


TASK = Task(
    name="reranking",
    version="1",
    instructions=(
        "Put `titles` in the order that serves `purpose` best. Answer with the positions of the "
        "titles as they were given, counted from 1, each exactly once."
    ),
    payload=Choices,
    answer=Order,
    max_tokens=400,
)


@dataclass(frozen=True)
class Reranked:
    """`order` are positions from 0 into what was sent; `problem` says why it is the original."""

    order: tuple[int, ...]
    problem: str = ""


def rerank(
    titles: Sequence[str], purpose: str, model: LanguageModel | None, head: int = HEAD
) -> Reranked:
    """The order of `titles` with their head rearranged; as it was unless the answer is a
    permutation of exactly what was sent.

    Only titles and `purpose` are sent: neither may say anything about a person.
    """
    original = tuple(range(len(titles)))
    n = min(head, len(titles))
    if model is None or n < 2:
        return Reranked(original)
    answer = answer_all(model, TASK, [Choices(purpose, tuple(titles[:n]))])[0]
    if not isinstance(answer.content, Order):
        return Reranked(original, answer.problem)
    if not is_permutation(answer.content.order, n):
        return Reranked(original, "not an order of what was sent")
    return Reranked(tuple(place - 1 for place in answer.content.order) + original[n:])


def rerank_rows(
    rows: pd.DataFrame,
    titles: Sequence[str],
    private: npt.NDArray[np.bool_],
    purpose: str,
    model: LanguageModel | None,
) -> tuple[pd.DataFrame, str]:
    """`rows`, best first, in the model's order; and why it is as it was ('' if it is not).

    `titles` are sent, but not those of `private` rows (sensitive categories), which keep their
    places.
    """
    open_places = np.flatnonzero(~private)
    made = rerank([titles[int(at)] for at in open_places], purpose, model)
    order = np.arange(len(rows))
    order[open_places] = open_places[list(made.order)]
    return rows.iloc[order].reset_index(drop=True), made.problem


def is_permutation(order: Sequence[int], n: int) -> bool:
    """Whether `order` holds each of 1..n exactly once."""
    return sorted(order) == list(range(1, n + 1))
