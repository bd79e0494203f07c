"""Copy-paste: objects of one sample on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lowering import Lowering
from ..program import Canvas
from .base import Transform

COLUMNS = ("seed0", "seed1", "applied")


@dataclass(frozen=True)
class CopyPaste(Transform):
    """Paste objects of the sample in front, in the batch, by their masks (Ghiasi et al., "Simple Copy-Paste", arXiv
    2012.07177; torchvision's reference for detection).

    Needs masks of instances beside images of one size, as `augment(images, masks=.., boxes=.., labels=..)`, or samples
    that have them. Of the N objects of its partner, which has been moved by its own draws, each sample gets those that
    N draws with replacement name. What is pasted hides what is there: masks lose its pixels; boxes of objects that lost
    some become the smallest about what is left, objects of which nothing is left are dropped (in a padded batch: an
    empty mask and NaN). Pasted objects stand behind the own ones, with their labels. `gpuaug.paste.chosen` says which,
    for `describe`'s {"op": "CopyPaste", "partner": j, "seeds": (a, b)}.

    Behind it only `ToDtype` and `Normalize` may stand.
    """

    def lower(self, build: Lowering) -> None:
        def call(values: Sequence[float], canvas: Canvas) -> dict:
            return {"seeds": tuple(values[:2])}

        build.paste(call=call, draw="draw_seeds", configuration=(1.0, 1.0), columns=COLUMNS)
