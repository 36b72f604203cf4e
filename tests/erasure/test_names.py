"""How the id of a user is found in texts, whatever wrote them."""

import html
import json

import pyarrow as pa
import pytest

from recsys_assets.erasure.names import INSTEAD, Names

IDS = ["jürgen.müller@example.de", 'AC"ME-4711', "back\\slash-77", "o'neil&sons-4", "ann-17"]


@pytest.mark.parametrize("user_id", IDS)
@pytest.mark.parametrize(
    "spelt",
    [
        lambda text: text,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(json.dumps(text)),
        html.escape,
    ],
    ids=["as it is", "JSON", "JSON of UTF-8", "JSON in JSON", "HTML"],
)
def test_an_id_is_found_however_a_text_spells_it(user_id: str, spelt) -> None:  # type: ignore[no-untyped-def]
    names, text = Names([user_id]), spelt(f"complaint of:\n{user_id}\nand others")
    assert names.count(text.encode()) == 1
    assert names.replaced(text) == spelt(f"complaint of:\n{INSTEAD}\nand others")
    cells = names.cells(pa.chunked_array([[text, "nobody", None]]), mine=False)
    assert cells.to_pylist() == [True, False, False]


@pytest.mark.parametrize("before", ["客户", "\b", "\f", "\xa0", "é", "\x1f"])
@pytest.mark.parametrize(
    "spelt", [str, json.dumps, repr, lambda text: json.dumps(json.dumps(text))],
    ids=["as it is", "JSON", "Python", "JSON in JSON"],
)  # fmt: skip
@pytest.mark.parametrize("user_id", ["ann-17", "17"])
def test_a_character_that_needs_no_blank_hides_no_id(user_id: str, spelt, before: str) -> None:  # type: ignore[no-untyped-def]
    said = user_id if user_id == "ann-17" else f"user {user_id}"
    names, text = Names([user_id]), spelt(f"{before}{said}下单")
    assert names.count(text.encode()) == 1
    assert names.replaced(text) == spelt(f"{before}{said.replace(user_id, INSTEAD)}下单")


@pytest.mark.parametrize("text", ["joann-17", "ann-170", "ann-17-b", "nann-17", "\\nann-170"])
def test_a_part_of_another_word_is_not_an_id(text: str) -> None:
    assert Names(["ann-17"]).count(text.encode()) == 0


@pytest.mark.parametrize(
    "user_id", ["items", "daily", "Rose", "null", "true", "17", "12.5", "name"]
)
@pytest.mark.parametrize(
    "text",
    [
        '{"job": "daily", "assets": ["items"], "user": null, "reused": true, "who": "daily"}',
        'Rose wine, 17 items of 12.5 g, 2026; {"user": 17, "user_id":12.5, "username": "x"}',
        '{"text": "{\\"user\\": true, \\"user\\": null}"}',
    ],
)
def test_an_id_that_is_an_ordinary_word_is_no_id_elsewhere(user_id: str, text: str) -> None:
    assert Names([user_id]).replaced(text) == text
    assert Names([user_id]).count(text.encode()) == 0


def test_a_long_number_stays_where_it_is_a_value_of_json() -> None:
    text = '{"bytes": 1234567890, "who": "customer 1234567890"}'
    assert (
        Names(["1234567890"]).replaced(text) == '{"bytes": 1234567890, "who": "customer [erased]"}'
    )


@pytest.mark.parametrize("user_id", ["items", "null", "true", "17", "Rose"])
@pytest.mark.parametrize(
    "said", ["user {}.", '"user_id": "{}"', "customer='{}'", '\\"user\\": \\"{}\\"']
)
def test_a_short_id_is_found_where_the_text_says_that_it_is_a_user(user_id: str, said: str) -> None:
    assert Names([user_id]).replaced(said.format(user_id)) == said.format(INSTEAD)
