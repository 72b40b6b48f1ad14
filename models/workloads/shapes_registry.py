"""Workloads by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from ..cost.llm.llm_shapes import LLMS
from ..errors import BitkilnError, nearest
from . import shapes_small, shapes_sparse, shapes_transformers, shapes_vision, shapes_xr
from .shapes import Workload
from .spconv_nets import NETWORKS as SPARSE

__all__ = ["get_workload", "workload_names", "workload_options"]

_BUILDERS: dict[str, Callable[..., Workload]] = {
    "digits-mlp": partial(shapes_small.digits, "mlp"),
    "digits-cnn": partial(shapes_small.digits, "cnn"),
    "g2p": shapes_small.g2p,
    **{f"{name.lower()}:{phase}": partial(shapes_transformers.language_model, name.lower(), phase)
       for name in LLMS for phase in ("prefill", "decode")},
    "resnet18": shapes_vision.resnet18,
    "resnet50": shapes_vision.resnet50,
    "mobilenetv2": shapes_vision.mobilenetv2,
    "bert-base": shapes_transformers.bert_base,
    "vit-b": shapes_transformers.vit_b,
    "minkunet": shapes_sparse.minkunet,
    "second": shapes_sparse.second,
    **{name: partial(shapes_sparse.sparse_network, name) for name in SPARSE},
    "ul-vio-like": shapes_xr.ul_vio_like,
    "gaze-lle-like": shapes_xr.gaze_lle_like,
    "resnet18-cifar": shapes_xr.resnet18_cifar,
}


def workload_names() -> tuple[str, ...]:
    """Every name that `get_workload` knows."""
    return tuple(_BUILDERS)


def _builder(name: str) -> Callable[..., Workload]:
    found = _BUILDERS.get(str(name).lower())
    if found is None:
        raise BitkilnError("unknown workload", where="workload", got=name,
                           expected="one of the known names", help=nearest(name, _BUILDERS))
    return found


def workload_options(name: str) -> dict[str, object]:
    """Options of a workload and their defaults."""
    return {key: each.default for key, each in inspect.signature(_builder(name)).parameters.items()
            if each.kind is each.KEYWORD_ONLY}


def get_workload(name: str, **options: object) -> Workload:
    """A workload by name.

    Parameters
    ----------
    name : str
        One of `workload_names`, in any case.
    **options
        Those of `workload_options`: ``batch`` for all, ``image``, ``tokens``, ``context``, ``cloud``, ... for some.

    Raises
    ------
    BitkilnError
        Unknown name or option (with the nearest one), or a value out of range.

    Examples
    --------
    >>> get_workload("llama-2-7b:decode", context=512).weights
    6607077376
    """
    build, known = _builder(name), workload_options(name)
    for key in options:
        if key not in known:
            raise BitkilnError("unknown option", where=f"workload {name}", got=key, expected=" or ".join(known),
                               help=nearest(key, known))
    return build(**options)
