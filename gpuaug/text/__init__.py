"""Augmentation of tokens: a batch at once, where it lies, each sample with its own draw."""

from .compose import Compose
from .model import TextClassifier
from .ops import RandomDeletion, RandomInsertion, RandomMask, RandomReplacement, RandomSwap, SpanCrop
from .reading import TextParts, Texts, open_parts, read
from .sources import Candidates, Neighbours, Synonyms, Uniform
from .tokenizer import BPETokenizer

__all__ = [
    "BPETokenizer",
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
    "TextClassifier",
    "TextParts",
    "Texts",
    "Uniform",
    "open_parts",
    "read",
]


def __getattr__(name: str):
    from ..messages import no_attribute

    raise no_attribute(__name__, name, __all__)
