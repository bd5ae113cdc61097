"""Bilinear ops. The law: T is linear in each of three slots, and every op is T with one slot left open.

matmul is one such T. Convolution is another, and gives three ops that are each other's derivatives. Per
spatial axis, input index i, kernel tap k and output index q meet where i = stride·q + dilation·k - padding:

    T(x, w, u) = Σ x[n, (g,c), i] · w[(g,o), c, k] · u[n, (g,o), q]          (x = 0 outside the image)

    conv(x, w)        = ∂T/∂u     the convolution (a cross-correlation: the kernel is not flipped)
    conv_input(u, w)  = ∂T/∂x     its adjoint in x: the transposed convolution
    conv_weight(x, u) = ∂T/∂w     its adjoint in w

Each vjp puts the cotangent into the slot of the output and leaves open the slot that is differentiated. So
six one-line vjps give gradients of every order, in any number of dimensions.
"""

from __future__ import annotations

from functools import partial

from minidl import kernels
from minidl.autograd import op

bilinear = partial(op, law="bilinear")


@bilinear(lambda g, b: matmul(g, b.mT), lambda g, a: matmul(a.mT, g), reach=lambda a, b: a.matmul(b))
def matmul(xp, a, b):
    """y[..., i, k] = Σ_j a[..., i, j] · b[..., j, k], with equal leading axes."""
    if a.dtype == xp.float16:  # sums in float32, as in every reduction
        return xp.matmul(a.astype(xp.float32), b.astype(xp.float32)).astype(xp.float16)
    return xp.matmul(a, b)


@bilinear(lambda g, w, x_like, **geometry: conv_input(g, w, size=x_like.shape[2:], **geometry),
          lambda g, x, w_like, **geometry: conv_weight(x, g, size=w_like.shape[2:], **geometry),
          reach=lambda x, w, **geometry: x.conv(w, **geometry))  # fmt: skip
def conv(xp, x, w, **geometry):
    """x (N, C, *S), w (O, C/groups, *K) -> u (N, O, *Q)."""
    return kernels.of(xp).conv(x, w, **geometry)


@bilinear(lambda g, w, size, **geo: conv(g, w, **geo),
          lambda g, u, w_like, size, **geo: conv_weight(g, u, size=w_like.shape[2:], **geo),
          reach=lambda u, w, **geometry: u.conv_input(w, **geometry))  # fmt: skip
def conv_input(xp, u, w, *, size, **geometry):
    """u (N, O, *Q), w (O, C/groups, *K) -> x (N, C, *size)."""
    return kernels.of(xp).conv_input(u, w, size=size, **geometry)


@bilinear(lambda g, u, x_like, size, **geometry: conv_input(u, g, size=x_like.shape[2:], **geometry),
          lambda g, x, size, **geometry: conv(x, g, **geometry))  # fmt: skip
def conv_weight(xp, x, u, *, size, **geometry):
    """x (N, C, *S), u (N, O, *Q) -> w (O, C/groups, *size)."""
    return kernels.of(xp).conv_weight(x, u, size=size, **geometry)


# The third T: a weighted sum over each voxel's neighbourhood, with weights of its own for every voxel.
#
#     T(k, q, u) = Σ w[n, d, i] · q[n, l, i + d] · u[n, l, i]     d: an offset in a window, i + d in the image


@bilinear(lambda g, q, w_like: local_dot(q, g, window=w_like.shape[1 : q.ndim - 1]),
          lambda g, w: local_spread(w, g),
          reach=lambda w, q: q.around(w.window_for(q)) | w.at_centre(q))  # fmt: skip
def local_sum(xp, w, q):
    """w (N, *window, *S), q (N, L, *S) -> u (N, L, *S)."""
    return kernels.of(xp).local_sum(w, q)


@bilinear(lambda g, u, w_like: local_dot(g, u, window=w_like.shape[1 : u.ndim - 1]),
          lambda g, w: local_sum(w, g),
          reach=lambda w, u: (u | w.at_centre(u)).around(w.window_for(u)))  # fmt: skip
def local_spread(xp, w, u):
    """w (N, *window, *S), u (N, L, *S) -> q (N, L, *S)."""
    return kernels.of(xp).local_spread(w, u)


@bilinear(lambda g, u: local_spread(g, u), lambda g, q: local_sum(g, q),
          reach=lambda q, u, window: (q.around(window) | u).with_window(window))  # fmt: skip
def local_dot(xp, q, u, *, window):
    """q (N, L, *S), u (N, L, *S) -> w (N, *window, *S); 0 where the neighbour lies outside."""
    return kernels.of(xp).local_dot(q, u, window=window)
