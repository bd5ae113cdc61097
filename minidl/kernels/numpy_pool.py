"""Work on planes, on the CPU: pooling and gathering treat each (n, c) plane of (N, C, ...) by itself."""

from __future__ import annotations

from minidl.kernels.threads import parallel

BLOCK = 1 << 19  # bytes of the first array that one task takes: with what it makes of them they fit the cache


def over_planes(function, out, *arrays):
    """Write function(*arrays) into `out`, all (N, C, ...), in blocks of planes on the threads.

    Of the arrays, but not of `out`, some may be (N, 1, ...): they serve all channels.
    """
    samples, channels = out.shape[:2]
    at_once = max(1, BLOCK * samples * channels // max(1, arrays[0].nbytes))
    n_step, c_step = max(1, at_once // max(1, channels)), max(1, min(at_once, channels))

    def run(start):
        n, c = (slice(first, first + step) for first, step in zip(start, (n_step, c_step)))
        out[n, c] = function(*(a[n, c] if a.shape[1] == channels else a[n] for a in arrays))

    parallel(run, [(n, c) for n in range(0, samples, n_step) for c in range(0, channels, c_step)])
    return out


def overwrite(y, places, x):
    """y[places] = x for vectors; of several values for one place the last stays: NumPy goes in order."""
    y[places] = x
