# %% [markdown]
# # 02 · Autodiff from scratch
#
# **At the end you own this sentence:** to differentiate any program, record what it did, then walk the record backwards and
# let every operation pass on its share of the gradient.
#
# *Needs:* lesson 01, the chain rule. *Takes:* 35 minutes. *New:* computational graph, backward pass, vector-Jacobian product,
# gradient check.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import check, notebook
from minidl.testing import gradcheck

notebook.style()


def draw_graph(labels, edges, places, axis) -> None:
    """Boxes with a value and a gradient, arrows along which values go forward and gradients backward."""
    look = dict(ha="center", va="center", bbox=dict(boxstyle="round,pad=0.5", fc="#EAF4FB", ec="#0072B2"))
    boxes = {name: axis.text(*places[name], text, **look).get_bbox_patch() for name, text in labels.items()}
    for start, end in edges:
        arrow = dict(arrowstyle="->", patchA=boxes[start], patchB=boxes[end], shrinkA=4, shrinkB=4, lw=1.5)
        axis.annotate("", places[end], places[start], arrowprops=arrow)
    axis.set(xlim=(-0.6, 3.6), ylim=(-0.5, 1.5))
    axis.axis("off")


figure, axis = plt.subplots(figsize=(9, 3))
draw_graph(
    {"a": "a = 2\n∂L/∂a = −3", "b": "b = −3\n∂L/∂b = 3", "c": "c = ab = −6\n∂L/∂c = 1", "L": "L = c + b = −9\n∂L/∂L = 1"},
    [("a", "c"), ("b", "c"), ("c", "L"), ("b", "L")],
    {"a": (0, 1.1), "b": (0, 0), "c": (1.6, 0.8), "L": (3.1, 0.3)}, axis,
)  # fmt: skip

# %% [markdown]
# To train a network we need, for each of its weights, the answer to: *if this number grew a little, how much would the
# loss change?* That is a partial derivative, and there may be thirty million of them (lesson 09).
#
# The picture has two operations. Values flow to the right. Then the derivatives flow to the left, from $\partial
# L/\partial L = 1$: each operation multiplies what arrives at its output by its own derivative, and hands the product to
# its inputs. Where a value was used twice, as $b$ was, what arrives is **added**.
#
# **Predict:** $L = ab + b$ with $a = 2$, $b = -3$. What are $\partial L/\partial a$ and $\partial L/\partial b$?

# %% [markdown]
# ## The engine, in sixty lines
#
# A `Value` is an array that remembers how it was made: its *parents*, and for each parent a function that turns the
# gradient of the output into its share, the **vector-Jacobian product** (vjp).


# %%
class Value:
    """An array, and how it came about: pairs (parent, vjp)."""

    def __init__(self, array, parents=()):
        self.array = np.asarray(array, float)
        self.parents = parents
        self.grad = np.zeros_like(self.array)

    def __add__(self, other):
        other = as_value(other)
        return Value(self.array + other.array, [(self, lambda g: g), (other, lambda g: g)])

    def __mul__(self, other):
        other = as_value(other)
        a, b = self.array, other.array
        return Value(a * b, [(self, lambda g: g * b), (other, lambda g: g * a)])

    def __matmul__(self, other):
        a, b = self.array, other.array
        return Value(a @ b, [(self, lambda g: g @ b.T), (other, lambda g: a.T @ g)])

    def relu(self):
        return Value(np.maximum(self.array, 0), [(self, lambda g: g * (self.array > 0))])

    def sum(self):
        return Value(self.array.sum(), [(self, lambda g: np.broadcast_to(g, self.array.shape))])

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + other * -1


def as_value(x) -> Value:
    """A number or array becomes a Value without parents."""
    return x if isinstance(x, Value) else Value(x)


# %% [markdown]
# No `Value` knows anything about the loss. The walk puts it together: visit every value after all that were made from it,
# and let it hand its gradient on.


# %%
def order(value: Value) -> list[Value]:
    """Everything that `value` was made from, each after its parents."""
    done, result = set(), []

    def visit(v: Value) -> None:
        if id(v) not in done:
            done.add(id(v))
            for parent, _ in v.parents:
                visit(parent)
            result.append(v)

    visit(value)
    return result


def backward(loss: Value) -> None:
    """Fill .grad of everything that the loss was made from."""
    loss.grad = np.ones_like(loss.array)
    for value in reversed(order(loss)):
        for parent, vjp in value.parents:
            parent.grad = parent.grad + vjp(value.grad)


a, b = Value(2), Value(-3)
L = a * b + b
backward(L)
print("L =", L.array, " dL/da =", a.grad, " dL/db =", b.grad)
assert (L.array, a.grad, b.grad) == (-9, -3, 3)

# %% [markdown]
# The same numbers as in the picture. Now something with matrices: one layer of lesson 01, and errors to the fourth power.

# %%
rng = np.random.default_rng(0)
A, x, y = Value(rng.normal(size=(3, 4))), Value(rng.normal(size=(4, 5))), rng.normal(size=(3, 5))
error = (A @ x).relu() - Value(y)
loss = (error * error * error * error).sum()
backward(loss)
print("loss", loss.array.round(4), " gradient of A", A.grad.shape)

# %% [markdown]
# ## Never trust a gradient: check it
#
# A derivative is a limit, so it can be measured: nudge one number by $\pm\varepsilon$ and see what the loss does,
# $\frac{L(x + \varepsilon) - L(x - \varepsilon)}{2\varepsilon}$. That takes two runs per weight; backward takes one for
# all of them. But it is an independent witness.
#
# **Predict:** does a smaller $\varepsilon$ always give a better measurement?


# %%
def total(matrix: np.ndarray) -> float:
    """The loss above as a function of A alone."""
    error = np.maximum(matrix @ x.array, 0) - y
    return (error**4).sum()


def measured(f, at: np.ndarray, epsilon: float) -> np.ndarray:
    """∂f/∂(every element), by central differences."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = epsilon
        gradient[index] = (f(at + step) - f(at - step)) / (2 * epsilon)
    return gradient


steps = 10.0 ** np.arange(-13, -1.5, 0.5)
errors = [abs(measured(total, A.array, e) - A.grad).max() for e in steps]
best = steps[int(np.argmin(errors))]
plt.figure(figsize=(6, 3.2))
plt.loglog(steps, errors, "o-")
plt.xlabel("step ε")
plt.ylabel("largest difference")
plt.title(f"best at ε = {best:.0e}")
assert min(errors) < 1e-6 and 1e-8 < best < 1e-3 and errors[0] > 100 * min(errors)

# %% [markdown]
# To the right the curve of the loss is not straight over so long a step; to the left the subtraction of two nearly equal numbers
# leaves only rounding. In between, measurement and backward agree to many digits. Every operation of minidl is tested
# like this, in float64: `gradcheck` is the same loop.

# %%
leaf = minidl.tensor(A.array, requires_grad=True)
inputs = minidl.tensor(x.array)
the_loss = lambda A: (((A @ inputs).relu() - minidl.tensor(y)) ** 4).sum()
assert gradcheck(the_loss, (leaf,))
the_loss(leaf).backward()
assert np.allclose(leaf.grad.numpy(), A.grad)
print("minidl, the sixty lines and the measurement agree")

# %% [markdown]
# ## What minidl adds
#
# The same idea, with three refinements. You can read it in an evening: `minidl/autograd.py`.
#
# 1. **It keeps only what a vjp asks for.** A sum needs nothing to pass its gradient on; a product needs the other factor.
# 2. **The walk needs no recursion**, so a chain of 100,000 operations is no problem.
# 3. **The vjps are themselves made of operations**, so the walk can be recorded and differentiated again.
#
# **Predict:** $f(x) = x^3$ at $x = 2$: what are $f'$, $f''$ and $f'''$?

# %%
point = minidl.tensor(2.0, requires_grad=True)
value, found = point * point * point, []
for _ in range(3):
    (value,) = minidl.autograd.grad(value, point, create_graph=True)
    found.append(value.item())
print(found)
assert found == [12, 12, 6]

chain = point
for _ in range(100_000):
    chain = chain + 1
chain.backward()
assert point.grad.item() == 1

# %% [markdown]
# ## It learns
#
# With gradients, learning is: step downhill, again and again. Thirty-two bends (lesson 01), weights drawn at random, and the
# sixty-line engine finds a curve by itself.

# %%
grid = np.linspace(-3, 3, 61)[None]
target = np.sin(2 * grid)
rng = np.random.default_rng(1)
weights = [
    rng.normal(size=(32, 1)),
    rng.normal(size=(32, 1)) * 2,
    rng.normal(size=(1, 32)) / 6,
    np.zeros((1, 1)),
]
ones = np.ones_like(grid)
history, curves = [], {}
for step in range(1001 if notebook.FAST else 5001):
    A1, b1, A2, b2 = values = [Value(w) for w in weights]
    output = A2 @ (A1 @ Value(grid) + b1 @ Value(ones)).relu() + b2 @ Value(ones)
    difference = output - Value(target)
    loss = (difference * difference).sum() * (1 / grid.size)
    backward(loss)
    weights = [w - 0.015 * v.grad for w, v in zip(weights, values)]
    history.append(float(loss.array))
    if step in (0, 100, 1000, 5000):
        curves[step] = output.array[0]
print(f"loss {history[0]:.3f} -> {history[-1]:.4f}")
assert history[-1] < 0.15 * history[0] and (np.diff(history) < 0).all()

figure, axes = plt.subplots(1, 2, figsize=(11, 3.2))
axes[0].plot(grid[0], target[0], color="#BBBBBB", linewidth=6, label="target")
for step, curve in curves.items():
    axes[0].plot(grid[0], curve, label=f"after {step} steps")
axes[0].set(xlabel="x", ylabel="f(x)", ylim=(-1.3, 2.6))
axes[0].legend(fontsize=10, ncols=2, loc="upper center")
axes[1].semilogy(history)
axes[1].set(xlabel="step", ylabel="mean squared error", ylim=(5e-3, 1))
plt.show()

# %% [markdown]
# ## Exercises
#
# **1. A new operation.** Give the engine `tanh`: return the value and its vjp. The derivative of $\tanh x$ is
# $1 - \tanh^2 x$.


# %% tags=["exercise"]
def my_tanh(value: Value) -> Value:
    """Replace the next line."""
    return Value(np.tanh(value.array), [(value, lambda g: g)])


# %% [markdown]
# <details><summary>Hint</summary>
#
# The value is right already; its vjp passes the gradient on unchanged. Compute $\tanh$ once, keep it in a variable, and let the
# lambda use it.
#
# </details>


# %% tags=["solution"]
def my_tanh(value: Value) -> Value:
    """The vjp needs the output only."""
    t = np.tanh(value.array)
    return Value(t, [(value, lambda g: g * (1 - t * t))])


# %%
def gradient_of(operation, array):
    """The gradient of Σ k·operation(x)_k for k = 1, 2, ..., by the engine."""
    leaf = Value(array)
    backward((operation(leaf) * np.arange(1.0, 1 + leaf.array.size)).sum())
    return leaf.grad


samples = np.array([-1.5, -0.2, 0.3, 2.0])
expected = np.arange(1.0, 5) * (1 - np.tanh(samples) ** 2)
check.value("the gradient of tanh", lambda: gradient_of(my_tanh, samples), expected)

# %% [markdown]
# **2. Broadcasting.** `b` has shape (3, 1), `x` has (3, 5). NumPy adds them by repeating `b` along the second axis. What
# must the gradient of `b` be? Write the vjp that brings a gradient of shape (3, 5) back to (3, 1).


# %% tags=["exercise"]
def vjp_of_repeat(g: np.ndarray) -> np.ndarray:
    """Replace the next line."""
    return g[:, :1]


# %% [markdown]
# <details><summary>Hint</summary>
#
# Each number of `b` was used five times. What happens to a value that is used more than once?
#
# </details>


# %% tags=["solution"]
def vjp_of_repeat(g: np.ndarray) -> np.ndarray:
    """Used five times: five gradients arrive, and they add up. The adjoint of repeating is summing."""
    return g.sum(axis=1, keepdims=True)


# %%
g = np.arange(15.0).reshape(3, 5)
b = minidl.tensor(np.zeros((3, 1)), requires_grad=True)
(b + minidl.tensor(g)).backward(minidl.tensor(g))
check.value("the gradient of a repeated value", lambda: vjp_of_repeat(g), b.grad)

# %% [markdown]
# ## What you can now explain
#
# - a computation as a graph, and the backward pass as a walk over it;
# - what a vector-Jacobian product is, and why an operation needs to know nothing but its own;
# - why gradients of a value that is used twice add up, and why the adjoint of repeating is summing;
# - how to check a gradient, and why $\varepsilon$ must not be too small;
# - why backward costs no more than a few forward runs, however many weights there are.
#
# **Where this stands.** S. Linnainmaa's thesis (1970) has the algorithm; D. Rumelhart, G. Hinton and R. Williams, *Learning
# representations by back-propagating errors*, Nature 323 (1986), brought it to neural networks; A. Baydin et al.,
# *Automatic differentiation in machine learning: a survey*, JMLR 18 (2018), is the map of the field.
