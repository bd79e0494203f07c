"""Images with what is known of them, as uint8: sources of every form, decoding, and loaders."""

from __future__ import annotations

from .decode import DataError, decode
from .folders import digits, folder, open_parts
from .loaders import ResidentLoader, StreamingLoader
from .sources import Parts, Source

__all__ = [
    "DataError",
    "Parts",
    "ResidentLoader",
    "Source",
    "StreamingLoader",
    "decode",
    "digits",
    "folder",
    "open_parts",
]
