"""Numerical libraries on one thread, so that equal inputs give equal bits.

A product over two threads adds in another order. How many threads BLAS uses is one number for the
whole process, and threadpoolctl lets one thread of ours set it: while that lives, others ask in
vain, and what it puts back is put back under everybody. So whoever starts threads that compute
enters `one_thread` first and leaves it last.

Belongs here: holding that number, and doing several pieces of work side by side under it. Does not
belong here: what a piece of work is.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP on one thread; in threads started meanwhile BLAS is, whatever they ask."""
    import scipy.linalg  # noqa: F401  # its BLAS is another than numpy's; only what is loaded is held
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def side_by_side(
    jobs: Iterable[Job], compute: Callable[[Job], Result], *, workers: int = 2
) -> Iterator[Result]:
    """compute(job) of every job, in the order of `jobs`, at most `workers` in the making.

    Results do not depend on `workers`: each is computed alone, its numerics on one thread. A job is
    drawn when a worker is free for it.
    """
    queue = iter(jobs)
    waiting: deque[Future[Result]] = deque()
    with one_thread(), ThreadPoolExecutor(workers) as pool:

        def start() -> None:
            for job in queue:
                waiting.append(pool.submit(compute, job))
                return

        for _ in range(workers):
            start()
        while waiting:
            result = waiting.popleft().result()
            start()  # before the caller stores this one, so that no worker waits for the disk
            yield result
            del result
