"""Batches made ahead of time by background threads.

Threads and not processes: the interpolations and filters of NumPy and SciPy let go of Python's global lock
while they compute, the cases are not copied, and nothing has to be pickled. An item depends on its number
alone, so the number of threads never changes what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2  # items per thread that are ready or in work before they are asked for


class Loader(Generic[T]):
    """Yields make(first), make(first + 1), ... in this order, without end.

        with Loader(sampler.batch, first=1, workers=2) as batches:
            for images, labels in batches:

    With 0 workers an item is made when it is asked for. An error inside `make` is raised where the item is
    asked for. Leaving the block drops what is waiting and waits for the items in work, also after Ctrl-C.
    """

    def __init__(self, make: Callable[[int], T], first: int, workers: int):
        if workers < 0:
            raise ValueError(f"Loader: workers must not be negative, got {workers}")
        self.make, self.first, self.workers = make, first, workers

    def __enter__(self) -> Iterator[T]:
        self.pool = ThreadPoolExecutor(self.workers, "loader") if self.workers else None
        return self._items(self.pool) if self.pool else map(self.make, count(self.first))

    def __exit__(self, *exception: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def _items(self, pool: ThreadPoolExecutor) -> Iterator[T]:
        waiting: deque[Future[T]] = deque()
        for number in count(self.first):
            waiting.append(pool.submit(self.make, number))
            if len(waiting) > AHEAD * self.workers:
                yield waiting.popleft().result()
