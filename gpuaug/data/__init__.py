"""Images, or clips, with what is known of them, as uint8: sources of every form, decoding, and loaders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..messages import no_attribute
from .annotated import coco, masks, voc
from .clips import by_video, clip_parts, clips
from .datasets import arrays, dataset
from .decode import DataError, decode, header, load, read
from .folders import digits, folder, open_parts
from .loader import Loader
from .processes import WorkerError
from .sources import Parts, Source
from .tables import csv, jsonl, parquet
from .tars import tar

if TYPE_CHECKING:
    from .arrow import augment_batches, augment_table

_ARROW = ("augment_batches", "augment_table")  # which import pyarrow

__all__ = [
    "DataError",
    "Loader",
    "Parts",
    "Source",
    "WorkerError",
    "arrays",
    "augment_batches",
    "augment_table",
    "by_video",
    "clip_parts",
    "clips",
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


def __getattr__(name: str) -> Any:
    if name not in _ARROW:
        raise no_attribute(__name__, name, __all__)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ImportError(f"gpuaug.data.{name} needs pyarrow: pip install 'gpuaug[parquet]'") from None
    from . import arrow

    return getattr(arrow, name)
