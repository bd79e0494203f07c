"""Ready pipelines for tokens, by name or by a list of rates: print one and copy what you need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..messages import meant, shown
from ..presets import keywords_of
from .compose import Compose
from .ops import RandomDeletion, RandomInsertion, RandomMask, RandomReplacement, RandomSwap, Rate, SpanCrop, TokenOp

OPS: dict[str, Callable[[Rate], TokenOp]] = {
    "deletion": RandomDeletion,
    "swap": RandomSwap,
    "replacement": RandomReplacement,
    "insertion": RandomInsertion,
    "mask": RandomMask,
    "crop": SpanCrop,
}
PRESETS: dict[str, str] = {
    "none": "",
    "text_light": "deletion=(0, 0.1),swap=0.05",
    "text_medium": "deletion=(0, 0.2),swap=0.1,crop=(0.8, 1.0)",
    "text_strong": "deletion=(0, 0.3),swap=0.2,crop=(0.5, 1.0)",
}


def ops_of(spec: str) -> list[TokenOp]:
    """The ops of a preset, or of a list of ops with a rate each: ``"deletion=0.1,swap=(0, 0.2)"``, in this order.

    Names are deletion, swap, replacement, insertion (both of any token of the vocabulary), mask, and crop, whose number
    is the share of tokens that stays. A rate is a number or a pair, from which each text draws its own.

    Raises ValueError for anything else, naming it.
    """
    if not isinstance(spec, str):
        raise ValueError(f"an augmentation of texts is named by a string such as 'text_light', got {shown(spec)}")
    if spec not in PRESETS and "=" not in spec:
        choices = f"choose one of {', '.join(PRESETS)}, or rates such as 'deletion=0.1,swap=0.1'"
        raise ValueError(f"there is no augmentation of texts {shown(spec)}; {choices}{meant(spec, PRESETS)}")
    made: dict[str, TokenOp] = {}
    if spec == "none":
        return []
    try:
        for name, value in keywords_of(PRESETS.get(spec, spec)):
            if name not in OPS:
                raise ValueError(f"there is no op {name!r}; it takes {', '.join(OPS)}{meant(name, OPS)}")
            if name in made:
                raise ValueError(f"{name} stands there twice")
            made[name] = OPS[name](value)
    except ValueError as error:
        raise ValueError(f"augment {shown(spec)}: {error}") from None
    return list(made.values())


def get(spec: str, **compose: Any) -> Compose:
    """The pipeline that ``spec`` names, see :func:`ops_of`; ``compose`` goes to :class:`gpuaug.text.Compose`, which
    wants a tokenizer, or the ids of special tokens."""
    return Compose(ops_of(spec), **compose)
