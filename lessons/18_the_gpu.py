# %% [markdown]
# # 18 · The GPU: many threads, little memory close by
#
# **At the end you own this sentence:** a GPU runs one small program for every output at once; what it waits for is memory,
# so fast code loads a number once, shares it, and leaves the rest to the device without asking how it goes.
#
# *Needs:* lesson 04 (convolution in 2-D and 3-D). *Takes:* 40 minutes. *New:* thread, block, kernel, shared memory,
# barrier, arithmetic intensity, mixed precision. *A GPU is not needed:* a toy of thirty lines runs the kernels here.

# %%
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.kernels
import minidl.nn.functional as F
from minidl import check, notebook, optim
from minidl.models import UNet

notebook.style()
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"


def show_tile(axis, tile: int, size: int = 16, reach: int = 1) -> None:
    """An image cut into tiles, one of them with the pixels that its block has to load."""
    loaded = np.zeros((size, size))
    loaded[tile - reach : 2 * tile + reach, tile - reach : 2 * tile + reach] = 1
    loaded[tile : 2 * tile, tile : 2 * tile] = 2
    axis.imshow(loaded, cmap="Blues", vmax=3)
    for line in np.arange(0, size + 1, tile) - 0.5:
        axis.axhline(line, color="#888888", lw=1)
        axis.axvline(line, color="#888888", lw=1)
    loads, outputs = (tile + 2 * reach) ** 2, tile**2
    axis.set(title=f"outputs: {outputs}, loads: {loads},\n{loads / outputs:.2f} each", xticks=[], yticks=[])


figure, axes = plt.subplots(1, 3, figsize=(9, 3.5))
for axis, tile in zip(axes, (1, 2, 4)):
    show_tile(axis, tile)

# %% [markdown]
# A 3x3 convolution: the dark pixels are computed by one *block* of threads, from all the blue ones. A block of one thread
# loads nine pixels for one output. A block of 16 threads that share what they load needs 2.25 for each. Nothing else in this
# lesson matters as much.
#
# ## A toy GPU
#
# A **kernel** is the program of one **thread**. Threads come in **blocks** of equal size. All run the same program; each
# knows its number and the number of its block. The threads of a block have a little **shared memory**, and can wait for each
# other at a **barrier**. Blocks know nothing of each other. That is the whole model, and here it is: a thread is a Python
# generator, `yield` is the barrier, and the order in which threads get their turn is not promised.

# %%
ORDERS = {
    "forward": lambda n: np.arange(n),
    "backward": lambda n: np.arange(n)[::-1],
    "scrambled": lambda n: np.random.default_rng(0).permutation(n),
}


class Memory:
    """Global memory: large, far away, and it counts what is loaded from it."""

    def __init__(self, values):
        self.values, self.loads = np.array(values, float), 0

    def __getitem__(self, place):
        self.loads += 1
        return self.values[place]

    def __setitem__(self, place, value):
        self.values[place] = value


def launch(kernel, blocks: int, threads: int, *memories, shared: int = 0, order: str = "forward") -> None:
    """Run kernel(block, thread, shared memory, *memories) for every thread of every block."""
    for block in range(blocks):
        scratch = np.full(shared, np.nan)  # nobody has written anything there yet
        begun = [kernel(block, int(t), scratch, *memories) for t in ORDERS[order](threads)]
        running = [thread for thread in begun if thread is not None]  # without a `yield` they have ended
        while running:
            arrived = [thread for thread in running if next(thread, "ended") != "ended"]
            if 0 < len(arrived) < len(running):
                raise RuntimeError(
                    f"block {block}: {len(arrived)} of {len(running)} threads reach the barrier"
                )
            running = arrived


# %% [markdown]
# ### A first kernel
#
# Add two vectors of ten numbers, with four threads a block. **Predict:** how many blocks are needed, how many threads have
# nothing to do, and what would they do without the `if`?

# %%
THREADS = 4


def add(block, thread, _, out, a, b):
    """out = a + b: one element a thread."""
    i = block * THREADS + thread
    if i < 10:
        out[i] = a[i] + b[i]


a, b, out = Memory(np.arange(10)), Memory(10 * np.arange(10)), Memory(np.zeros(10))
blocks = -(-10 // THREADS)  # rounded up
launch(add, blocks, THREADS, out, a, b)
print(f"{blocks} blocks, {blocks * THREADS - 10} idle threads:", out.values.tolist())
assert blocks == 3 and out.values.tolist() == (11 * np.arange(10)).tolist()

# %% [markdown]
# Three blocks, two idle threads. Without the `if` those two would read and write past the end. NumPy raises an error there. A
# GPU may well change somebody else's numbers and say nothing.
#
# ## The convolution, one thread for each output
#
# Lesson 03's signal and kernel, zeros beyond the ends. **Predict** the number of loads for all seven outputs: each wants
# three samples and three weights.


# %%
def conv_plain(block, thread, _, y, w, x):
    """y[q] = Σ_k w[k] x[q + k - 1]."""
    q, total = block * THREADS + thread, 0.0
    if q < len(y.values):
        for k in range(3):
            if 0 <= q + k - 1 < len(x.values):
                total += w[k] * x[q + k - 1]
        y[q] = total


signal, weights = [1, 3, 2, 1, 0, 0, 1], [-1, 2, 1]
x, w, y = Memory(signal), Memory(weights), Memory(np.zeros(7))
launch(conv_plain, 2, THREADS, y, w, x)
print(y.values.tolist(), " loads of samples:", x.loads, " of weights:", w.loads)
assert y.values.tolist() == [5, 7, 2, 0, -1, 1, 2] and x.loads == w.loads == 3 * 7 - 2

# %% [markdown]
# Nineteen of each: three per output, and two fewer as the ends have no neighbour. minidl's own plain kernel, in CUDA C, is
# the same program with three axes, channels and a batch:

# %%
source = (Path(minidl.kernels.__file__).parent / "conv.cu").read_text(encoding="utf-8")
start = source.index('extern "C" __global__ void conv_plain')
print(source[start : source.index("\n}", start) + 2])

# %% [markdown]
# ## Shared memory: load once, use three times
#
# Neighbouring outputs want the same samples. So let each thread of a block load *one* sample into shared memory, the last
# one two more for the border, wait until all have done so, and compute from there. **Predict:** how many loads of samples for
# 64 outputs in blocks of 16? And in one block of 64?


# %%
def tiled(threads: int):
    """The kernel conv_tiled for blocks of so many threads."""

    def conv_tiled(block, thread, shared, y, w, x):
        q = block * threads + thread
        mine = [thread] if thread < threads - 1 else [thread, thread + 1, thread + 2]
        for s in mine:  # shared[s] is x[first - 1 + s]
            place = block * threads + s - 1
            shared[s] = x[place] if 0 <= place < len(x.values) else 0.0
        yield  # the barrier: nobody reads before all have written
        y[q] = sum(w[k] * shared[thread + k] for k in range(3))

    return conv_tiled


long = np.random.default_rng(0).normal(size=64)
expected = np.convolve(np.pad(long, 1), weights[::-1], mode="valid")
for threads in (4, 16, 64):
    x, w, y = Memory(long), Memory(weights), Memory(np.zeros(64))
    launch(tiled(threads), 64 // threads, threads, y, w, x, shared=threads + 2)
    print(f"blocks of {threads:2}: {x.loads / 64:.2f} loads of samples for each output")
    assert np.allclose(y.values, expected) and x.loads == (64 // threads) * (threads + 2) - 2

# %% [markdown]
# $(T + 2)/T$ instead of 3 (and two fewer at the ends). In two dimensions it is $(T + k - 1)^2/T^2$ instead of $k^2$. Move the
# size of the tile:


# %%
def show_loads(tile: int) -> None:
    """Loads of pixels for each output, for three sizes of the convolution's kernel."""
    tiles = np.arange(1, 33)
    plt.figure(figsize=(6.2, 3.3))
    for k, color in ((3, BLUE), (5, ORANGE), (7, GREEN)):
        loads = ((tiles + k - 1) / tiles) ** 2
        plt.semilogy(tiles, loads, color=color, label=f"{k}x{k}: {loads[tile - 1]:.2f}")
        plt.plot(tile, loads[tile - 1], "o", color=color)
    plt.xlabel("side of the tile (pixels)")
    plt.ylabel("loads for each output")
    plt.yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    plt.minorticks_off()
    plt.legend(title=f"tile of {tile}x{tile}")


notebook.explore(show_loads, tile=(8, 1, 32))
assert all(f"#define {tile}\n" in source for tile in ("BM 128", "BN 128", "TM 8", "TN 8"))

# %% [markdown]
# Shared memory is small (tens of KiB a block), so tiles cannot grow without end. With channels the same idea is a product
# of matrices: a tile of the weights times a tile of the pixels, each element used as often as the *other* tile is wide.
# minidl's `conv.cu` does that for 128 x 128 outputs a block: 16 loads from shared memory for 64 multiplications and
# additions.
#
# ## The missing barrier
#
# Take out the `yield`. **Predict:** in which order of the threads does the result come out right by accident?


# %%
def without_barrier(block, thread, shared, y, w, x):
    """conv_tiled for 16 threads with its barrier taken out."""
    for _ in tiled(16)(block, thread, shared, y, w, x):
        pass  # the thread runs on, and does not wait


right = {}
for order in ORDERS:
    x, w, y = Memory(long), Memory(weights), Memory(np.zeros(64))
    launch(without_barrier, 4, 16, y, w, x, shared=18, order=order)
    right[order] = int(np.isclose(y.values, expected).sum())
    print(f"{order:10} {right[order]:2} of 64 outputs are right")
assert right["backward"] == 64 and right["forward"] == 4 and 4 <= right["scrambled"] < 64

# %% [markdown]
# Backward every output is right, since each thread finds what the threads after it have written. Forward only the last
# thread of each block finds all it needs. On a real GPU 32 threads run nearly in step, so such a kernel may be right
# for years. This is why minidl's kernels are tested on a simulator as well: it runs their C text on the CPU, in these three
# orders.
#
# ## Memory or arithmetic?
#
# A device has two speeds: how many operations a second, and how many bytes a second. Which one limits? Count the
# **arithmetic intensity** of a task, operations for each byte moved. **Predict** it for a ReLU in float32: one operation,
# four bytes in, four bytes out. And for a 3x3 convolution with $C$ channels in and out, if every number were loaded once?

# %%
intensity = {"ReLU": 1 / 8}
for channels in (1, 16, 64):
    operations, bytes_moved = 2 * 9 * channels**2, 4 * 2 * channels  # for each pixel, weights left out
    intensity[f"convolution, {channels} channel{'s' * (channels > 1)}"] = operations / bytes_moved
print({name: round(value, 3) for name, value in intensity.items()})
assert intensity["convolution, 64 channels"] == 9 / 4 * 64 == 144

# %% [markdown]
# Now this computer, measured: a product of matrices for the operations, a copy for the bytes. Beside it two cards by their
# data sheets, float32 on the ordinary units: NVIDIA T4 (8.1 TFLOP/s, 320 GB/s) and H100 SXM (67 TFLOP/s, 3.35 TB/s).


# %%
def best_seconds(run, times: int = 5) -> float:
    """The fastest of some runs."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


n = 512 if notebook.FAST else 1024
square, buffer = np.ones((n, n), np.float32), np.ones(1 << 24, np.float32)
target = np.empty_like(buffer)
flops = 2 * n**3 / best_seconds(lambda: square @ square)
speed = 2 * buffer.nbytes / best_seconds(lambda: np.copyto(target, buffer))
devices = {"this computer": (flops, speed), "T4": (8.1e12, 320e9), "H100": (67e12, 3.35e12)}

plt.figure(figsize=(7.5, 4))
at = np.logspace(-1.3, 3, 200)
for (name, (peak, bandwidth)), color in zip(devices.items(), (BLUE, ORANGE, GREEN)):
    plt.loglog(at, np.minimum(peak, at * bandwidth) / 1e9, color=color, label=name)
    print(
        f"{name:14} {peak / 1e9:9,.0f} GFLOP/s, {bandwidth / 1e9:6,.0f} GB/s: they meet at {peak / bandwidth:.0f}"
    )
for name, value in intensity.items():
    plt.axvline(value, color="#999999", lw=1, ls=":")
    plt.text(value, 4e5, name.replace("convolution, ", "conv, "), rotation=25, fontsize=10)
plt.xlabel("arithmetic intensity (operations per byte)")
plt.ylabel("at most (GFLOP/s)")
plt.ylim(0.05, 3e5)
plt.legend(loc="lower right")
assert devices["H100"][0] / devices["H100"][1] * 8 == 160 and flops / speed > 0.5

# %% [markdown]
# This is the **roofline**: on the slope memory limits, on the flat part arithmetic. A ReLU is far down the slope everywhere:
# the H100 could do 160 operations on each number while it waits for it. So pointwise ops should be **fused**, done while
# the numbers are at hand; on the CPU minidl's norm and leaky ReLU are one pass, forward and backward. A convolution with
# many channels can reach the flat part, but only with tiles: without them its 9 loads for each output put it back on the
# slope.
#
# ## Neighbours should read neighbours
#
# Memory comes in pieces of 32 bytes, eight floats, and 32 threads (a **warp**) ask together. **Predict** the pieces for
# 32 floats side by side; for every second one; for every eighth; for every hundredth.


# %%
def pieces(places) -> int:
    """The 32-byte pieces in which these floats lie."""
    return len({4 * int(place) // 32 for place in places})


for stride in (1, 2, 8, 100):
    print(f"every {stride:3}. float: {pieces(stride * np.arange(32)):2} pieces of 32 bytes")
assert [pieces(s * np.arange(32)) for s in (1, 2, 8, 100)] == [4, 8, 32, 32]

# %% [markdown]
# With a stride of eight, seven eighths of what comes are thrown away. In an array (N, C, H, W) neighbouring *pixels*
# are neighbours in memory, neighbouring *channels* are H·W floats apart. So threads are numbered along the pixels.
#
# ## Do not ask how it goes
#
# The CPU does not wait for a kernel. It puts it in a queue, which takes some microseconds, and goes on. It only waits when it
# wants to *see* a number: `float(loss)`, `print(loss)`, `if loss < best`. Say a launch takes 5 µs. **Predict** the time of
# 20 kernels of 20 µs, asked for the loss after each, and not at all. And of 20 kernels of 2 µs?


# %%
def total_time(kernels: int, work: float, launch_cost: float = 5.0, ask: bool = False) -> float:
    """Microseconds until the last kernel has ended."""
    cpu = gpu = 0.0
    for _ in range(kernels):
        cpu += launch_cost
        gpu = max(gpu, cpu) + work  # it begins when it was launched and the one before has ended
        if ask:
            cpu = gpu
    return gpu


for work in (20, 2):
    quiet, nosy = total_time(20, work), total_time(20, work, ask=True)
    print(f"kernels of {work:2} µs: {quiet:.0f} µs, if the CPU asks after each {nosy:.0f} µs")
assert total_time(20, 20) == 405 and total_time(20, 20, ask=True) == 500 and total_time(20, 2) == 102

# %% [markdown]
# Two lessons. Asking costs nearly a quarter here; on a GPU minidl's trainer asks only now and then whether the
# losses are still numbers, and not after each kernel. And small kernels are limited by the launches: 102 µs for 40 µs of
# work. That is why a GPU does not help with tiny networks, and why there are optimisers that update all parameters in one kernel.
#
# ## Half the bytes
#
# float16 halves the bytes, and its own units multiply many times faster. But it has 11 bits of precision, and ends at
# 65504 and at 6e-8. **Predict:** what is 2048 + 1 in float16? And a gradient of 1e-8?

# %%
half = np.float16
with np.errstate(over="ignore"):
    sum_, small, large = float(half(2048) + half(1)), float(half(1e-8)), float(half(7e4))
print("2048 + 1 =", sum_, "  1e-8 =", small, "  70000 =", large)
assert (sum_, small, large) == (2048, 0, np.inf)
assert np.finfo(half).max == 65504 and f"{np.finfo(half).smallest_subnormal:.0e}" == "6e-08"
scale = 2.0**16
print("times the scale, and back in float32:", np.float32(half(1e-8 * scale)) / np.float32(scale))
assert np.isclose(np.float32(half(1e-8 * scale)) / scale, 1e-8, rtol=1e-3)

# %% [markdown]
# So sums are taken in float32, and the *loss is scaled*: times 65536 before backward, the gradients divided by it after. If
# something overflows, the step is left out and the scale halved. `minidl.autocast` and `minidl.amp.GradScaler` do that, with
# PyTorch's names.
#
# **Predict:** add the same million float32 numbers in ten orders. How many different sums?

# %%
values = np.random.default_rng(0).normal(size=1 << 20).astype(np.float32)
one_by_one = lambda v: float(np.cumsum(v, dtype=np.float32)[-1])
shuffled = {one_by_one(np.random.default_rng(seed).permutation(values)) for seed in range(10)}
in_pairs = {float(values.sum()) for _ in range(10)}
print(
    f"{len(shuffled)} different sums, {max(shuffled) - min(shuffled):.2g} apart; always in the same pairs: {len(in_pairs)}"
)
assert len(shuffled) > 5 and len(in_pairs) == 1

# %% [markdown]
# Threads that add to one place as they come (*atomics*) add in another order in each run. The same training then ends with
# other weights. minidl's kernels add in a fixed order: a tree within a block, then block after block. It costs little, and
# a run can be repeated to the last bit.
#
# ## The same code
#
# Here is a training step. It has one word more than in lesson 13: where.

# %%
device = "cuda" if minidl.cuda.is_available() else "cpu"
minidl.manual_seed(0)
net = UNet(1, 2, (8, 16)).to(device)
optimizer = optim.Adam(net.parameters(), lr=1e-2)
rng = np.random.default_rng(0)
labels = (np.add.outer(np.arange(32), np.arange(32)) % 16 < 8).astype(np.int64)[None].repeat(2, 0)
images = (labels[:, None] + rng.normal(0, 0.5, (2, 1, 32, 32))).astype(np.float32)
images, labels = minidl.tensor(images, device=device), minidl.tensor(labels, device=device)
losses = []
for _ in range(20):
    loss = F.dice_ce_loss(net(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.detach())  # not float(loss): that would wait
print(f"on {device}: loss {losses[0].item():.2f} to {losses[-1].item():.2f}")
assert losses[-1].item() < 0.7 * losses[0].item()

# %% [markdown]
# On the GPU every operation finds CuPy arrays instead of NumPy's, and calls CuPy's functions, which have NumPy's names; the
# convolutions are minidl's own kernels. `minidl devices` says what is there, and if nothing, why.
#
# With a card, your first kernel runs on it. Without one, the next cell says so:

# %%
CUDA = r"""
extern "C" __global__ void add(float *out, const float *a, const float *b, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}
"""
if device == "cuda":
    import cupy

    a, b = cupy.arange(10, dtype=np.float32), 10 * cupy.arange(10, dtype=np.float32)
    out = cupy.empty_like(a)
    cupy.RawKernel(CUDA, "add")((3,), (4,), (out, a, b, np.int32(10)))
    assert out.get().tolist() == (11 * np.arange(10)).tolist()
    print("compiled, and run by 12 threads:", out)
else:
    print("no CUDA device here: the toy has run it above, line by line the same")

# %% [markdown]
# ## Exercises
#
# **1. Turn round.** Four threads a block shall turn the block's numbers round, through shared memory: out of
# `[1, 2, 3, 4, 5, 6, 7, 8]` make `[4, 3, 2, 1, 8, 7, 6, 5]`. The stub is right in *one* order of the threads.


# %% tags=["exercise"]
def turn(block, thread, shared, out, x):
    """Mend this kernel."""
    shared[thread] = x[4 * block + thread]
    out[4 * block + thread] = shared[3 - thread]


# %% [markdown]
# <details><summary>Hint</summary>
#
# Thread 0 wants what thread 3 loads. When is it sure to be there?
#
# </details>


# %% tags=["solution"]
def turn(block, thread, shared, out, x):
    """Load, wait for all, store."""
    shared[thread] = x[4 * block + thread]
    yield
    out[4 * block + thread] = shared[3 - thread]


# %%
def turned(order: str) -> np.ndarray:
    """What `turn` makes of 1 to 8 if the threads run in this order."""
    out, x = Memory(np.zeros(8)), Memory(np.arange(1, 9))
    launch(turn, 2, 4, out, x, shared=4, order=order)
    return out.values


check.value(
    "turn, in three orders", lambda: [turned(order) for order in ORDERS], [[4, 3, 2, 1, 8, 7, 6, 5]] * 3
)

# %% [markdown]
# **2. The sum of a block.** Eight threads, eight numbers. Write the kernel that leaves their sum in `out[block]` after three
# rounds: in the first, threads 0 to 3 add what lies 4 further on; then 0 and 1 add what lies 2 further on; then 0.


# %% tags=["exercise"]
def block_sum(block, thread, shared, out, x):
    """Replace this body."""
    shared[thread] = x[8 * block + thread]
    yield
    if thread == 0:
        out[block] = shared[0]


# %% [markdown]
# <details><summary>Hint</summary>
#
# `for half in (4, 2, 1):` only threads below `half` add, but *all* threads must reach the `yield` after it. Load one number
# a thread: the check counts.
#
# </details>


# %% tags=["solution"]
def block_sum(block, thread, shared, out, x):
    """A tree: 8 numbers, 4 sums, 2 sums, 1."""
    shared[thread] = x[8 * block + thread]
    yield
    for half in (4, 2, 1):
        if thread < half:
            shared[thread] += shared[thread + half]
        yield
    if thread == 0:
        out[block] = shared[0]


# %%
numbers = np.random.default_rng(1).integers(0, 100, 24).astype(float)


def summed(order: str) -> list:
    """The sums of three blocks if the threads run in this order, and the loads."""
    out, x = Memory(np.zeros(3)), Memory(numbers)
    launch(block_sum, 3, 8, out, x, shared=8, order=order)
    return [*out.values, x.loads]


check.value(
    "sums and loads, in three orders",
    lambda: [summed(order) for order in ORDERS],
    [[*numbers.reshape(3, 8).sum(axis=1), 24]] * 3,
)

# %% [markdown]
# **3. Wasted bytes.** Thread $t$ of a warp of 32 reads the float at $s\,t$. Write `wasted(s)`: the share of the loaded bytes
# that nobody asked for. (The first float begins a piece of 32 bytes.)


# %% tags=["exercise"]
def wasted(s):
    """Replace the next line."""
    return -1.0


# %% [markdown]
# <details><summary>Hint</summary>
#
# 128 bytes are wanted. `pieces` above counts what comes, in 32 bytes. (For $s = 0$ all threads want the same four bytes.)
#
# </details>


# %% tags=["solution"]
def wasted(s):
    """1 - wanted / loaded."""
    places = s * np.arange(32)
    return 1 - 4 * len(set(places.tolist())) / (32 * pieces(places))


# %%
reference_wasted = lambda s: 7 / 8 if s in (0, 8) or s > 8 else 1 - 1 / s
check.function("wasted", wasted, reference_wasted, (0,), (1,), (2,), (4,), (8,), (100,))

# %% [markdown]
# ## What you can now explain
#
# - kernel, thread, block, shared memory, barrier, and what a missing barrier does;
# - why a tile of side $T$ needs $(T + k - 1)^2/T^2$ loads for each output instead of $k^2$;
# - the roofline: which ops wait for memory, and why they are fused;
# - why threads are numbered along the pixels; what a hidden synchronisation is, and how seldom a training needs one;
# - what float16 cannot hold, and how loss scaling and sums in float32 repair it;
# - why sums in a fixed order make a training repeatable.
#
# **Where this stands.** S. Williams, A. Waterman and D. Patterson, *Roofline: an insightful visual performance model for
# multicore architectures*, Communications of the ACM 52 (2009); P. Micikevicius et al., *Mixed precision training*, ICLR
# (2018), arXiv:1710.03740; S. Chetlur et al., *cuDNN: efficient primitives for deep learning*, arXiv:1410.0759 (2014), the
# tiled convolution as a product that is never stored; R. Okuta et al., *CuPy: a NumPy-compatible library for NVIDIA GPU
# calculations*, LearningSys (2017). The cards' numbers are from NVIDIA's data sheets of the T4 (2019) and the H100 (2023).
