"""Numerical libraries on one thread, so that equal inputs give equal bits.

A product over two threads adds in another order. How many threads BLAS uses is one number for the
whole process, and threadpoolctl lets one thread of ours set it: while that lives, others ask in
vain, and what it puts back is put back under everybody. So whoever starts threads that compute
enters `one_thread` first and leaves it last.

Belongs here: holding that number. Does not belong here: threads of our own (`cutoffs.by_cutoff`).
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP on one thread; in threads started meanwhile BLAS is, whatever they ask."""
    import scipy.linalg  # noqa: F401  # its BLAS is another than numpy's; only what is loaded is held
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
