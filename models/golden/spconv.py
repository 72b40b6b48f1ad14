"""Maps of sparse convolution: which input row meets which weight for which output row.

Everything here is sorting and looking up of keys: no tree is walked, so that the descent of the hardware is checked
against something else.

::

    indices -- canonicalise --> keys, ascending = rows of the cloud
                                  |
              searchsorted of shifted keys, or unique of halved ones
                                  |
                   out, k, inp by ascending out, then k

Kernel offset of 3^3: ``k = (dx+1)*9 + (dy+1)*3 + (dz+1)``, of 2^3: ``k = 4*dx + 2*dy + dz``. Output rows ascend by key
as well: a map's ``out_keys`` are the next layer's ``keys``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.checks import check_choice
from ..errors import BitkilnError
from .spconv_cloud import (
    DIGIT,
    Cloud,
    Tree,
    build_tree,
    canonicalise,
    checked_depth,
    checked_keys,
    checked_shape,
    decode_keys,
    encode_keys,
    inside,
    moved,
    ranks,
)

__all__ = ["Cloud", "ConvMap", "Tree", "build_tree", "canonicalise", "decode_keys", "down2", "encode_keys",
           "generative2", "inverse2", "rulebook", "stride3", "submanifold"]

CENTRE = 13
EDGES = ("keep", "drop")
MODES = ("dilate", "parents")


@dataclass(frozen=True)
class ConvMap:
    """Pairs of a sparse convolution, by ascending output row, then ascending kernel offset.

    Attributes
    ----------
    out, k, inp : int64 ndarray (pairs,)
        Output row, kernel offset, input row.
    out_keys : int64 ndarray (rows,)
        Keys of the output rows, ascending; they have one digit less or more than the inputs' where the grid is of half
        or double size. A row may have no pair.
    inputs : int
        Input rows.
    kernel : int
        Side of the kernel, 2 or 3.
    """

    out: np.ndarray
    k: np.ndarray
    inp: np.ndarray
    out_keys: np.ndarray
    inputs: int
    kernel: int

    @property
    def rows(self) -> int:
        """Output rows."""
        return len(self.out_keys)

    @property
    def pairs(self) -> int:
        return len(self.out)

    @property
    def offsets(self) -> int:
        """Kernel offsets, 8 or 27."""
        return self.kernel ** 3

    @property
    def neighbours_per_row(self) -> float:
        """Mean number of pairs of an output row; 0 without rows."""
        return self.pairs / self.rows if self.rows else 0.0


def submanifold(keys: np.ndarray, depth: int) -> ConvMap:
    """3^3 whose outputs are the inputs' voxels: ``input = output + (dx, dy, dz)``."""
    depth, keys = checked_depth(depth), checked_keys(keys)
    rows = np.arange(len(keys))
    table = np.full((len(keys), 27), -1, np.int32)
    table[:, CENTRE] = rows
    for k in range(CENTRE):     # offset 26 - k is the opposite one
        found, good = moved(keys, depth, (k // 9 - 1, k // 3 % 3 - 1, k % 3 - 1))
        out = rows[good]
        inp = ranks(keys, found[good])
        out, inp = out[inp >= 0], inp[inp >= 0]
        table[out, k] = inp
        table[inp, 26 - k] = out
    table = table.reshape(-1)
    place = np.flatnonzero(table >= 0)
    return ConvMap(place // 27, place % 27, table[place].astype(np.int64), keys, len(keys), 3)


def down2(keys: np.ndarray, depth: int, spatial_shape: tuple[int, int, int] | None = None,
          edge: str = "keep") -> ConvMap:
    """2^3, stride 2: ``input = 2 * output + (dx, dy, dz)``; output keys have ``depth - 1`` digits.

    ``edge`` is about the last slice of an odd side S: ``drop`` leaves its voxels out (output side ``floor(S / 2)``),
    ``keep`` takes them as if S were one more.
    """
    keys, shape = _halved(keys, depth, spatial_shape)
    check_choice(edge, "edge", EDGES)
    inp = np.arange(len(keys))
    if edge == "drop":
        inp = inp[inside(decode_keys(keys, depth), tuple(side // 2 * 2 for side in shape))]
    out_keys, out = np.unique(keys[inp] >> 3, return_inverse=True)
    return ConvMap(out, keys[inp] & 7, inp, out_keys, len(keys), 2)


def inverse2(fine_keys: np.ndarray, coarse_keys: np.ndarray | None = None) -> ConvMap:
    """2^3 back to the voxels before `down2`: each has the one pair with its octant.

    Parameters
    ----------
    fine_keys : integer ndarray (rows,)
        Of the output rows.
    coarse_keys : integer ndarray (inputs,), optional
        Of the input rows, by default the octants of the output rows. A row whose octant is not among them (left out
        by ``edge="drop"``) has no pair.
    """
    fine = checked_keys(fine_keys)
    coarse = np.unique(fine >> 3) if coarse_keys is None else checked_keys(coarse_keys)
    inp = ranks(coarse, fine >> 3)
    out = np.flatnonzero(inp >= 0)
    return ConvMap(out, fine[out] & 7, inp[out], fine, len(coarse), 2)


def generative2(keys: np.ndarray) -> ConvMap:
    """Transposed 2^3, stride 2: all eight children of every input; output keys have one digit more."""
    keys = checked_keys(keys)
    out = np.arange(8 * len(keys))
    return ConvMap(out, out & 7, out >> 3, (keys[:, None] << 3 | np.arange(8)).reshape(-1), len(keys), 2)


def stride3(keys: np.ndarray, depth: int, mode: str = "dilate",
            spatial_shape: tuple[int, int, int] | None = None) -> ConvMap:
    """3^3, stride 2, padding 1: ``input = 2 * output + (dx, dy, dz)``; output keys have ``depth - 1`` digits.

    Outputs with mode ``dilate`` are all that meet some input, inside the dense output sides
    ``floor((S - 1) / 2) + 1``; with ``parents`` the octants of the inputs. Along an axis an even input ``2q`` meets
    output ``q``, an odd one ``2q + 1`` meets ``q`` (offset 1) and ``q + 1`` (offset -1).
    """
    keys, shape = _halved(keys, depth, spatial_shape)
    check_choice(mode, "mode", MODES)
    parts = []
    for ahead in range(8):      # axes along which the output is q + 1
        inp = np.flatnonzero(keys & ahead == ahead)
        step = ahead >> 2, ahead >> 1 & 1, ahead & 1
        out, good = moved(keys[inp] >> 3, depth - 1, step)
        offset = ((keys[inp, None] & DIGIT) != 0) - 2 * np.array(step)
        parts.append(np.stack([out, CENTRE + offset @ np.array([9, 3, 1]), inp])[:, good])
    out_key, k, inp = np.concatenate(parts, axis=1)
    if mode == "dilate":
        good = inside(decode_keys(out_key, depth - 1), tuple((side - 1) // 2 + 1 for side in shape))
        out_key, k, inp = out_key[good], k[good], inp[good]
        out_keys = np.unique(out_key)
    else:
        out_keys = np.unique(keys >> 3)
    out = ranks(out_keys, out_key)
    order = np.argsort(out * 27 + k)[np.count_nonzero(out < 0):]    # pairs without a row come first
    return ConvMap(out[order], k[order], inp[order], out_keys, len(keys), 3)


def _halved(keys: np.ndarray, depth: int, spatial_shape: object) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Checked operands of an operator with stride 2."""
    checked_depth(depth, 1)
    keys, shape = checked_keys(keys), checked_shape(spatial_shape, depth)
    if spatial_shape is not None and not inside(decode_keys(keys, depth), shape).all():
        raise BitkilnError("voxels outside the grid", where="keys", expected=f"coordinates inside {shape}")
    return keys, shape


def rulebook(map: ConvMap) -> tuple[np.ndarray, np.ndarray]:
    """The pairs by kernel offset, as spconv lists them.

    Returns
    -------
    indice_pairs : int32 ndarray (2, offsets, inputs)
        Input and output rows of each offset by ascending output row; -1 behind the last.
    indice_pair_num : int32 ndarray (offsets,)
    """
    number = np.bincount(map.k, minlength=map.offsets)
    order = np.argsort(map.k, kind="stable")
    k = map.k[order]
    place = np.arange(map.pairs) - (np.cumsum(number) - number)[k]
    pairs = np.full((2, map.offsets, map.inputs), -1, np.int32)
    pairs[0, k, place], pairs[1, k, place] = map.inp[order], map.out[order]
    return pairs, number.astype(np.int32)
