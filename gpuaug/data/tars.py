"""WebDataset's tars: files of one name and several endings are a sample."""

from __future__ import annotations

import json
import os
import tarfile
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import DataError
from .folders import ENDINGS, _litter
from .items import Slice
from .sources import Source, checked, ids_of, labels_of

TOLD = (".cls", ".json", ".id")  # what of a sample is read while its tar is indexed
MOST_TOLD = 1 << 20


@dataclass
class _Sample:
    image: Slice | None = None
    label: Any = None
    number: Any = None


def tar(paths: str | Path | Sequence[str | Path], *, classes: Sequence[str] = ()) -> Source:
    """Tars of images as WebDataset has them: ``KEY.jpg`` beside ``KEY.cls`` (a class, or its number) or ``KEY.json``
    (an object with ``label``, ``labels`` or ``id``). Without those a sample's folder is its class, where each has one.

    Each tar is gone through once, and images are read where they lie; compressed tars cannot be.

    Args:
        paths: one file, several, or a folder of .tar files.
        classes: names, in the order in which labels count.

    Returns:
        Ids are the JSON's, or hashes of the images' paths in the tar.

    Raises:
        DataError: a tar that is missing, damaged, cut off or compressed; no images; two images of one path or id.
    """
    files = _tars(paths)
    samples: dict[str, _Sample] = {}
    left_out: Counter[str] = Counter()
    for file in files:
        _index(file, samples, left_out)
    known = [(key, sample) for key, sample in samples.items() if sample.image is not None]
    if not known:
        raise DataError(f"{files[0]}: no images in {'this tar' if len(files) == 1 else f'these {len(files)} tars'}")
    if left_out:
        words = ", ".join(f"{count} {ending}" for ending, count in left_out.most_common(12))
        warnings.warn(f"{files[0]}: files that are left out, being no images: {words}", stacklevel=2)
    values = [sample.label for _, sample in known]
    if all(value is None for value in values):
        folders = [str(PurePosixPath(key).parent) for key, _ in known]
        values = folders if all(one not in ("", ".") for one in folders) else values
        values = [one.split("/")[0] for one in values] if values is folders else values
    labels, classes = labels_of(values, files[0], classes)
    names = [sample.image.name for _, sample in known]
    numbers = [sample.number for _, sample in known]
    told = any(number is not None for number in numbers)
    ids = checked(numbers, names, files[0]) if told else ids_of(names, files[0])
    return Source(tuple(s.image for _, s in known), ids, labels, classes, left_out=dict(left_out))


def _tars(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files = [file for one in map(Path, several) for file in (sorted(one.glob("*.tar")) if one.is_dir() else [one])]
    if not files:
        raise DataError(f"{paths}: no .tar files there")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: no such file")
    return files


def _index(file: Path, samples: dict[str, _Sample], left_out: Counter[str]) -> None:
    seen: set[str] = set()
    size = file.stat().st_size
    cut = f"{file}: damaged tar: it ends inside of "
    try:
        with tarfile.open(file, "r:") as opened:
            for member in opened:
                name = member.name.removeprefix("./")
                if not member.isreg() or any(_litter(part) for part in name.split("/")):
                    continue
                if member.offset_data + member.size > size:
                    raise DataError(f"{cut}{name}; fetch it again")
                key, ending = _key(name)
                if name in seen or (ending in ENDINGS and key in samples and samples[key].image is not None):
                    raise DataError(f"{file}: {name} is a second image of one name; rename it")
                seen.add(name)
                if ending in ENDINGS:
                    place = Slice(file, member.offset_data, member.size, name)
                    samples.setdefault(key, _Sample()).image = place
                elif ending in TOLD and member.size <= MOST_TOLD:
                    told = opened.extractfile(member).read()
                    _tell(samples.setdefault(key, _Sample()), ending, told, f"{file}: {name}")
                else:
                    left_out[ending or "no ending"] += 1
        if size % tarfile.BLOCKSIZE:
            raise DataError(f"{cut}a block; fetch it again")
    except tarfile.ReadError as error:
        raise DataError(f"{file}: no tar, or a compressed one ({error}); unpack it to .tar") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{file}: damaged tar ({error}); fetch it again") from None


def _key(name: str) -> tuple[str, str]:
    """(the name up to the first dot of its last part, from the last dot): WebDataset's key, and the ending."""
    folder, _, last = name.rpartition("/")
    stem = last.split(".", 1)[0]
    return (f"{folder}/{stem}" if folder else stem), os.path.splitext(last)[1].lower()


def _tell(sample: _Sample, ending: str, told: bytes, name: str) -> None:
    try:
        text = told.decode("utf-8").strip()
        if ending == ".cls":
            sample.label = text
        elif ending == ".id":
            sample.number = int(text)
        elif ending == ".json":
            said = json.loads(text)
            if isinstance(said, dict):
                sample.number = said.get("id") if isinstance(said.get("id"), int) else sample.number
                label = said.get("labels", said.get("label", said.get("cls")))
                sample.label = label if sample.label is None else sample.label
    except ValueError as error:
        raise DataError(f"{name}: cannot be read ({error}); mend it") from None
