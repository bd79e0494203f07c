"""Tables of samples: CSV and JSON lines of paths, Parquet and Arrow tables with the images in them."""

from __future__ import annotations

import csv as _csv
import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .errors import DataError
from .folders import part_of
from .items import Encoded
from .sources import Source, checked, ids_of, labels_of, told

NAMES = {  # by which a column is known, where it is not named
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "image_path",
        "img",
        "img_path",
    ),
    "image": ("image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "data"),
    "label": ("label", "class", "category", "target", "class_name", "label_name", "fine_label", "cls"),
    "labels": ("labels", "classes", "categories", "targets", "tags"),
    "split": ("split", "part", "subset", "set"),
    "id": ("id",),
}
IN_MEMORY = 1 << 30  # bytes of a Parquet file's images; larger ones go to a file of the temporary folder


def csv(
    path: str | Path,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    separator: str = ";",
) -> Source:
    """A CSV file with a head line and a line a sample: a path, and a label, several, or none.

    Args:
        path: UTF-8; its delimiter is the head line's, of comma, semicolon, tab.
        root: the folder below which the paths are; by default the file's own.
        split: only the samples whose column split says so, by any usual name (``"train"`` finds Training, too).
        columns: of what is which column, where they have no usual name: ``path``, ``label``, ``labels``, ``split``,
            ``id``: ``{"path": "photo", "label": "species"}``.
        classes: names, in the order in which labels count; by default all of the file's, sorted.
        separator: between the names in the column labels.

    Returns:
        Ids are the column id, or hashes of the paths below ``root``.

    Raises:
        DataError: a file or column that is missing, a line that is too short, no samples, the first image missing,
            two samples of one id.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=head.count)
            rows = list(_csv.DictReader(file, delimiter=delimiter, restkey="", restval=None))
    except (OSError, UnicodeDecodeError, _csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8 with a head line") from None
    for i, row in enumerate(rows):
        if None in row.values():
            raise DataError(f"{path}: line {i + 2} has fewer columns than the head line; complete it")
    for row in rows:
        for name in NAMES["labels"] if not columns else (columns.get("labels"),):
            if row.get(name):
                row[name] = [one.strip() for one in row[name].split(separator) if one.strip()]
    return _of_rows(rows, path, root, split, columns, classes)


def jsonl(
    path: str | Path,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
) -> Source:
    """A file with a JSON object a line, whose keys are as the columns of :func:`csv`; ``labels`` is a list."""
    path = Path(path)
    rows = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    rows.append(json.loads(line))
                    if not isinstance(rows[-1], dict):
                        raise DataError(f"{path}: line {number} is no JSON object; write a sample as {{...}}")
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number} is no JSON ({error.msg}); write an object a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return _of_rows(rows, path, root, split, columns, classes)


def _of_rows(rows: list[dict], path: Path, root, split, columns, classes) -> Source:
    if not rows:
        raise DataError(f"{path}: no samples")
    root = path.parent if root is None else Path(root)
    names = {key: None for row in rows for key in row}
    pick = _columns(names, columns, path)
    if pick["path"] is None:
        raise DataError(f"{path}: no column of paths among {', '.join(names)}; name it: columns={{'path': ...}}")
    labels, classes = _labels(rows, pick, path, classes)
    keep = _of_part([row.get(pick["split"]) for row in rows], split, pick["split"], path)
    below, files = [], []
    for i in keep:
        given = str(rows[i].get(pick["path"]) or "")
        if not given:
            raise DataError(f"{path}: sample {i + 1} has no {pick['path']}; complete it")
        if "\\" in given and os.sep == "/":
            given = given.replace("\\", "/")
        file = root / given
        files.append(file)
        below.append(os.path.relpath(file, root) if os.path.isabs(given) else given)
    if not files[0].is_file():
        raise DataError(f"{path}: the first image, {files[0]}, is not there; name the folder of the images: root=...")
    ids = _ids([rows[i].get(pick["id"]) for i in keep] if pick["id"] else None, below, path)
    return Source(tuple(files), ids, None if labels is None else labels[keep], classes)


def _columns(names: Iterable[str], given: Mapping[str, str] | None, path: object) -> dict[str, str | None]:
    """The name of each kind of column, or None."""
    given, names = dict(given or {}), list(names)
    odd = [name for name in given if name not in NAMES] + [name for name in given.values() if name not in names]
    if odd:
        raise DataError(f"{path}: no column {odd[0]!r} among {', '.join(map(str, names))}; see columns=")
    lower = {str(name).lower(): name for name in reversed(names)}
    found = {kind: next((lower[one] for one in usual if one in lower), None) for kind, usual in NAMES.items()}
    return found | given


def _labels(rows: Sequence[dict], pick: dict, path: object, classes: Sequence[str]):
    if pick["labels"]:
        values = [row.get(pick["labels"]) or [] for row in rows]
        values = [list(v) if isinstance(v, (list, tuple)) else [v] for v in values]
        labels, classes = labels_of(values, path, classes)
        return labels, classes
    if pick["label"]:
        return labels_of([row.get(pick["label"]) for row in rows], path, classes)
    return None, tuple(classes)


def _of_part(values: list, split: str | None, column: str | None, path: object) -> list[int]:
    """Positions of the samples of a part, all without ``split``."""
    if split is None:
        keep = list(range(len(values)))
    elif column is None:
        raise DataError(f"{path}: no column split, so there is no {split!r} in it; name it: columns={{'split': ...}}")
    else:
        wanted = part_of(split) or split
        keep = [i for i, value in enumerate(values) if (part_of(str(value)) or str(value)) == wanted]
    if not keep:
        there = f"; its parts are {', '.join(sorted({str(value) for value in values}))}" if values and split else ""
        raise DataError(f"{path}: no samples{'' if split is None else f' of the part {split!r}'}{there}")
    return keep


def _ids(column: list | None, below: Sequence[str], path: object) -> torch.Tensor:
    if column is None:
        return ids_of(below, path)
    numbers = []
    for one in column:
        try:
            numbers.append(int(one))
        except (TypeError, ValueError):
            numbers.append(one)
    return checked(numbers, below, path)


# --- Parquet, Arrow ---------------------------------------------------------------------------------------------------
def bytes_of(cell: Any) -> memoryview | None:
    """The bytes of a binary cell of an Arrow table where they lie; None of null. Arrow's own are signed, and no two
    that differ in that are equal."""
    data = cell.as_buffer()
    return None if data is None else memoryview(data).cast("B").toreadonly()


class Cells(Sequence):
    """Images in a column of an Arrow table, each as its bytes where they lie."""

    def __init__(self, column: Any, names: Sequence[str], root: Path) -> None:
        self.column, self.names, self.root = column, names, root

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Any:
        data = bytes_of(self.column[i])
        return self.root / self.names[i] if data is None else Encoded(self.names[i], data)


def parquet(
    paths: str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
) -> Source:
    """Parquet or Arrow (IPC, Feather) files with a column of images: bytes, or {bytes, path} as Hugging Face has them.

    Arrow files that are not compressed are mapped and read where they lie. Parquet's images are held in memory up to
    1 GiB, and beyond that written once to a file in the temporary folder, which goes with the source. Needs pyarrow.

    Args:
        paths: one file, several with the same columns, or a folder of them.
        root, split, columns, classes: as for :func:`csv`, with ``image`` for the column of images.

    Returns:
        Ids are the column id, or hashes of the paths that come with the images where no two are the same, or the
        rows' numbers.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise DataError("Parquet and Arrow files need pyarrow: pip install pyarrow") from None
    files = _files(paths)
    root = files[0].parent if root is None else Path(root)
    try:
        table = pa.concat_tables([_opened(file, pa) for file in files], promote_options="default")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{files[0]}: cannot be read as Parquet or Arrow ({' '.join(str(error).split())})") from None
    pick = _columns(table.column_names, columns, files[0])
    if pick["image"] is None:
        raise DataError(f"{files[0]}: no column of images among {', '.join(table.column_names)}; name it: columns=...")
    image, below = _images(table.column(pick["image"]), files[0], pa)
    if below is None and pick["path"] not in (None, pick["image"]):
        below = table.column(pick["path"]).to_pylist()
    others = [name for name in {pick[kind] for kind in ("label", "labels", "split", "id")} - {None, pick["image"]}]
    rows = table.select(others).to_pylist()
    if not rows:
        raise DataError(f"{files[0]}: no rows")
    labels, classes = _labels(rows, pick, files[0], classes or _class_names(table.schema, pick["label"]))
    keep = _of_part([row.get(pick["split"]) for row in rows], split, pick["split"], files[0])
    names = [f"{files[0]}: row {i}" if below is None else below[i] for i in keep]
    if pick["id"]:
        ids = _ids([rows[i].get(pick["id"]) for i in keep], names, files[0])
    else:
        ids = torch.tensor(keep, dtype=torch.int64) if below is None else ids_of(names, files[0])
    column = image if len(keep) == len(rows) else image.take(pa.array(keep))
    return Source(Cells(column, names, root), ids, None if labels is None else labels[keep], classes)


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files: list[Path] = []
    for one in map(Path, several):
        inner = [*one.glob("*.parquet"), *one.glob("*.arrow"), *one.glob("*.feather")] if one.is_dir() else [one]
        files += sorted(inner)
    if not files:
        raise DataError(f"{paths}: no .parquet, .arrow or .feather files there")
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file")
    return files


def _opened(file: Path, pa) -> Any:
    with open(file, "rb") as opened:
        magic = opened.read(6)
    if magic[:4] != b"PAR1":
        mapped = pa.memory_map(str(file))
        return (pa.ipc.open_file(mapped) if magic == b"ARROW1" else pa.ipc.open_stream(mapped)).read_all()
    import pyarrow.parquet as pq

    parquet_file = pq.ParquetFile(file)
    about = parquet_file.metadata
    if sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)) <= IN_MEMORY:
        return parquet_file.read()
    handle, spilled = tempfile.mkstemp(suffix=".arrow", prefix="gpuaug-")
    os.close(handle)
    with pa.OSFile(spilled, "wb") as sink, pa.ipc.new_file(sink, parquet_file.schema_arrow) as writer:
        for batch in parquet_file.iter_batches(256):
            writer.write_batch(batch)
    mapped = pa.memory_map(spilled)
    weakref.finalize(mapped, _removed, spilled)
    return pa.ipc.open_file(mapped).read_all()


def _removed(path: str) -> None:
    if os.path.exists(path):
        os.remove(path)


def _images(column: Any, file: Path, pa) -> tuple[Any, list[str] | None]:
    """(a column of bytes, the paths that came with them or None)."""
    below = None
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        if "bytes" not in names:
            raise DataError(f"{file}: images have the fields {', '.join(names)}, and bytes is not among them")
        parts = column.combine_chunks()
        parts = parts if isinstance(parts, pa.StructArray) else pa.concat_arrays(parts.chunks)
        if "path" in names:
            below = parts.field("path").to_pylist()
            below = below if all(below) and len(set(below)) == len(below) else None
        column = pa.chunked_array([parts.field("bytes")])
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DataError(
            f"{file}: images are {column.type}, and bytes are wanted; for a column of paths use csv or jsonl"
        )
    return column, below if below is None else [told(one) for one in below]


def _class_names(schema: Any, label: str | None) -> Sequence[str]:
    """The names of Hugging Face's ClassLabel, which lie in the schema's metadata."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        return tuple(about["names"]) if about["_type"] == "ClassLabel" else ()
    except (KeyError, ValueError, TypeError):
        return ()
