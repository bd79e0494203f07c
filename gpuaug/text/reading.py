"""Texts and their labels from files: CSV, JSON lines, Parquet; alone, or as the parts of a folder."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..data.errors import DataError
from ..data.folders import folders_in, part_of
from ..data.sources import checked, id_of, labels_of

NAMES = {  # by which a column is known, where it is not named
    "text": ("text", "sentence", "sentence1", "review", "content", "utterance", "query", "question", "tweet", "body"),
    "label": ("label", "category", "class", "labels", "target", "intent", "sentiment", "label_text"),
    "id": ("id",),
}
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, eq=False)
class Texts:
    """N texts.

    Attributes:
        texts: strings. ids: int64 [N], not negative: the column id, or a hash of the text and of how many of the same
            stand in front of it, so that a text keeps its id, and its draws, in every order, split and format.
        labels: int64 [N], or None. classes: their names.
    """

    texts: tuple[str, ...]
    ids: torch.Tensor
    labels: torch.Tensor | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, index: Iterable[int]) -> Texts:
        """The samples at these positions, in this order."""
        index = torch.as_tensor(list(index), dtype=torch.int64)
        labels = None if self.labels is None else self.labels[index]
        return replace(self, texts=tuple(self.texts[i] for i in index.tolist()), ids=self.ids[index], labels=labels)

    def each(self, n: int, seed: int = 0) -> Texts:
        """`n` samples of each class, or all where there are fewer, drawn at random, in data order."""
        if self.labels is None:
            raise ValueError("each: these texts have no labels")
        order = np.random.default_rng(seed).permutation(len(self))
        labels = self.labels.numpy()[order]
        return self.subset(sorted(i for k in range(len(self.classes)) for i in order[labels == k][:n]))


class TextParts(NamedTuple):
    """The parts of a data set; `val` and `test` are None where there is none."""

    train: Texts
    val: Texts | None
    test: Texts | None


def read(path: str | Path, *, columns: Mapping[str, str] | None = None, classes: Sequence[str] = ()) -> Texts:
    """The texts of a file: CSV or TSV with a head line, JSON lines of objects, or Parquet (extra ``parquet``).

    Args:
        path: UTF-8. A CSV's delimiter is the head line's, of comma, semicolon, tab.
        columns: of what is which column, where they have no usual name: ``{"text": "phrase", "label": "mood"}``; also
            ``id``.
        classes: names, in the order in which labels count; by default all of the file's, sorted.

    Raises:
        DataError: naming file and line: no such file or column, a line with too few or too many fields, no text, a
            label missing where others have one, one that is not among `classes`, two samples of one id.
    """
    path = Path(path)
    ways = {".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: texts are read from {', '.join(ENDINGS)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    names, rows = ways.get(path.suffix.lower(), _csv)(path)
    pick = _columns(names, columns, path)
    texts, labels, ids = [], [], []
    for line, row in rows:
        text = row.get(pick["text"])
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: line {line} has no {pick['text']}; complete it or leave it out")
        label = row.get(pick["label"]) if pick["label"] else None
        if pick["label"] and label in (None, ""):
            raise DataError(f"{path}: line {line} has no {pick['label']}; complete it or leave it out")
        texts.append(text)
        labels.append(label)
        ids.append(_number(row.get(pick["id"]), path, line) if pick["id"] else None)
    if not texts:
        raise DataError(f"{path}: no samples")
    found, names = labels_of(labels, path, classes)
    if pick["id"] is None:
        ids = _hashes(texts)
    return Texts(tuple(texts), checked(ids, [f"sample {i + 1}" for i in range(len(ids))], path), found, names)


def open_parts(root: str | Path, *, columns: Mapping[str, str] | None = None, classes: Sequence[str] = ()) -> TextParts:
    """The parts of a folder with train.csv and, if there are any, val.csv and test.csv, by any usual name of a part and
    in any format of :func:`read`; or a file alone, which is all train. Classes count as in train.

    Raises:
        DataError: no train file, two files for a part, or what `read` raises.
    """
    root = Path(root)
    if root.is_file():
        return TextParts(read(root, columns=columns, classes=classes), None, None)
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder")
    files: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        part = part_of(path.stem)
        if part and path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            if part in files:
                raise DataError(f"{root}: both {files[part].name} and {path.name} would be {part}; remove one")
            files[part] = path
    if "train" not in files:
        raise DataError(f"{root}: no train.csv or the like in it; texts are read from {', '.join(ENDINGS)}")
    train = read(files["train"], columns=columns, classes=classes)
    rest = {
        part: read(files[part], columns=columns, classes=train.classes) if part in files else None
        for part in ("val", "test")
    }
    return TextParts(train, **rest)


def is_text(root: str | Path) -> bool:
    """Whether a data set is one of texts: a file of :func:`read`, or a folder with one called train, as `open_parts`
    takes it, and with no folders in it, as images have."""
    root = Path(root)
    if root.is_file():
        return root.suffix.lower() in ENDINGS
    if not root.is_dir() or folders_in(root):
        return False
    return any(part_of(path.stem) == "train" and path.suffix.lower() in ENDINGS for path in root.iterdir())


Rows = tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]  # names of columns; a line's number, and it


def text_of(path: Path) -> str:
    """A file's text; what is not UTF-8 is told by its line."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 ({error.reason}); save the file as UTF-8") from None


def _csv(path: Path) -> Rows:
    lines = text_of(path).splitlines(keepends=True)
    head = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=max(",;\t", key=head.count), strict=True)
    names = next(reader, [])
    if not names:
        raise DataError(f"{path}: empty; a head line names the columns")

    def rows():
        begins = reader.line_num + 1
        try:
            for fields in reader:
                if fields:
                    if len(fields) != len(names):
                        few = "fewer" if len(fields) < len(names) else "more"
                        mend = "complete it" if few == "fewer" else "put quotes around a text with commas"
                        raise DataError(f"{path}: line {begins} has {few} fields than the head line; {mend}")
                    yield begins, dict(zip(names, fields, strict=True))
                begins = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}: line {begins} is no CSV ({error}); mend its quotes") from None

    return names, rows()


def _jsonl(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: line {number} is no JSON ({error.msg}); write an object a line") from None
            if not isinstance(rows[-1][1], dict):
                raise DataError(f"{path}: line {number} is no JSON object; write a sample as {{...}}")
    return list({name: None for _, row in rows for name in row}), iter(rows)


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'gpuaug[parquet]'") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise DataError(f"{path}: no Parquet file that can be read ({error})") from None
    return table.column_names, iter(list(enumerate(table.to_pylist(), 1)))


def _columns(names: list[str], given: Mapping[str, str] | None, path: Path) -> dict[str, str | None]:
    """The name of each kind of column, or None."""
    given = dict(given or {})
    odd = [kind for kind in given if kind not in NAMES]
    if odd:
        raise DataError(f"{path}: columns= names {', '.join(NAMES)}, got {odd[0]!r}")
    odd = [name for name in given.values() if name not in names]
    if odd:
        raise DataError(f"{path}: no column {odd[0]!r} among {', '.join(map(str, names))}")
    lower = {str(name).strip().lower(): name for name in reversed(names)}
    found = {kind: next((lower[one] for one in usual if one in lower), None) for kind, usual in NAMES.items()} | given
    if found["text"] is None:
        told = f"no column of texts among {', '.join(map(str, names))}; name it"
        raise DataError(f"{path}: {told}: columns={{'text': ...}}, or --text-column")
    return found


def _number(value: Any, path: Path, line: int) -> int:
    """A sample's own id."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < 2**63:
        raise DataError(f"{path}: line {line}: the id {value!r} is no whole number in 0 .. 2^63 - 1")
    return number


def _hashes(texts: Sequence[str]) -> list[int]:
    """An id a text: of equal ones each has its own."""
    seen: Counter[str] = Counter()
    found = []
    for text in texts:
        found.append(id_of(text if not seen[text] else f"{text}\0{seen[text]}"))
        seen[text] += 1
    return found
