"""Images with what is known of them, as uint8: sources of every form, decoding, and loaders."""

from __future__ import annotations

from .decode import DataError, decode
from .folders import digits, folder, open_parts
from .loader import Loader
from .sources import Parts, Source

__all__ = [
    "DataError",
    "Loader",
    "Parts",
    "Source",
    "decode",
    "digits",
    "folder",
    "open_parts",
]
