"""Augmentation of tokens: a batch at once, where it lies, each sample with its own draw."""

from . import presets
from .compose import Compose
from .model import TextClassifier
from .ops import RandomDeletion, RandomInsertion, RandomMask, RandomReplacement, RandomSwap, SpanCrop
from .sources import Candidates, Neighbours, Synonyms, Uniform

# What reads files needs the extra text, and is imported when it is asked for
LATER = {"BPETokenizer": "tokenizer", "Tokenizer": "tokenizer"}
LATER |= dict.fromkeys(("TextParts", "Texts", "open_parts", "read"), "reading")

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
    "Tokenizer",
    "Uniform",
    "open_parts",
    "presets",
    "read",
]


def __getattr__(name: str):
    if name in LATER:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
    from ..messages import no_attribute

    raise no_attribute(__name__, name, __all__)
