"""GLPN written for CPUs: the network that `onnx_graph` writes, its head without the two largest maps.

A bilinear doubling of a bilinear doubling is a quadratic spline, and so is its 3x3 convolution: along an axis
the four pixels that one of the small map becomes are

    U + E - 3D,  U - D,  U + D,  U + E + 3D

where U is a convolution of the small map with three taps, D one of its differences with two, and E one of
its second differences with one. These are half of the products along an axis (6 instead of 4 times 3) and a
quarter of them in a plane. The last convolution's nine products a pixel are made at the small size as well,
summed up there, and laid side by side by `DepthToSpace`. All of this is exact but for two pixels at the
edges, where the doubled map ends in zeros for its convolution and the small one does not: they are computed
as the network says, from the edges alone.

What it gave: docs/decisions/onnx-graph.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from glpn_deploy.exporters.graph.onnx_graph import Array, GlpnGraph

# Of U, D and E: what a tap of the convolution (rows) counts at the taps on the small map or its differences.
_TAPS = (
    np.array([[9, 22, 1], [4, 24, 4], [1, 22, 9]]) / 32,
    np.array([[3, 1], [2, 2], [1, 3]]) / 32,
    np.array([[2], [2], [2]]) / 32,
)
_DIFFERENCES = (np.array([1]), np.array([-1, 1]), np.array([1, -2, 1]))
_FOUR = 4  # pixels along an axis that one becomes
_EDGE = 2  # pixels of the depth that know of zeros behind the edge


class CpuGraph(GlpnGraph):
    """Writes one GLPN network for CPUs; arguments as of `GlpnGraph`."""

    def _head(self, x: str, used: int, *, whole: bool) -> str:
        if not whole:
            return super()._head(x, used, whole=whole)
        node, ints = self.b.node, self.b.ints
        inner = node("head", "Slice", [self._inside(x), ints(2, 2), ints(-2, -2), ints(2, 3)])
        left, right = self._edges(x, 3)
        rows = [ints(2), ints(-2), ints(2)]
        left, right = (node("head", "Slice", [edge, *rows]) for edge in (left, right))
        above, below = self._edges(x, 2)
        x = node("head", "Concat", [left, inner, right], axis=3)
        return str(node("head", "Concat", [above, x, below], axis=2))

    def _edges(self, x: str, axis: int) -> Sequence[str]:
        """The depth at the first and at the last two pixels along an axis."""
        b, scope = self.b, f"head.edges.{axis}"
        x = b.node(f"decoder.{scope}", "Gather", [x, b.ints(0, 1, -2, -1)], axis=axis)
        x = self._double(f"decoder.{scope}", self._double(f"decoder.{scope}", x))
        x = b.node(scope, "Gather", [x, b.ints(0, 1, 2, 3, -4, -3, -2, -1)], axis=axis)
        parts = [self._convolved(x), b.ints(_EDGE, _FOUR, _EDGE)]
        first, _, last = b.node(scope, "Split", parts, outputs=3, axis=axis)
        return first, last

    def _inside(self, x: str) -> str:
        """The depth ``(B, 1, 4 H, 4 W)`` of the map ``(B, C, H, W)``, wrong at the edges."""
        products = [
            self.b.node(f"head.{row}.{column}", "Conv", [pixel, self._last_taps()], kernel_shape=[1, 1])
            for row, pixels in enumerate(self._pixels(x))
            for column, pixel in enumerate(pixels)
        ]
        x = self.b.node("head", "Concat", products, axis=1)
        biases = self._parameter("head.biases", np.repeat(self._get("head.head.2.bias"), _FOUR**2))
        inputs = [x, self._parameter("head.sums", _sums()), biases]
        x = self.b.node("head", "Conv", inputs, kernel_shape=[3, 3], pads=[1] * 4)
        x = self.b.node("head", "Sigmoid", [x])  # before they move: OpenVINO in BF16 rounds what moves
        return str(self.b.node("head", "DepthToSpace", [x], blocksize=_FOUR))

    def _pixels(self, x: str) -> list[list[str]]:
        """The first convolution's results, by row and column of the 16 pixels that one becomes."""
        padded = self.b.node("decoder.head", "Pad", [x, self.b.ints(0, 0, 1, 1, 0, 0, 1, 1)], mode="edge")
        weight, bias = self._get("head.head.0.weight"), self._get("head.head.0.bias")
        parts: list[list[str]] = [[], [], []]  # by part along a column, then by part along a row
        for i, j in itertools.product(range(3), repeat=2):
            scope = f"head.head.0.{i}.{j}"
            kernel = np.einsum("oirc,ry,cx->oiyx", weight, _TAPS[i], _TAPS[j])
            inputs = [self._differences(padded, i, j), self._parameter(f"{scope}.weight", kernel)]
            inputs += [] if i or j else [self._parameter(f"{scope}.bias", bias)]
            parts[i].append(self.b.node(scope, "Conv", inputs, kernel_shape=list(kernel.shape[2:])))
        rows = [self._four(f"head.column.{j}", *column) for j, column in enumerate(zip(*parts, strict=True))]
        return [
            [str(self.b.node("head", "Relu", [x])) for x in self._four(f"head.row.{row}", *parts_of_row)]
            for row, parts_of_row in enumerate(zip(*rows, strict=True))
        ]

    def _differences(self, x: str, i: int, j: int) -> str:
        """Differences of order i along columns and j along rows of a map with a pixel around it."""
        if not i and not j:
            return x
        kernel = np.outer(_DIFFERENCES[i], _DIFFERENCES[j])
        channels = self.config.decoder_hidden_size
        weight = np.broadcast_to(kernel, (channels, 1, *kernel.shape))
        inputs = [x, self._parameter(f"head.differences.{i}.{j}", weight)]
        return str(
            self.b.node("head.head.0", "Conv", inputs, kernel_shape=list(kernel.shape), group=channels)
        )

    def _four(self, scope: str, u: str, d: str, e: str) -> list[str]:
        """The four pixels along an axis of which ``u``, ``d`` and ``e`` are U, D and E."""
        node = self.b.node
        outer, far = node(scope, "Add", [u, e]), node(scope, "Mul", [d, self._scalar(3.0)])
        pairs = (("Sub", outer, far), ("Sub", u, d), ("Add", u, d), ("Add", outer, far))
        return [str(node(scope, kind, [x, y])) for kind, x, y in pairs]

    def _last_taps(self) -> str:
        """The last convolution's nine taps as so many channels, (9, C, 1, 1)."""
        taps = self._get("head.head.2.weight")[0]
        return self._parameter("head.taps", taps.reshape(taps.shape[0], 9).T[:, :, None, None])


def _sums() -> Array:
    """Kernel ``(16, 16 * 9, 3, 3)`` that sums up the nine products of each of 16 pixels.

    What a tap takes of the pixel beside is a product of another of the 16, or of the next small pixel's.
    """
    kernel = np.zeros((_FOUR, _FOUR, _FOUR, _FOUR, 3, 3, 3, 3))
    for row, column, down, right in itertools.product(range(_FOUR), range(_FOUR), range(3), range(3)):
        y, from_row = divmod(row + down - 1, _FOUR)
        x, from_column = divmod(column + right - 1, _FOUR)
        kernel[row, column, from_row, from_column, down, right, y + 1, x + 1] = 1
    return kernel.reshape(_FOUR**2, _FOUR**2 * 9, 3, 3)
