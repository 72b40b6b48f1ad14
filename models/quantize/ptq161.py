"""PTQ1.61 (arXiv 2502.13179): input channels that matter at 4 bits, all others at one."""

from __future__ import annotations

import numpy as np

from ..errors import BitkilnError
from ..formats import get_format
from .grids import encode
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import check_scale_format, store
from .search import checked_calibration
from .symmetric import assemble

__all__ = ["SALIENT", "ptq161"]

SALIENT = 0.2  # 1 + 3 * 0.2 = 1.6 bits


def ptq161(tensor: np.ndarray, bits: float = 1.61, group: int | None = None, *, salient: float = SALIENT,
           calibration: np.ndarray | None = None, scale: str | None = None, name: str = "tensor") -> GroupQuantized:
    """One flag for each input channel (a column, for all rows alike): int4 where set, else binary.

    Salience of a column is the sum of its squared weights, with calibration rows times the mean squared activation;
    the largest are flagged, of equals the first. Within each group, binary weights are ``sign(w) * mean|w|`` (sign(0)
    = 1) of the unflagged columns, the others symmetric int4 with absmax of the flagged ones. (The paper learns the
    scales; these are its starting point.)

    Parameters
    ----------
    group : int or None
        None (default): one scale of each kind for a row.
    salient : float
        Share of flagged columns, 0 to 1; their number is rounded down.
    calibration : ndarray (rows, K), optional
    scale : str, optional
        Storage of both scales; default ``fp16``.
    tensor, name
        As for ``rtn_sym``.

    Returns
    -------
    GroupQuantized
        Types (binary, int4); ``scale`` is that of the binary weights, ``salient_scale`` that of the others.
    """
    check_bits(bits, (1.61,), "ptq161")
    if isinstance(salient, bool) or not isinstance(salient, (int, float)) or not 0 <= salient <= 1:
        raise BitkilnError("out of range", where="salient", got=str(salient), expected="0 to 1")
    grouped = Grouped(tensor, group, name)
    columns = grouped.rows.shape[1]
    exponent = -int(np.frexp(np.abs(grouped.rows).max())[1])
    strength = np.sum(np.ldexp(grouped.rows, exponent) ** 2, axis=0)
    if calibration is not None:
        strength = strength * np.mean(checked_calibration(calibration, columns) ** 2, axis=0)
    flags = np.zeros(columns, bool)
    flags[np.argsort(-strength, kind="stable")[:int(salient * columns)]] = True
    magnitude = np.abs(grouped.unit)
    plain = grouped.reduce(np.add, np.where(flags, 0, magnitude))
    counts = np.add.reduceat(~flags, grouped.starts, dtype=np.int64)
    binary = plain / np.maximum(counts, 1)
    int4 = get_format("int4")
    top = grouped.reduce(np.maximum, np.where(flags, magnitude, 0)) / int4.max
    stored = store(check_scale_format(scale, "fp16"), grouped.real(binary), grouped.real(top))
    codes = np.empty(grouped.rows.shape, np.uint8)
    for rows in grouped.slabs():
        values = grouped.rows[rows]
        codes[rows] = np.where(flags, encode(int4, values, grouped.expand(stored.values(1)[rows])), values >= 0)
    return assemble("ptq161", grouped, ("binary", "int4"), stored, codes, salient=flags,
                    salient_scale_codes=stored.codes[1])
