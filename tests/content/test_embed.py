"""A text's vector does not depend on the texts around it."""

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


def test_like_texts_are_closer_than_unlike_ones(encoder: object) -> None:
    sauce, paste, bleach = embed(encoder, ["tomato sauce", "tomato paste", "laundry bleach"])
    assert sauce @ paste > sauce @ bleach
