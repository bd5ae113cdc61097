"""One pool of threads for all CPU kernels, and BLAS held to one thread inside it.

NumPy and BLAS release Python's global lock while they compute, so plain threads are enough. A kernel
cuts its work into pieces that fit a core's own cache and hands them to `parallel`; letting BLAS split
each product again would only make the threads fight for the same cores.
"""

import math
import os
import threading
from collections import deque
from functools import cache
from pathlib import Path

_threads = None  # number of threads, None until first asked for
_pool = None  # the helpers: one thread fewer, because the caller works too
_region = threading.Lock()  # held by the one call of `parallel` that runs
_local = threading.local()  # .busy: this thread is at work inside `parallel`


def usable_cpus():
    """CPUs this process may use: its affinity mask, cut to the container's quota (cgroup v2, v1)."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((Path("/sys/fs/cgroup") / n).read_text() for n in names).split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # no such file, or the word "max"
            continue
        if quota > 0:  # v1 writes -1 for "no limit"
            cpus = min(cpus, math.ceil(quota / period))
    return max(1, cpus)


def get_num_threads():
    """Threads of the CPU kernels: MINIDL_NUM_THREADS or OMP_NUM_THREADS if set, else usable CPUs."""
    global _threads
    if _threads is None:
        asked = os.environ.get("MINIDL_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
        first = asked.split(",")[0].strip()  # OpenMP allows one number per nesting level: "4,2"
        _threads = int(first) if first.isdigit() and int(first) > 0 else usable_cpus()
    return _threads


def set_num_threads(n):
    """Use `n` threads in the CPU kernels from now on."""
    global _threads, _pool
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: n must be a positive integer, got {n!r}")
    with _region:  # not while the old pool is at work
        if _pool is not None:
            _pool.shutdown()
        _threads, _pool = n, None


def parallel(function, items):
    """`[function(item) for item in items]`, spread over the threads, results in the items' order.

    Whoever is free takes the next item, the caller too. Calls from several threads take turns: side by
    side they would only fight for the cores, and the one that ends first would give BLAS its threads
    back under the other's feet. A call from inside `function` runs on the thread it is made on.
    """
    items = list(items)
    if getattr(_local, "busy", False):
        return [function(item) for item in items]
    results = [None] * len(items)
    waiting = deque(enumerate(items))

    def work():
        _local.busy = True
        try:
            while waiting:
                try:
                    index, item = waiting.popleft()
                except IndexError:  # another thread took the last one
                    break
                results[index] = function(item)
        finally:
            _local.busy = False

    with _region, _blas().limit(limits=1):
        helpers = [_submit(work) for _ in range(min(get_num_threads(), len(items)) - 1)]
        try:
            work()
        finally:
            waiting.clear()  # after an error there is no point in going on
            errors = [helper.exception() for helper in helpers]  # waits for them
        for error in filter(None, errors):
            raise error
    return results


def _submit(work):
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor  # brings logging with it: only when needed

        _pool = ThreadPoolExecutor(max(1, get_num_threads() - 1), thread_name_prefix="minidl")
    return _pool.submit(work)


@cache
def _blas():
    """threadpoolctl's handle on the BLAS libraries: slow to make, so once and when first needed."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _forget_pool():
    """A forked child inherits the pool without its threads, and a lock that may never be released."""
    global _pool, _region
    _pool, _region = None, threading.Lock()
    _local.busy = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
