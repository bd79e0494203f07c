"""A Program: a lowered pipeline, which is data, hashable and printable.

Its `code` and `config` are what `gpuaug.kernels.shared.plan.walk` interprets for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from .facts import Facts, Sizes
from .kernels.shared import plan, points
from .kernels.torch import dialect as torch_dialect
from .tree import Call, Canvas, Canvases, Entry, Event, Nodes, Track, canvas_after, entries, tracked

if TYPE_CHECKING:
    from .mixing import Mix

__all__ = ["Call", "Canvas", "Program", "canvas_after"]


SHARED = ("entries", "code", "facts", "pastes", "by_boxes")  # what a program has in common with itself at other sizes


class OtherProgram(Exception):
    """The pipeline lowers to another program for inputs of such a size."""


@dataclass(frozen=True)
class Program:
    """What to do, for any batch of one kind: a tree of slots as data.

    Attributes:
        nodes: the slots and their gates, in the order of the pipeline.
        config: float32 constants that `code` points into.
        columns: a name for each column of the table, "2.RandomAffine.angle".
        canvases: the input sizes (H, W) that it was lowered for.
        channels: of the engine: the most of any stage. Where a stage has one channel and the engine three, all three
            are the same.
        in_channels, out_channels: of the input, of the output.
        out_sizes: the outputs' (OH, OW); the extremes where they are drawn.
        groups, steps, asks: the most geometry groups, pixel steps and asks that any row can have.
        mix: what its blends agree on, None where it has none.
        track: functions from the canvases to those of the output, each of the step before; they raise as lowering does,
            and OtherProgram.
    """

    nodes: Nodes
    config: tuple[float, ...]
    columns: tuple[str, ...]
    canvases: Canvases
    channels: int
    in_channels: int
    out_channels: int
    in_dtype: torch.dtype
    out_dtype: torch.dtype
    out_sizes: Canvases
    groups: int
    steps: int
    asks: int
    mix: Mix | None
    track: Track = field(compare=False, repr=False)

    def at(self, canvases: Canvases) -> Program | None:
        """The program for inputs of other sizes, which shares what does not depend on them; None where it is another.

        Raises:
            ValueError: a size that an op cannot take, as `lower`.
        """
        try:
            out_sizes = tracked(self.track, canvases)
        except OtherProgram:
            return None
        return self.of_sizes(canvases, out_sizes)

    def of_sizes(self, canvases: Canvases, out_sizes: Canvases) -> Program:
        """The program for inputs of other sizes, of which it is known what becomes of them."""
        program = replace(self, canvases=canvases, out_sizes=out_sizes)
        program.__dict__.update({name: getattr(self, name) for name in SHARED})
        return program

    @property
    def out_size(self) -> Canvas | None:
        """The outputs' (OH, OW), None where they differ."""
        return next(iter(self.out_sizes)) if len(self.out_sizes) == 1 else None

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The slots and gates, one for each line of `code`."""
        return tuple(entries(self.nodes))

    @cached_property
    def code(self) -> tuple[int, ...]:
        """`kernels.shared.plan` code: ENTRY whole numbers an entry."""
        return tuple(word for entry in self.entries for word in entry.words)

    @cached_property
    def facts(self) -> Facts:
        """What holds for every row."""
        return Facts(self)

    @cached_property
    def sizes(self) -> Sizes:
        """What holds for every row of inputs of these sizes."""
        return Sizes(self)

    @property
    def plan_words(self) -> int:
        """Length of a row's plan, in float32."""
        return plan.ask_at(self.channels, self.groups, self.steps, self.asks)

    @cached_property
    def pastes(self) -> Entry | None:
        """The op that copies objects from image to image."""
        return next((entry for entry in self.entries if entry.pastes), None)

    @property
    def tiles(self) -> bool:
        """Whether each output is laid out of several samples."""
        return self.mix is not None and self.mix.tiles

    @cached_property
    def shared_columns(self) -> tuple[int, ...]:
        """The columns of draws that samples share."""
        shared = [entry for entry in self.entries if entry.shared]
        return tuple(sorted({i for entry in shared for i in range(entry.column, entry.column + entry.columns)}))

    @property
    def draws_frames(self) -> bool:
        """Whether the frames that are taken of a clip are drawn."""
        return any(entry.columns for entry in self.temporal)

    @cached_property
    def by_boxes(self) -> tuple[Event, ...]:
        """The ops that draw by the boxes that arrive at them (`gpuaug.iou_crop`)."""
        arrivals = (e.event for e in self.entries if e.event is not None and e.event.kind == points.ARRIVES)
        return tuple(dict.fromkeys(arrivals))

    @cached_property
    def temporal(self) -> tuple[Entry, ...]:
        """The ops that take frames of clips."""
        return tuple(entry for entry in self.entries if entry.frames is not None)

    def frames(self, table: torch.Tensor | None, t: int) -> torch.Tensor:
        """Which frames are taken of clips of `t`, for table rows [N, P]; None where they are not drawn. int64 [N or 1,
        T']."""
        chosen = torch.arange(t, device="cpu" if table is None else table.device)[None]
        for entry in self.temporal:
            values = None if table is None else table[:, entry.column : entry.column + entry.columns]
            index = entry.frames(values, chosen.shape[1])
            n = max(len(index), len(chosen))
            chosen = chosen.expand(n, -1).gather(1, index.expand(n, -1))
        return chosen

    def describe(
        self, row: Sequence[float], canvas: Canvas, partners: Sequence[int] = (), t: int | None = None
    ) -> list[dict]:
        """The functional calls that a sample of size `canvas` with the table row `row` gets, in order; of ops on
        frames, which frames of what arrives they take.

        Args:
            partners: the samples that it is blended with; without any, blends of samples do not act.
            t: of a clip, how many frames came in.
        """
        records, layers, lets_through = [], [], torch_dialect.PLAN["lets_through"]
        chains: dict[int, list[dict]] = {}  # of what acts on one layer alone
        for entry in self.entries:
            gate, layer = self.entries[entry.gate_at], 0 if entry.gate_at < 0 else layers[entry.gate_at]
            if entry.gate_at >= 0 and gate.trait == plan.LAYER:
                layer = entry.want
            elif entry.gate_at >= 0 and not lets_through(int(row[gate.column]), entry.want, gate.trait):
                layer = None
            layers.append(layer)
            if layer:
                chains.setdefault(layer, [])
            if entry.call is None or layer is None:
                continue
            values = [float(v) for v in row[entry.column : entry.column + entry.columns]]
            said = entry.call(values, canvas)
            if entry.blends and self.mix.pair is None:
                said = [{**said, "chains": [chains[k] for k in sorted(chains)]}]
            elif entry.blends:
                who = {"partners": list(partners)} if self.mix.tiles else {"partner": next(iter(partners), None)}
                said = [{**who, **said}] if partners else []
            elif entry.pastes:
                said = [{"partner": j, **said} for j in partners]
            elif entry.frames is not None:
                taken = entry.frames(torch.tensor([values], dtype=torch.float32, device="cpu"), t)[0].tolist()
                said, t = [{"frames": taken}], len(taken)
            else:
                said = [{"call": call, "kwargs": kwargs} for call, kwargs in said]
            said = [{"op": entry.name, **record} for record in said]
            if layer:
                chains[layer] += said
            else:
                records += [(entry.place, record) for record in said]
            if entry.moves:
                canvas = canvas_after(entry.op, values + list(entry.arguments[entry.columns :]), canvas)
        return [record for _, record in sorted(records, key=lambda placed: placed[0])]
