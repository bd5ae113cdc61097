"""Work on planes, on the CPU: pooling and gathering treat each (n, c) plane of (N, C, ...) by itself."""

from __future__ import annotations

import math

from minidl.kernels.threads import parallel

BLOCK = 1 << 19  # bytes of the first array that one task takes: with what it makes of them they fit the cache


def over_planes(function, out, *arrays):
    """Write function(*arrays) into `out`, all (N, C, ...), by blocks of planes that are spread over the threads.

    The function sees (planes, 1, ...).
    """
    planes = math.prod(out.shape[:2])
    y, *flat = (a.reshape(planes, 1, *a.shape[2:]) for a in (out, *arrays))
    step = max(1, BLOCK * planes // max(1, arrays[0].nbytes))

    def run(start):
        cut = slice(start, start + step)
        y[cut] = function(*(a[cut] for a in flat))

    parallel(run, range(0, planes, step))
    return out
