"""Optimiser updates in one visit to memory, on the CPU: the clear formulas, block by block.

A parameter, its gradient and its state are cut into blocks. All steps of the formula run over a block while
it is in the cache, with scratch arrays of its size and none of the parameter's; the blocks are spread over
the threads. To put all parameters one after another into a single buffer gained nothing on top of that.
"""

from __future__ import annotations

from minidl.kernels import reference
from minidl.kernels.threads import parallel

BLOCK = 1 << 16  # elements; with shorter blocks the threads wait for Python's lock between NumPy's calls


def _in_blocks(step):
    """The step over whole arrays as one over blocks: each element moves by itself."""

    def run(updates):
        tasks = []
        for arrays, options in updates:
            if all(a.flags.c_contiguous for a in arrays):
                flat = [a.reshape(-1) for a in arrays]
                starts = range(0, flat[0].size, BLOCK)
                tasks += [([a[i : i + BLOCK] for a in flat], options) for i in starts]
            else:
                tasks.append((arrays, options))
        parallel(lambda task: step([task]), tasks)

    return run


sgd, adam = _in_blocks(reference.sgd), _in_blocks(reference.adam)
