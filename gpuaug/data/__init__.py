"""Images with labels, as uint8: from a folder or embedded, resident on the device or streamed through workers."""

from __future__ import annotations

from .decode import DataError, decode
from .loaders import ResidentLoader, StreamingLoader
from .sources import Parts, Source, digits, folder, open_parts

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
