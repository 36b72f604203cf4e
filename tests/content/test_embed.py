"""A text's vector does not depend on the texts around it."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys_assets.content.embed import bundled_model, embed, load_encoder

TEXTS = [
    "GROCERY > PASTA SAUCE | National | 24 OZ",
    "milk",
    "frozen pizza, traditional, with a very long description " * 3,
    "SOFT DRINKS 12/18&15PK CAN CAR",
]


@pytest.fixture(scope="module")
def encoder() -> object:
    return load_encoder(None)


def test_the_model_comes_with_the_installation() -> None:
    assert (bundled_model() / "model.safetensors").is_file()


def test_vectors_have_unit_length_and_do_not_depend_on_company(encoder: object) -> None:
    together = embed(encoder, TEXTS)
    alone = np.vstack([embed(encoder, [text]) for text in TEXTS])
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert together.tobytes() == alone.tobytes()


def test_order_of_texts_is_the_order_of_vectors(encoder: object) -> None:
    assert np.array_equal(embed(encoder, TEXTS[::-1]), embed(encoder, TEXTS)[::-1])


def test_no_two_threads_are_in_the_tokenizer_at_once(encoder: Any) -> None:
    """Else a text is now and then padded, or cut, to the length of another thread's texts."""
    inside = [0]
    seen: list[int] = []

    def tokenizer(*args: object, **kwargs: object) -> object:
        inside[0] += 1
        seen.append(inside[0])
        time.sleep(0.02)
        result = encoder.tokenizer(*args, **kwargs)
        inside[0] -= 1
        return result

    watched = SimpleNamespace(
        tokenizer=tokenizer,
        forward=encoder.forward,
        max_seq_length=encoder.max_seq_length,
        get_embedding_dimension=encoder.get_embedding_dimension,
    )
    assert np.array_equal(embed(watched, TEXTS), embed(encoder, TEXTS))
    assert seen == [1] * len(seen) and len(seen) > 2


def test_like_texts_are_closer_than_unlike_ones(encoder: object) -> None:
    sauce, paste, bleach = embed(encoder, ["tomato sauce", "tomato paste", "laundry bleach"])
    assert sauce @ paste > sauce @ bleach
