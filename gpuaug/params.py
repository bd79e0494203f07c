"""What a pipeline drew for a batch: a value, which describes itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .keys import VIEWS, whole
from .mixing import neighbours, partner
from .program import Canvas, Program


class Calls(list):
    """What `Params.describe` tells, a list of dicts that prints as one call a line."""

    def __str__(self) -> str:
        return "\n".join(map(_call, self)) or "nothing: the image stays as it is"

    def __reduce__(self) -> tuple:
        return Calls, (list(self),)


torch.serialization.add_safe_globals([Calls])  # torch.load takes descriptions where gpuaug is imported


def _call(record: dict) -> str:
    said = record["kwargs"] if "kwargs" in record else {k: v for k, v in record.items() if k not in ("op", "call")}
    arguments = ", ".join(f"{name}={value!r}" for name, value in said.items())
    return f"{record['call']}({arguments})  # {record['op']}" if "call" in record else f"{record['op']}({arguments})"


@dataclass(frozen=True)
class Params:
    """What a pipeline drew for a batch.

    Attributes:
        table: float32 [B, P], a row a sample; [V, B, P] of several views.
        columns: P names, "2.RandomAffine.angle". A column of an op that did not act holds 0.
        sizes: each sample's (H, W).
        frames: of the clips that came in; None for images.
    """

    table: torch.Tensor
    columns: tuple[str, ...]
    program: Program
    sizes: tuple[Canvas, ...]
    frames: int | None = None

    def describe(self, i: int, view: int = 0) -> Calls:
        """The functional calls that sample `i` gets, in order; with several views, in the `view`-th of them. Printed,
        it is a call a line.

        Each is {"op": class name, "call": name in torchvision.transforms.v2.functional, "kwargs": all of its
        arguments}; what did not act is absent. torchvision takes words for an interpolation since 0.28; an earlier one
        replays with InterpolationMode(word). Of an op on a clip's frames it is {"op": class name, "frames": the
        numbers of those that it takes}; of MixUp and CutMix {"op", "partner", "lam"} and CutMix's "box", of
        AugMix {"op", "weights", "chains"}; of Mosaic
        {"op", "partners", "center", "size"}; of CopyPaste {"op", "partner", "seeds"}. Reads the table from the device.

        Raises:
            ValueError: a table, made by hand, with values that are not finite.
        """
        row = (self.table if self.table.dim() == 2 else self.table[view])[i].tolist()
        mix, n = self.program.mix, len(self)
        for name, value in zip(self.columns, row, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"describe: sample {i} has {name} = {value}, which no call takes")
        others = [] if mix is None else neighbours(i % n, n, mix)
        if self.program.pastes is not None and n > 1:
            others = [partner(i % n, n, "roll")]
        return Calls(self.program.describe(row, self.sizes[i], others, self.frames))

    @property
    def matrix(self) -> torch.Tensor:
        """From pixels of the input to those of the output, float32 [B, 3, 3] ([V, B, 3, 3] of several views) for (x, y,
        1) with a pixel's index as its place; on the table's device.

        Raises:
            ValueError: geometry that is no projective map: an elastic transform, a mosaic.
        """
        from .undo import matrix_of_params

        return matrix_of_params(self)

    def __len__(self) -> int:
        return self.table.shape[-2]


def one_view(params: Params, view: int) -> torch.Tensor:
    """The table [B, P] of one of the views."""
    n = params.table.shape[0] if params.table.dim() == 3 else 0
    if whole("view", view, VIEWS) >= n:
        raise ValueError(f"view must be one of the {n} views of params, got {view}; sample with views=")
    return params.table[view]


def check_params(
    params: Params, table: torch.Tensor, program: Program, draws: tuple[int, ...], sizes: Sequence[Canvas]
) -> None:
    """Raise on params of another pipeline, batch or size than of a recipe with such a program, draws and sizes."""
    found, needs = tuple(table.shape), (*draws, len(program.columns))
    if found != needs:
        raise ValueError(
            f"params hold a table of {found}, and this pipeline and batch need {needs}; draw them by sample()"
        )
    for theirs, own in zip(params.columns, program.columns, strict=True):
        if theirs != own:
            raise ValueError(f"params were drawn by another pipeline: {theirs} stands for {own}; draw them by sample()")
    for (h, w), (own_h, own_w) in zip(params.sizes, sizes, strict=True):
        if (h, w) != (own_h, own_w):
            raise ValueError(
                f"params were drawn for images of {h}x{w}, and these are {own_h}x{own_w}; draw them by sample()"
            )
