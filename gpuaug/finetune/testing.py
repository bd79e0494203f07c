"""A fine-tuned model tested on a data set: its own or another one, whose classes are found by their names."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gpuaug.data import DataError, Loader, Source, csv, folder, jsonl, open_parts, parquet
from gpuaug.data.folders import held_parts
from gpuaug.data.sources import ids_of
from gpuaug.messages import meant

from . import corrupted, feed, models
from .config import Config
from .corrupted import LEFT_OUT
from .feed import Feed, Input
from .metrics import Evaluation
from .predicting import answered, predict
from .task import with_validation

if TYPE_CHECKING:
    from .saved import Classifier

PARTS = ("train", "val", "test")
TABLES = {".csv": csv, ".tsv": csv, ".jsonl": jsonl, ".parquet": parquet}
BATCH_SIZE = 64
NAMED = 8  # classes, or files, in one line


# --- the data ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Data:
    """What a model is tested on.

    Attributes:
        name: of the data set. pieces: (what it is called, its samples); their classes may differ. root: of the files'
            ids where there are several pieces. told: where they come from, in words.
    """

    name: str
    pieces: list[tuple[str, Source]]
    root: Path | None
    told: list[str]


def opened(
    data: str | Path | Source,
    part: str | None = None,
    config: Config | None = None,
    *,
    read: Callable[[Path], Source] | None = None,
    what: str = "images",
) -> Data:
    """A part of a data set, "train", "val", "test" or "all".

    Args:
        data: a folder, "digits", a .csv, .jsonl or .parquet file, or a Source, which has no parts.
        part: None: of data that have parts the test part, else all. Of class folders that are in no part, it is what
            finetune would set aside for it.
        config: of the run, which says what finetune would set aside to validate; None: nothing was said.
        read: opens a folder of class folders that hold no images, but ``what``.

    Raises:
        DataError: there are no such data, or no such part in it.
    """
    if part not in (None, "all", *PARTS):
        raise ValueError(f"part must be one of {', '.join(PARTS)}, all; got {part!r}{meant(part, (*PARTS, 'all'))}")
    own, read = read, read or (lambda place: folder(place, single=True))
    if isinstance(data, Source):
        if part not in (None, "all"):
            raise ValueError(f"part={part!r}: a Source has no parts; hand over the one that is meant, and leave it out")
        return Data(what, [("all", data)], None, [])
    path = Path(data)
    if str(data) != "digits" and path.suffix.lower() in TABLES and not path.is_dir():
        return _of_table(path, part)
    if str(data) != "digits":
        there, name = held_parts(path), path.resolve().name
        wanted = part or ("test" if there else "all")
        if wanted == "all":
            names = there.values() or [""]
            pieces = [(one or "all", read(path / one)) for one in names]
            return Data(name, pieces, path, [f"all {what}: the folders {', '.join(names)}" if there else f"all {what}"])
        found = there.get(wanted) or (there.get("val") if wanted == "test" else None)
        if found is not None:
            lacking = "" if wanted in there else ", there is none of tests"
            return Data(name, [(wanted, read(path / found))], path, [f"the folder {found}{lacking}"])
    parts, _ = with_validation(config or Config(), open_parts(data, None, 0.0, opened=own))
    return of_parts(parts, part or "test", "which finetune sets aside: the same ones each time")


def of_parts(parts, part: str, words: str, noun: str = "image") -> Data:
    """A part of opened ones. Raises DataError where there is none."""
    every = {"train": parts.train, "val": parts.val, "test": parts.test}
    pieces = [(name, one) for name, one in every.items() if one is not None and part in (name, "all")]
    if not pieces:
        raise DataError(
            f"{parts.name}: there is no {part} part, as finetune sets none aside here; choose part=test or part=all"
        )
    return Data(parts.name, pieces, None, [f"all {noun}s" if part == "all" else f"the {part} part, {words}"])


def _of_table(path: Path, part: str | None) -> Data:
    split = None if part == "all" else part
    if part is None:
        with contextlib.suppress(DataError):  # it has no column split, or no test part in it
            return Data(path.stem, [("test", TABLES[path.suffix.lower()](path, split="test"))], None, ["its test part"])
    source = TABLES[path.suffix.lower()](path, split=split)
    return Data(path.stem, [(part or "all", source)], None, [f"its {split} part" if split else "all images"])


# --- the classes ------------------------------------------------------------------------------------------------------
def matched(
    data: Data, classes: Sequence[str], several: bool, ignore_unknown: bool = False, noun: str = "image"
) -> tuple[Source, list[str]]:
    """(all samples, labelled by their places in ``classes``, what is to be said of it).

    Classes are the same where their names are. Not each has to be there; one that is not among ``classes`` is an error,
    or its samples are left out. ``several``: whether labels shall be float [N, K].

    Raises:
        DataError: no labels; unknown classes; several labels a sample, where the model tells one.
    """
    found, told = [], []
    for _, source in data.pieces:
        if source.labels is None:
            raise DataError(f"{data.name}: its {noun}s have no labels; gpuaug predict tells their classes")
        there = feed.counts(source) > 0
        unknown = [c for c, has in zip(source.classes, there.tolist(), strict=True) if has and c not in classes]
        if unknown and not ignore_unknown:
            raise DataError(_unknown(data.name, unknown, classes, noun))
        found.append(_relabelled(data.name, source, classes, several))
        if unknown:
            left = len(source) - len(found[-1])
            told.append(f"left out: {left:,} {noun}s of classes that the model does not know, {_listed(unknown)}")
        if several and source.labels.ndim == 1:
            told.append(f"each {noun} has one class, and counts as none of the others")
    joined = found[0] if len(found) == 1 else _joined(found, data.root)
    if not len(joined):
        raise DataError(f"{data.name}: no {noun} is of a class that the model knows: {_listed(classes)}")
    there = (feed.counts(joined) > 0).tolist()
    if not all(there):
        some = [name for name, has in zip(classes, there, strict=True) if has]
        rest = "the others are still answers" if not several else "the others are absent throughout"
        told.append(f"{len(some)} of the model's {len(classes)} classes are there, {_listed(some)}; {rest}")
    return joined, list(dict.fromkeys(told))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f", ... ({len(names)})" if len(names) > NAMED else "")


def _unknown(name: str, unknown: Sequence[str], classes: Sequence[str], noun: str) -> str:
    return (
        f"{name}: the model does not know the class{'es' * (len(unknown) > 1)} {_listed(unknown)}"
        f"{meant(unknown[0], classes)}; it knows {_listed(classes)}. Rename what is meant, or leave the {noun}s out: "
        "--ignore-unknown"
    )


def _relabelled(name: str, source: Source, classes: Sequence[str], several: bool) -> Source:
    """The samples of known classes, labelled by their places in ``classes``."""
    place = torch.tensor([classes.index(c) if c in classes else -1 for c in source.classes], dtype=torch.int64)
    labels, known = source.labels, place >= 0
    if labels.ndim > 1:
        hot = labels.new_zeros(len(labels), len(classes))
        hot[:, place[known]] = labels[:, known]
        keep = labels[:, known].any(1) | ~labels.any(1)  # one without any label is none of what the model knows
        if several:
            return replace(source, labels=hot.float(), classes=tuple(classes)).subset(keep.nonzero()[:, 0].tolist())
        if not (hot[keep].sum(1) == 1).all():
            raise DataError(f"{name}: images with several labels or none, and the model tells one; give each just one")
        labels = hot.argmax(1)
    else:
        keep, labels = known[labels], place[labels]
    kept = replace(source, labels=labels, classes=tuple(classes)).subset(keep.nonzero()[:, 0].tolist())
    if not several:
        return kept
    return replace(kept, labels=torch.nn.functional.one_hot(kept.labels, len(classes)).float())


def _joined(sources: Sequence[Source], root: Path | None) -> Source:
    """All samples of all; those of files have the ids of their paths below ``root``."""
    tensors = all(source.images is not None for source in sources)
    items = [source.items for source in sources]
    items = torch.cat(items) if tensors else tuple(one for some in items for one in some)
    ids = torch.cat([source.ids for source in sources])
    if root is not None and not tensors:
        ids = ids_of([Path(getattr(one, "path", one)).relative_to(root).as_posix() for one in items], root)
    return replace(sources[0], items=items, ids=ids, labels=torch.cat([source.labels for source in sources]))


# --- the test ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Alone:
    """What is asked of an Accelerator, in a process of its own."""

    device: torch.device
    precision: str = "no"
    num_processes: int = 1

    def autocast(self) -> contextlib.AbstractContextManager:
        dtype = feed.DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "no")


@dataclass(frozen=True, eq=False)
class Tested:
    """What a model made of a data set.

    Attributes:
        evaluation: its figures, of its task's class. predicted: its answers, as the task keeps them. source: the
            samples. bad: what is wrong with each image that was
            left out.
    """

    evaluation: Any
    predicted: Any
    source: Source
    bad: list[str]


def input_of(model: Classifier, precision: str = "no") -> Input:
    """What the model wants, of images of any sizes: a resize leaves those of the right one as they are."""
    return model._input(feed.DTYPES[precision], memory_format=models.layout(model.device))


def evaluate(
    model: Classifier,
    source: Source,
    *,
    tta: str = "none",
    batch_size: int = BATCH_SIZE,
    workers: int = 2,
    precision: str = "no",
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tested:
    """Test a classifier on samples that are labelled as :func:`matched` does; ``progress`` wraps the batches, as tqdm.

    Images that cannot be read are left out. Raises DataError where none can.
    """
    if tta not in ("none", "flip"):
        raise ValueError(f"tta must be one of none, flip; got {tta!r}")
    input = input_of(model, precision)
    loader = Loader(source, batch_size, input.plain(), device=model.device, workers=workers, max_bad=1.0)
    feeding = _Counted(model.feed(loader, input.size), progress)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        made = predict(model.model, feeding, Alone(model.device, precision), tta)
    made = model.collected(made, source)
    return Tested(Evaluation.of(made.outputs, made.labels, model.classes), made, source, list(loader.report.bad))


def robustness_of(
    model: Classifier, source: Source, n: int, how: dict[str, Any], progress: Callable[[Iterable], Iterable]
) -> tuple[dict[str, Any], Source]:
    """As :func:`gpuaug.finetune.corrupted.measure`, of a loaded model."""
    alone, input = Alone(model.device, how["precision"]), input_of(model, how["precision"])

    def answers(x: torch.Tensor) -> torch.Tensor:
        with alone.autocast():
            return answered(model.model, x, how["tta"]).float()

    config = Config(workers=how["workers"])
    return corrupted.measure(answers, source, n, input, config, how["batch_size"], model.device, progress)


class _Counted:
    """A feed whose batches a bar counts. Raises DataError where there is none."""

    def __init__(self, feed: Feed, progress: Callable[[Iterable], Iterable]):
        self.feed, self.progress, self.loader = feed, progress, feed.loader

    def __len__(self) -> int:
        return len(self.feed)

    def __iter__(self) -> Iterator[tuple]:
        none = True
        for batch in self.progress(self.feed):
            none = False
            yield batch
        if none:
            raise DataError(f"none of {len(self.loader.source)} images can be read; {self.loader.report.bad[0]}")
