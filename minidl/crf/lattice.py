"""Gaussian filtering in many dimensions at a cost linear in the number of points: the permutohedral lattice.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (2010). Points are
*splatted* onto the corners of the simplex that they lie in, the corners are *blurred* along the d + 1
directions of the lattice, and the result is *sliced* out at the points again. A point in d dimensions touches
d + 1 corners, where a regular grid would make it 2^d, and only corners that are touched exist: with the
position and the colour of a pixel as its features (d = 5), a grid would be nearly empty. Splat, blur and
slice are sparse matrices.
"""

from __future__ import annotations

import numpy as np


def _embedding(d: int) -> np.ndarray:
    """The matrix (d + 1, d) that maps features onto the plane Σx = 0, scaled so that one blur has σ = 1."""
    rows = np.zeros((d + 1, d))
    for i in range(d):
        rows[: i + 1, i] = 1
        rows[i + 1, i] = -(i + 1)
    return rows * (d + 1) * np.sqrt(2 / 3) / np.sqrt([(i + 1) * (i + 2) for i in range(d)])


def _simplex(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For points (P, d + 1) of the plane: the nearest lattice point of remainder 0, and the rank of each
    coordinate's distance from it (0 is the largest), which names the simplex.
    """
    d = elevated.shape[1] - 1
    nearest = np.round(elevated / (d + 1))
    excess = nearest.sum(1).astype(np.int64)  # the plane is left by so many steps of d + 1
    nearest = (nearest * (d + 1)).astype(np.int64)
    order = np.argsort(nearest - elevated, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[None], axis=1)
    rank += excess[:, None]
    below, above = rank < 0, rank > d
    nearest += (d + 1) * (below.astype(np.int64) - above)
    rank += (d + 1) * (below.astype(np.int64) - above)
    return nearest, rank


def _barycentric(elevated: np.ndarray, nearest: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The weights (P, d + 1) of the simplex's corners, by their remainder."""
    d = elevated.shape[1] - 1
    distance = (elevated - nearest) / (d + 1)
    by_rank = np.take_along_axis(distance, np.argsort(rank, axis=1), axis=1)  # falling
    weights = np.empty_like(distance)
    weights[:, 1:] = (by_rank[:, :-1] - by_rank[:, 1:])[:, ::-1]
    weights[:, 0] = 1 + by_rank[:, d] - by_rank[:, 0]
    return weights


class PermutohedralLattice:
    """y_i ≈ Σ_j exp(-|f_i - f_j|² / 2) q_j for features f (P, d), up to a factor; call it on q (P, L)."""

    def __init__(self, features: np.ndarray):
        from scipy import sparse

        count, d = features.shape
        elevated = features.astype(np.float64) @ _embedding(d).T
        nearest, rank = _simplex(elevated)
        # The corner of remainder r: r is added to the d + 1 - r coordinates of lowest rank, r - (d + 1) to
        # the others.
        remainder = np.arange(d + 1)
        step = remainder[:, None] - (d + 1) * (remainder[None] > d - remainder[:, None])  # (remainder, rank)
        corners = nearest[:, None, :-1] + step[:, rank[:, :-1]].transpose(
            1, 0, 2
        )  # the last one follows: Σ = 0

        low = corners.min((0, 1)) - (d + 1)  # a margin, so that no neighbour's code wraps around
        extent = corners.max((0, 1)) + (d + 1) - low + 1
        if np.prod(extent.astype(float)) > 2.0**62:
            raise ValueError(
                f"PermutohedralLattice: {d} features span {extent} lattice steps; raise the bandwidths"
            )
        stride = np.append(np.cumprod(extent[:0:-1])[::-1], 1)
        codes, vertex = np.unique((corners - low) @ stride, return_inverse=True)
        weights = _barycentric(elevated, nearest, rank)
        rows = np.repeat(np.arange(count), d + 1)
        shape = (count, len(codes))
        self.slice = sparse.csr_array((weights.ravel(), (rows, vertex.ravel())), shape=shape)
        self.splat = self.slice.T.tocsr()
        self.blurs = [self._blur(codes, direction @ stride) for direction in self._directions(d)]
        self.scale = 1 / (1 + 2.0**-d)

    @staticmethod
    def _directions(d: int) -> np.ndarray:
        """The d + 1 shortest steps of the lattice, without their last coordinate."""
        return np.ones((d + 1, d), np.int64) - (d + 1) * np.eye(d + 1, d, dtype=np.int64)

    @staticmethod
    def _blur(codes: np.ndarray, step: int):
        """Half of both neighbours added to each corner, where they exist."""
        from scipy import sparse

        blur = sparse.eye_array(len(codes), format="csr")
        for code in (codes + step, codes - step):
            place = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
            exists = codes[place] == code
            half = np.full(exists.sum(), 0.5)
            blur = blur + sparse.csr_array((half, (np.flatnonzero(exists), place[exists])), shape=blur.shape)
        return blur

    def __call__(self, q: np.ndarray) -> np.ndarray:
        values = self.splat @ q
        for blur in self.blurs:
            values = blur @ values
        return self.scale * (self.slice @ values)
