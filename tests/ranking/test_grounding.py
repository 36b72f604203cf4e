"""A sentence about a recommendation may name and count nothing but what the evidence does."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys_assets.ranking.grounding import GLUE, MAX_LENGTH, Key, check, name_keys
from recsys_assets.ranking.reasons import Wording, all_reasons, write_reasons

CORPUS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "grounding_corpus.yaml").read_text(encoding="utf-8")
)
EVIDENCE = tuple(CORPUS[1]["evidence"])
FALSELY_REFUSED = {
    "You've tried another variant 6 times, so here is Shredded Cheese 8 Oz.",
    "You bought Snack Crackers 8 Oz five times, and households often bought Onions Other together "
    "with them.",
}
FALSELY_ACCEPTED = {
    "You and 312 households bought it.",
    "Some 44 households bought it.",
    "About 44 households bought it.",
    "You bought onions and Snack Crackers together.",
    "You buy Snack Crackers often.",
    "Onions are often bought together.",
    "You buy often in your usual store.",
    "You usually pay its price.",
    "Popular lately, 18 days ago.",
}
"""Ordinary words that blur a true number or join what the evidence says apart: no name, category or
count in them is invented."""


def is_grounded(
    sentence: str, evidence: Sequence[str], names: frozenset[Key] = frozenset()
) -> bool:
    return not check(sentence, evidence, names)


def verdicts(kind: str) -> list[tuple[str, bool]]:
    return [
        (sentence, is_grounded(sentence, case["evidence"], name_keys(case["names"])))
        for case in CORPUS
        for sentence in case[kind]
    ]


def test_the_corpus_is_judged_as_by_hand() -> None:
    accepted, refused = verdicts("ungrounded"), verdicts("grounded")
    assert {s for s, verdict in accepted if verdict} == FALSELY_ACCEPTED
    assert {s for s, verdict in refused if not verdict} == FALSELY_REFUSED
    assert len(accepted) >= 150 and len(refused) >= 60


def test_without_the_catalogue_only_half_names_slip_through() -> None:
    slipped = {s for case in CORPUS for s in case["ungrounded"] if is_grounded(s, case["evidence"])}
    with_names = {s for s, verdict in verdicts("ungrounded") if verdict}
    assert with_names <= slipped
    assert len(slipped - FALSELY_ACCEPTED) <= 12


@settings(max_examples=40, deadline=None)
@given(
    n_taken=st.integers(0, 400),
    gap=st.floats(0.5, 200),
    ago=st.floats(0, 300),
    variant=st.integers(0, 40),
    neighbour=st.sampled_from([None, "Snack Crackers 8 Oz", "2% Milk", "Half & Half 1 Pt", "7-Up"]),
    times=st.integers(3, 90),
    category=st.sampled_from(["", "ONIONS", "SOAP - LIQUID & BAR", "FD WRAPS/BAGS/TRSH BG"]),
    from_category=st.integers(0, 90),
    week=st.integers(0, 3000),
    words=st.sampled_from([Wording(), Wording(past="watched", present="watch", people="viewers")]),
)
def test_every_sentence_of_our_own_is_grounded_in_what_is_true(
    n_taken: int, gap: float, ago: float, variant: int, neighbour: str | None, times: int,
    category: str, from_category: int, week: int, words: Wording,
) -> None:  # fmt: skip
    row = pd.DataFrame(
        {
            "user_id": ["u"], "item_id": ["i"], "category": [category], "sensitive": [False],
            "n_taken": [n_taken], "median_gap_days": [gap], "days_since_last": [ago],
            "variant_n_taken": [variant], "variant_days_since_last": [ago],
            "neighbour_item_id": [None if neighbour is None else "n"],
            "neighbour_title": [neighbour], "neighbour_n_taken": [times],
            "neighbour_support": [9], "category_n_taken": [from_category],
            "category_share": [0.1], "category_days_since_last": [ago], "user_sessions": [100],
            "week_users": [week],
            "week_rank": [1], "category_is_new": [from_category == 0],
            "is_new": [n_taken == 0 and times % 2 == 0],
        }
    )  # fmt: skip
    facts = all_reasons(row, words)["reason"].tolist()
    first = write_reasons(row, words)["reason"][0]
    assert facts == [] or facts[0] == first
    for sentence in facts:
        assert check(f"{sentence}.", facts) == []


@given(
    number=st.integers(0, 10_000), unit=st.sampled_from(["times", "days", "households", "stores"])
)
def test_a_number_the_evidence_does_not_hold_is_refused(number: int, unit: str) -> None:
    known = {(5, "times"), (7, "days"), (44, "households")}
    said = f"Snack Crackers, {number} {unit}."
    refused = any(p.kind == "count" for p in check(said, EVIDENCE))
    assert refused == ((number, unit) not in known)


@settings(deadline=None)
@given(
    word=st.text(st.characters(categories=["Ll", "Lu", "Lo"]), min_size=1, max_size=12),
    place=st.integers(0, 7),
)
def test_any_word_that_is_neither_plain_nor_in_the_evidence_is_refused(
    word: str, place: int
) -> None:
    spoken = " ".join(EVIDENCE).casefold()
    word = unicodedata.normalize("NFKC", word)  # it is read so: "ª" is "a"
    assume(word.casefold() not in GLUE and word.casefold() not in spoken)
    assume(not name_keys([word]) & name_keys([*GLUE, *spoken.split()]))  # "categories", say
    words = ["It", "goes", "well", "with", "other", "things", "you", "take"]
    said = " ".join([*words[:place], word, *words[place:]])
    assert not is_grounded(said, EVIDENCE)


@settings(deadline=None)
@given(name=st.sampled_from(["Sushi", "Red Wine", "EGGS", "Laxatives 20 Ct", "Baby Food"]))
def test_a_name_of_the_catalogue_that_is_not_in_the_evidence_is_refused(name: str) -> None:
    for said in (f"It goes with {name}.", f"{name}: popular this week.", f"You like {name}s."):
        assert not is_grounded(said, EVIDENCE)


@settings(deadline=None)
@given(
    hidden=st.characters(categories=["Cf", "Cc", "Co", "Mn", "No", "Nl"]), place=st.integers(0, 30)
)
def test_characters_that_people_do_not_see_are_refused(hidden: str, place: int) -> None:
    said = "It is popular in your usual store."
    assert is_grounded(said, EVIDENCE)
    assert not is_grounded(said[:place] + hidden + said[place:], EVIDENCE)


@settings(deadline=None)
@given(sentence=st.text(max_size=80))
def test_any_text_gets_a_verdict(sentence: str) -> None:
    problems = check(sentence, EVIDENCE)
    assert problems or sentence.strip()
    assert len(problems) == len(set(problems))


@pytest.mark.parametrize("sentence", ["", "   ", "It fits you. " * 40])
def test_nothing_and_too_much_are_refused(sentence: str) -> None:
    problems = check(sentence, EVIDENCE)
    assert problems and problems[0].kind == "form"
    assert len("It fits you. " * 40) > MAX_LENGTH


def test_half_a_name_is_refused_where_it_is_all_of_another() -> None:
    evidence = ["The item is Chocolate Milk 1 Gal"]
    assert is_grounded("Chocolate fits you.", evidence)
    names = name_keys(["Chocolate", "Chocolate Milk 1 Gal", "Chocolate Milk"])
    assert not is_grounded("Chocolate fits you.", evidence, names)
    assert is_grounded("Chocolate Milk fits you.", evidence, names)


def test_a_bound_may_be_said_as_the_evidence_says_it() -> None:
    evidence = ["You bought this 3 times; last time less than a day ago"]
    assert is_grounded("You bought this 3 times, the last time less than a day ago.", evidence)
    assert not is_grounded("You bought this less than 3 times.", evidence)
    assert not is_grounded("You bought this 3 times, more than a day ago.", evidence)
