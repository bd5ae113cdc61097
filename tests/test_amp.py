"""Mixed precision: which functions cast, how gradients come back, and the scaler's bookkeeping."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.amp import GradScaler
from minidl.autograd import grad
from minidl.dtypes import float16, float32, float64
from minidl.mixed_precision import FLOAT32, HALF, UNSAFE
from minidl.models import UNet
from minidl.nn import functional as F
from minidl.recording import recorded_nodes
from minidl.utils.checkpoint import checkpoint


def draw(*shape, dtype=np.float32, low=-1.0, high=1.0):
    return minidl.tensor(np.random.default_rng(0).uniform(low, high, shape).astype(dtype))


def labels(*shape, classes=3):
    return minidl.tensor(np.random.default_rng(1).integers(0, classes, shape))


# ---- the lists -----------------------------------------------------------------------------------

POSITIVE = dict(low=0.1, high=0.9)
CALLS = {  # name -> a call with inputs of that dtype
    "conv_nd": lambda d: F.conv2d(draw(2, 3, 5, 4, dtype=d), draw(4, 3, 3, 3), draw(4)),
    "conv_transpose_nd": lambda d: F.conv_transpose1d(draw(2, 3, 5, dtype=d), draw(3, 2, 2), draw(2), 2),
    "linear": lambda d: F.linear(draw(2, 3, dtype=d), draw(4, 3), draw(4)),
    "matmul": lambda d: draw(2, 3, dtype=d) @ draw(3, 4),
    "mm": lambda d: minidl.mm(draw(2, 3, dtype=d), draw(3, 4)),
    "bmm": lambda d: minidl.bmm(draw(2, 2, 3, dtype=d), draw(2, 3, 4)),
    "mv": lambda d: minidl.mv(draw(2, 3, dtype=d), draw(3)),
    "einsum": lambda d: minidl.einsum("ij,jk->ik", [draw(2, 3, dtype=d), draw(3, 4)]),
    "tensordot": lambda d: minidl.tensordot(draw(2, 3, dtype=d), draw(3, 4), 1),
    "prelu": lambda d: F.prelu(draw(2, 3, dtype=d), draw(3)),
    "pow": lambda d: draw(3, dtype=d) ** 2,
    "softplus": lambda d: F.softplus(draw(3, dtype=d)),
    "cumsum": lambda d: draw(3, dtype=d).cumsum(0),
    "cumprod": lambda d: draw(3, dtype=d).cumprod(0),
    "vector_norm": lambda d: draw(3, dtype=d).norm(),
    "softmax": lambda d: draw(2, 3, dtype=d).softmax(1),
    "log_softmax": lambda d: draw(2, 3, dtype=d).log_softmax(1),
    "softmin": lambda d: F.softmin(draw(2, 3, dtype=d), 1),
    "group_norm": lambda d: F.group_norm(draw(2, 4, 3, dtype=d), 2, draw(4), draw(4)),
    "layer_norm": lambda d: F.layer_norm(draw(2, 4, dtype=d), (4,), draw(4), draw(4)),
    **{
        name: lambda d, name=name: getattr(F, name)(draw(2, 3, 4, dtype=d), draw(2, 3, 4))
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
    },
    "kl_div": lambda d: F.kl_div(draw(2, 3, dtype=d), draw(2, 3, **POSITIVE)),
    "nll_loss": lambda d: F.nll_loss(draw(2, 3, 4, dtype=d), labels(2, 4)),
    "tversky_index": lambda d: F.tversky_index(draw(2, 3, 4, dtype=d), draw(2, 3, 4)),
    **{
        name: lambda d, name=name: getattr(F, name)(draw(2, 3, 4, dtype=d), labels(2, 4))
        for name in (
            "cross_entropy", "focal_loss", "dice_loss", "jaccard_loss", "tversky_loss",
            "generalized_dice_loss", "dice_ce_loss",
        )
    },
    **{
        name: lambda d, name=name: getattr(F, name)(draw(2, 3, dtype=d), draw(2, 3, **POSITIVE))
        for name in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss")
    },
    "weighted_cross_entropy": lambda d: F.weighted_cross_entropy(
        draw(2, 3, 4, dtype=d), labels(2, 4), draw(2, 4, **POSITIVE)
    ),
    **{
        name: lambda d, name=name: getattr(minidl, name)(draw(3, dtype=d, **POSITIVE))
        for name in (
            "acos", "asin", "cosh", "exp", "expm1", "log", "log10", "log1p", "log2", "reciprocal", "rsqrt",
            "sinh", "tan", "sum", "prod",
        )
    },
}  # fmt: skip


def test_every_name_on_a_list_is_tried_here():
    assert CALLS.keys() == HALF | FLOAT32
    assert not HALF & FLOAT32


@pytest.mark.parametrize("name", CALLS)
def test_functions_compute_in_the_dtype_of_their_list(name):
    with minidl.autocast("cpu"):
        for dtype in (float32, float16):
            assert CALLS[name](dtype).dtype == (float16 if name in HALF else float32), dtype
    assert CALLS[name](float32).dtype == float32  # outside nothing is cast


@pytest.mark.parametrize("name", sorted(HALF - {"prelu", "tensordot"}))
def test_float64_is_never_cast(name):
    with minidl.autocast("cpu"), pytest.raises(TypeError, match="dtypes differ"):
        CALLS[name](float64)  # its weight is float32


def test_what_is_on_no_list_keeps_its_dtype():
    x = draw(2, 4, 6, 6, dtype=float16)
    functions = [F.relu, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.sigmoid, F.tanh]
    functions += [lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: x.mean()]
    functions += [F.instance_norm, lambda x: F.batch_norm(x, None, None, training=True), lambda x: x + x]
    with minidl.autocast("cpu"):
        assert {f(x).dtype for f in functions} == {float16}
        assert minidl.cat([x, x.float()]).dtype == float32
        assert minidl.sum(x, dtype=float16).dtype == float16  # a dtype that was asked for


def test_the_lists_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    from torch.nn import functional as G

    x, w = torch.rand(2, 3, 5, 4), torch.rand(4, 3, 3, 3)
    half = {  # its lists for the CPU are not those for CUDA, but here they agree
        "conv_nd": lambda: G.conv2d(x, w), "linear": lambda: G.linear(x, torch.rand(2, 4)),
        "conv_transpose_nd": lambda: G.conv_transpose2d(x, torch.rand(3, 2, 2, 2)),
        "matmul": lambda: x @ x.mT, "mm": lambda: torch.mm(x[0, 0], x[0, 0].T),
        "bmm": lambda: torch.bmm(x[0], x[0].mT), "einsum": lambda: torch.einsum("nchw,nchv->nwv", x, x),
    }  # fmt: skip
    wide = {
        "mse_loss": lambda: G.mse_loss(x.half(), x.half()),
        "prod": lambda: x.half().prod(), "smooth_l1_loss": lambda: G.smooth_l1_loss(x.half(), x.half()),
        "nll_loss": lambda: G.nll_loss(x[0, 0].half(), torch.zeros(5, dtype=torch.int64)),
    }  # fmt: skip
    with torch.autocast("cpu", torch.float16):
        assert {f().dtype for f in half.values()} == {torch.float16} and half.keys() <= HALF
        assert {f().dtype for f in wide.values()} == {torch.float32} and wide.keys() <= FLOAT32


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_probabilities_in_float16_are_refused(name):
    p = draw(2, 3, **POSITIVE)
    with minidl.autocast("cpu"), pytest.raises(RuntimeError, match="with_logits"):
        getattr(F, name)(p, p)


# ---- gradients -----------------------------------------------------------------------------------


def loss_of(net, half=True):
    with minidl.autocast("cpu", enabled=half):
        return F.dice_ce_loss(net(draw(2, 1, 9, 12)), labels(2, 9, 12), batch=True)


def gradients(net, loss):
    for p in net.parameters():
        p.grad = None
    loss.backward()
    return [p.grad.numpy() for p in net.parameters()]


def assert_near(found, expected, share=0.02):
    """By the norm of the difference: single entries of float16 may be far off."""
    for a, b in zip(found, expected):
        assert a.dtype == np.float32
        assert np.linalg.norm(a - b) <= share * np.linalg.norm(b) + 1e-3


def test_gradients_of_a_net_are_float32_and_near_those_without():
    minidl.manual_seed(0)
    net, scale = UNet(1, 3, (4, 8), dims=2), 2.0**10  # without it many are too small for float16
    exact = gradients(net, loss_of(net, half=False))
    assert_near([g / scale for g in gradients(net, loss_of(net) * scale)], exact)


def test_backward_of_a_convolution_is_pytorchs():
    torch = pytest.importorskip("torch")
    x, w, b = draw(2, 3, 6, 7), draw(4, 3, 3, 3), draw(4)
    ours = [minidl.tensor(t, requires_grad=True) for t in (x, w, b)]
    theirs = [torch.tensor(t.numpy(), requires_grad=True) for t in (x, w, b)]
    with minidl.autocast("cpu"):
        a = F.mse_loss(F.relu(F.conv2d(*ours, padding=1)), minidl.ones(2, 4, 6, 7))
    with torch.autocast("cpu", torch.float16):
        z = torch.nn.functional.conv2d(*theirs, padding=1).relu()
        c = torch.nn.functional.mse_loss(z, torch.ones(2, 4, 6, 7))
    a.backward()
    c.backward()
    np.testing.assert_allclose(a.item(), c.item(), rtol=1e-3)
    for ta, tc in zip(ours, theirs):
        np.testing.assert_allclose(ta.grad.numpy(), tc.grad.numpy(), rtol=0.02, atol=1e-3)


def test_backward_may_run_inside_and_twice():
    net = nn.Conv1d(2, 3, 3)
    with minidl.autocast("cpu"):
        first = gradients(net, net(draw(1, 2, 5)).sum())
        again = gradients(net, net(draw(1, 2, 5)).sum())  # the weight's copy of before is spent
    np.testing.assert_array_equal(first[0], again[0])


def test_backward_inside_computes_as_forward_did_outside():
    a, b = (draw(3, 4).requires_grad_() for _ in range(2))
    y = (a @ b.mT).sum()
    with minidl.autocast("cpu"):
        y.backward()
    np.testing.assert_allclose(a.grad.numpy(), np.tile(b.detach().numpy().sum(0), (3, 1)), rtol=1e-6)


def test_second_derivatives_pass_through_the_casts():
    x, w = draw(1, 2, 5).requires_grad_(), draw(3, 2, 3).requires_grad_()

    def penalty(half):
        with minidl.autocast("cpu", enabled=half):
            y = F.conv1d(x, w).pow(2).sum()
        (g,) = grad(y, x, create_graph=True)
        return grad((g * g).sum(), w)[0].numpy()

    assert_near([penalty(True)], [penalty(False)])


def test_a_weight_is_cast_once():
    conv = nn.Conv1d(2, 2, 3, padding=1)
    with recorded_nodes() as nodes, minidl.autocast("cpu"):
        conv(conv(conv(draw(1, 2, 5))))
    assert [node.name for node in nodes].count("cast") == 2  # weight and bias


def test_a_copy_made_without_recording_is_not_used_for_gradients():
    conv = nn.Conv1d(2, 2, 3)
    with minidl.autocast("cpu"):
        with minidl.no_grad():
            conv(draw(1, 2, 5))
        conv(draw(1, 2, 5)).sum().backward()
    assert conv.weight.grad is not None


def test_outside_the_context_a_changed_weight_is_seen():
    conv = nn.Conv1d(1, 1, 1, bias=False)
    for value in (1.0, 2.0):
        conv.weight.array[...] = value
        with minidl.autocast("cpu"):
            assert conv(minidl.ones(1, 1, 1)).item() == value


@pytest.mark.parametrize("before", [False, True])
def test_checkpoints_cast_the_same_way_again(before):
    net = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.Tanh(), nn.Conv1d(2, 2, 3, padding=1))
    x = draw(1, 2, 7).requires_grad_()

    def loss(run):
        with minidl.autocast("cpu"):
            y = net(x) if before else x  # then the copies of the weights are there already
            return run(net, y).sum()

    plain = gradients(net, loss(lambda net, y: net(y)))
    again = gradients(net, loss(checkpoint))  # recomputed after the context was left
    for a, b in zip(plain, again):  # a weight with two copies has its gradients added in float32
        np.testing.assert_allclose(a, b, rtol=2e-3 if before else 0)


@pytest.mark.parametrize("kernels", ["NumPy's", "the reference"])
def test_norms_of_float16_with_float32_parameters(kernels, monkeypatch):
    if kernels == "the reference":
        monkeypatch.setattr(minidl.kernels, "of", lambda xp: minidl.kernels.reference)
    w, b = (draw(3, low=0.5, high=1.5).requires_grad_() for _ in range(2))
    found = []
    for dtype in (float16, float32):
        x = draw(
            2, 3, 5, 4, dtype=dtype, low=-40.0, high=80.0
        ).requires_grad_()  # squares leave float16's range
        y = F.instance_norm(x, None, None, w, b, negative_slope=0.1)
        assert y.dtype == dtype
        g = grad((y.float() * draw(2, 3, 5, 4, low=1.0, high=2.0)).sum(), (x, w, b), create_graph=True)
        (second,) = grad((g[0] * g[0]).float().sum(), w)
        assert [t.dtype for t in (*g, second)] == [dtype, float32, float32, float32]
        found.append([t.detach().float().numpy() for t in (y, *g[1:], second)])
    assert_near(*found)


# ---- the context ---------------------------------------------------------------------------------


def product():
    return (draw(2, 3) @ draw(3, 2)).dtype


def test_contexts_nest_and_decorate():
    half = minidl.autocast("cpu")
    with half:
        with minidl.autocast("cpu", enabled=False):
            assert product() == float32
            with half:
                assert half(product)() == float16
        assert product() == float16
    assert product() == float32
    with pytest.raises(KeyError), half:
        raise KeyError
    assert product() == float32


def test_only_tensors_of_the_device_type_are_cast():
    with minidl.autocast("cuda"):
        assert product() == float32
        with minidl.autocast("cpu"):
            assert product() == float16
        assert product() == float32


def test_other_threads_do_not_see_it():
    found = []
    with minidl.autocast("cpu"):
        thread = threading.Thread(target=lambda: found.append(product()))
        thread.start()
        thread.join()
    assert found == [float32]


def test_errors():
    with pytest.raises(ValueError, match="device_type must be 'cpu' or 'cuda'"):
        minidl.autocast("gpu")
    with pytest.raises(ValueError, match=r"must be minidl\.float16, got float32"):
        minidl.autocast("cpu", float32)


# ---- the scaler ----------------------------------------------------------------------------------


def test_small_gradients_survive():
    x = minidl.tensor(np.full((1, 4), 2e-4, np.float32), requires_grad=True)
    w = minidl.tensor(np.full((4, 1), 1e-5, np.float32), requires_grad=True)
    target = minidl.tensor([[3e-4]])

    def gradient(scale):
        x.grad = w.grad = None
        with minidl.autocast("cpu"):
            loss = ((x @ w) * target).sum()
        scale(loss).backward()
        return x.grad.numpy().max()

    scaler = GradScaler(init_scale=2.0**12)
    assert gradient(lambda loss: loss) == 0  # 3e-4 · 1e-5 is below the smallest float16
    np.testing.assert_allclose(gradient(scaler.scale) / scaler.get_scale(), 3e-9, rtol=0.02)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_steps_and_scales_are_pytorchs(bad):
    torch = pytest.importorskip("torch")
    options = dict(init_scale=8.0, growth_factor=3.0, backoff_factor=0.25, growth_interval=2)
    ours, theirs = GradScaler("cpu", **options), torch.amp.GradScaler("cpu", **options)
    w, b = minidl.zeros(2, requires_grad=True), minidl.zeros(1, requires_grad=True)
    tw, tb = (torch.zeros(n, requires_grad=True) for n in (2, 1))
    optimizers = minidl.optim.SGD([w, b], lr=0.5), torch.optim.SGD([tw, tb], lr=0.5)
    for k, factor in enumerate((1.0, 2.0, 3.0, bad, 1.0, bad, bad, 2.0, 2.0, 2.0)):
        for library, scaler, (p, q), optimizer in (
            (minidl, ours, (w, b), optimizers[0]), (torch, theirs, (tw, tb), optimizers[1]),
        ):  # fmt: skip
            optimizer.zero_grad()
            scaler.scale((p * library.tensor([1.0, factor])).sum() + q.sum()).backward()
            if k % 3 == 1:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        np.testing.assert_array_equal(w.detach().numpy(), tw.detach().numpy())
        np.testing.assert_array_equal(b.detach().numpy(), tb.detach().numpy())
        assert ours.state_dict() == theirs.state_dict()
    other = GradScaler()
    other.load_state_dict(theirs.state_dict())
    assert other.state_dict() == theirs.state_dict()


def scaled_step(scaler, w, optimizer):
    optimizer.zero_grad()
    scaler.scale((w * w).sum()).backward()


def test_unscaled_gradients_can_be_clipped():
    w = minidl.tensor([3.0, 4.0], requires_grad=True)
    scaler, optimizer = GradScaler(), minidl.optim.SGD([w], lr=1.0)
    scaled_step(scaler, w, optimizer)
    scaler.unscale_(optimizer)
    assert nn.utils.clip_grad_norm_([w], 5.0).item() == pytest.approx(10)
    scaler.step(optimizer)
    np.testing.assert_allclose(w.detach().numpy(), 0, atol=1e-5)


def test_two_optimizers_share_a_scale_but_not_an_overflow():
    a, b = (minidl.tensor([1.0], requires_grad=True) for _ in range(2))
    scaler = GradScaler(init_scale=4.0)
    first, second = (minidl.optim.SGD([w], lr=0.5) for w in (a, b))
    scaler.scale(a.sum() + (b * INF).sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (a.item(), b.item(), scaler.get_scale()) == (0.5, 1.0, 2.0)


def test_scaler_mistakes():
    w = minidl.tensor([1.0], requires_grad=True)
    scaler, optimizer = GradScaler(), minidl.optim.SGD([w])
    with pytest.raises(RuntimeError, match="no gradients were seen"):
        scaler.update()
    scaled_step(scaler, w, optimizer)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="a second time"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    for again in (scaler.step, scaler.unscale_):
        with pytest.raises(RuntimeError, match="update"):
            again(optimizer)
    scaler.update()
    half = minidl.tensor(np.ones(1, np.float16), requires_grad=True)
    (half * half).sum().backward()
    with pytest.raises(ValueError, match="gradient in float16"):
        scaler.step(minidl.optim.SGD([half]))
    with pytest.raises(TypeError, match="expected Tensors"):
        scaler.scale(3.0)
    with pytest.raises(ValueError, match="growth_factor > 1"):
        GradScaler(growth_factor=1.0)
    with pytest.raises(ValueError, match="state is empty"):
        scaler.load_state_dict({})


def test_a_scaler_that_is_not_enabled_does_nothing():
    w = minidl.tensor([1.0], requires_grad=True)
    scaler, optimizer = GradScaler(enabled=False), minidl.optim.SGD([w], lr=0.25)
    scaled_step(scaler, w, optimizer)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert w.item() == 0.5
    assert (scaler.get_scale(), scaler.state_dict(), scaler.is_enabled()) == (1.0, {}, False)


def test_several_losses_are_scaled_and_float16_does_not_overflow():
    scaler = GradScaler()
    a, b = scaler.scale((minidl.tensor(2.0), minidl.tensor(np.float16(2.0))))
    assert (a.item(), b.item(), b.dtype) == (2.0**17, 2.0**17, float32)
    scaler.update(4.0)
    assert scaler.get_scale() == 4.0


# ---- on a GPU, or what stands in for it ----------------------------------------------------------------


def test_a_step_on_the_gpu_waits_once(monkeypatch):
    from strict import stand_in

    stand_in.install(monkeypatch)
    minidl.manual_seed(0)
    net = UNet(1, 3, (4, 8), dims=2).cuda()
    optimizer, scaler = minidl.optim.Adam(net.parameters()), GradScaler()
    x, y = draw(2, 1, 9, 12).cuda(), labels(2, 9, 12).cuda()
    for _ in range(2):
        with stand_in.no_synchronisation(), minidl.autocast("cuda"):
            logits = net(x)
        with minidl.autocast("cuda"):
            loss = F.dice_ce_loss(logits, y, batch=True)
        with stand_in.no_synchronisation():
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
        before = stand_in.synchronisations[0]
        scaler.step(optimizer)
        scaler.update()
        assert stand_in.synchronisations[0] - before == 1
    assert (logits.dtype, loss.dtype) == (float16, float32)
