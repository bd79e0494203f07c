"""Pictures of a run on clips, each a strip of its frames: what the model sees, and its worst mistakes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

import gpuaug as ga
from gpuaug.data import DataError, Loader, Source
from gpuaug.drawing import Tile, contact_sheet
from gpuaug.preview import caption, one_line, strip

from . import evaluating, pictures, runs
from .corrupted import LEFT_OUT
from .metrics import mistakes

SIDE, CLIPS, MOST, FRAMES = 400, 8, 16, 8  # pixels of a strip; clips on a contact sheet, mistakes; frames of a strip


def shown(clip: torch.Tensor) -> torch.Tensor:
    """Of a clip [T, 3, H, W] as many frames as a strip has, evenly spaced."""
    return clip[torch.linspace(0, len(clip) - 1, min(FRAMES, len(clip))).long()]


def write_contact_sheet(
    path: Path,
    augment: ga.Compose,
    source: Source,
    device: torch.device,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    name: str,
    augmented: bool = True,
    epochs: int = 2,
) -> None:
    """A few training clips, spread over the classes, and what the model sees of each in its first ``epochs`` (in one
    of them where nothing is ``augmented``)."""
    epochs = epochs if augmented else 1
    step = max(1, len(source) // CLIPS)
    by_class = torch.argsort(source.labels, stable=True)[step // 2 :: step][:CLIPS]
    rows = []
    for clip, labels, ids in _quietly(Loader(source.subset(by_class.tolist()), 1, device=device, workers=0, max_bad=1)):
        row = [Tile(strip(shown(clip[0])), f"{source.classes[int(labels[0])]}  #{int(ids)}")]
        for epoch in range(epochs):
            params = augment.sample(clip, ids=ids, epoch=epoch)
            seen = augment.apply(clip, params)[0]
            row.append(Tile(strip(shown(seen), mean, std), caption(params.describe(0))))
        rows.append(row)
    when = ("epoch 1" if epochs == 1 else f"epochs 1 to {epochs}") if augmented else "every epoch"
    title = f"{name}: training clips, and what the model sees of them in {when}"
    if rows:
        pictures.write_image(path, contact_sheet(rows, title, one_line(augment), SIDE))


def _quietly(loader: Loader) -> Iterator[tuple]:
    """Its batches; the run has told already what cannot be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        yield from loader


def write_mistakes(path: Path, run: runs.Run, source: Source) -> None:
    """The test clips whose answers were surest and wrong; nothing where one cannot be read."""
    stored, rows = run.predictions, []
    classes, place = run.resolved["classes"], {id: i for i, id in enumerate(source.ids.tolist())}
    wrong = mistakes(*evaluating.answers(stored), classes, MOST)
    for line in wrong:
        i = place[int(stored["ids"][line["index"]])]
        try:
            clip = next(iter(Loader(source.subset([i]), 1, workers=0, strict=True)))[0][0]
        except DataError:
            return
        words = f"said {line['predicted']} ({line['confidence']:.0%}), is {line['true']}"
        name = f"#{int(source.ids[i])}" if source.images is not None else Path(str(source.items[i])).name
        rows.append(Tile(strip(shown(clip)), f"{words}\n{pictures.short(name)}"))
    if not rows:
        blank = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
        rows = [Tile(strip(blank), "None: every answer was right.")]
    pairs = [rows[k : k + 2] for k in range(0, len(rows), 2)]
    title = "The answers that were surest and wrong"
    pictures.write_image(path, contact_sheet(pairs, title, side=SIDE))
