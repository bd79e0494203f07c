"""Augmentation of tokens: a batch at once, where it lies, each sample with its own draw."""

from .compose import Compose
from .ops import RandomDeletion, RandomInsertion, RandomMask, RandomReplacement, RandomSwap, SpanCrop
from .sources import Candidates, Neighbours, Synonyms, Uniform

__all__ = [
    "Candidates",
    "Compose",
    "Neighbours",
    "RandomDeletion",
    "RandomInsertion",
    "RandomMask",
    "RandomReplacement",
    "RandomSwap",
    "SpanCrop",
    "Synonyms",
    "Uniform",
]


def __getattr__(name: str):
    from ..messages import no_attribute

    raise no_attribute(__name__, name, __all__)
