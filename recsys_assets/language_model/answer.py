"""What came back, read with suspicion: an accepted object, or the one reason it was not accepted.

Belongs here: reading a message of the service against the request it answers. Does not belong
here: whether a term belongs to a shop's vocabulary (the stage that asked knows).

No text of the service ever goes into a problem: problems are the words below.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from recsys_assets.language_model.prices import Usage
from recsys_assets.language_model.request import Request

PROBLEMS: dict[str, str] = {
    "truncated": "the answer reached its length limit",
    "refused": "the model declined to answer",
    "not json": "the answer is not one JSON object",
    "wrong shape": "the answer does not have the schema",
    "wrong id": "the answer is about another item",
    "odd message": "the answer ended in a way that is not known",
    "unreadable": "the service sent something that is not a message",
    "too large": "the answer was larger than any answer can be",
    "expired": "the batch ended before this request was worked on",
    "rejected": "the service rejected the request",
    "not allowed": "the service refused the key",
    "spend limit": "the account's spending limit is reached",
    "over budget": "one of the shop's own caps is reached",
    "deadline": "no answer in time",
    "unavailable": "the service failed, is overloaded, or could not be reached",
    "pending": "the batch is still being worked on",
}
"""Every reason for which there is no answer. The first six were paid for."""

PAID = frozenset(list(PROBLEMS)[:6])


@dataclass(frozen=True)
class Answer:
    """`content` is an instance of the task's schema when `problem` is '', otherwise None.

    `paid` is whether asking again would cost the same money for the same question.
    """

    content: BaseModel | None
    problem: str = ""

    def __post_init__(self) -> None:
        if (self.content is None) != (self.problem in PROBLEMS):
            raise ValueError(f"an answer has content or a known problem, not {self.problem!r}")

    @property
    def paid(self) -> bool:
        return not self.problem or self.problem in PAID


def no_answer(problem: str) -> Answer:
    return Answer(None, problem)


def read_message(request: Request, message: object) -> tuple[Answer, Usage | None]:
    """The answer in a `message` object of the service, and the usage it reports (None: none).

    Checked in this order: is it a message, is its usage plausible, did it end by itself, is its
    text one JSON object, does it repeat the request's id, does it have the schema.
    """
    usage = read_usage(message)
    if usage is None or not isinstance(message, Mapping):
        return no_answer("unreadable"), None
    match message.get("stop_reason"):
        case "max_tokens" | "model_context_window_exceeded":
            return no_answer("truncated"), usage
        case "refusal":
            return no_answer("refused"), usage
        case "end_turn":
            pass
        case _:
            return no_answer("odd message"), usage
    blocks = message.get("content")
    if not isinstance(blocks, list):
        return no_answer("odd message"), usage
    text = "".join(
        str(b.get("text", "")) for b in blocks if isinstance(b, Mapping) and b.get("type") == "text"
    )
    return read_content(request, text), usage


def read_content(request: Request, text: str) -> Answer:
    """The answer in the text of a message."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return no_answer("not json")
    if not isinstance(found, dict):
        return no_answer("not json")
    if found.pop("id", None) != request.reference:
        return no_answer("wrong id")
    try:
        return Answer(request.task.answer.model_validate(found))
    except ValidationError:
        return no_answer("wrong shape")


def read_usage(message: object) -> Usage | None:
    """The tokens a message says it used; None when it is no message or they are implausible."""
    if not isinstance(message, Mapping) or message.get("type") != "message":
        return None
    found = message.get("usage")
    if not isinstance(found, Mapping):
        return None
    values = [found.get(name) or 0 for name in _TOKENS]
    if any(type(v) is not int or not 0 <= v < 10**8 for v in values):
        return None
    return Usage(*values)


_TOKENS = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
)  # fmt: skip
