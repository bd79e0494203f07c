"""Images with what is known of them, as uint8: sources of every form, decoding, and loaders."""

from __future__ import annotations

from .annotated import coco, masks, voc
from .datasets import arrays, dataset
from .decode import DataError, decode, header, load, read
from .folders import digits, folder, open_parts
from .loader import Loader
from .sources import Parts, Source
from .tables import csv, jsonl, parquet
from .tars import tar

__all__ = [
    "DataError",
    "Loader",
    "Parts",
    "Source",
    "arrays",
    "coco",
    "csv",
    "dataset",
    "decode",
    "digits",
    "folder",
    "header",
    "jsonl",
    "load",
    "masks",
    "open_parts",
    "parquet",
    "read",
    "tar",
    "voc",
]
