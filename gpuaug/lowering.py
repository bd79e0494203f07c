"""Lowering: from a list of descriptions to a Program.

`lower` walks the pipeline once, with the set of canvases (H, W) that may stand in front of each op, the channels and
the dtype. Every error of shape or dtype is raised here. What becomes of the canvases, and what ops ask of them, is kept
as the program's track: for inputs of other sizes only that is gone over (`Program.at`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .facts import counts
from .kernels.shared import blend, geometry, plan
from .opcodes import BLENDS, BORDERS, DRAWS, GEOMETRY, NEEDS, PIXEL
from .order import in_order
from .program import OtherProgram, Program
from .tree import KEEP_CANVAS, Call, Canvas, Canvases, Choice, Entry, Event
from .ways import Ways

if TYPE_CHECKING:
    from .mixing import Mix

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
MAX_CHANNELS = 16


class Lowering(Ways):
    """The state of one lowering; what a description's `lower(build)` calls.

    Attributes:
        channels, dtype: those that arrive at the op being lowered.
        width: channels of the engine, see `Program.channels`.
        mix: what the blends so far agree on, None for none.
        streams: how many the draws so far take, with those in front.
        place: of the op being lowered, as the pipeline was written.
        early: a blend is lowered in front of the ops that make floats of uint8, though it stands behind them.
    """

    def __init__(self, canvases: Canvases, channels: int, dtype: torch.dtype, width: int, streams: int = 0):
        self._canvases, self.channels, self.dtype = canvases, channels, dtype
        self.track: list[Callable[[Canvases], Canvases]] = []
        self.width, self.most_channels = width, channels
        self.nodes: list[Entry | Choice] = []
        self.config: list[float] = []
        self.columns: list[str] = []
        self._gate, self._want = -1, 0
        self._lines = self._slot = 0
        self.streams = streams
        self._op = ""
        self._known: dict[tuple, tuple[int, int]] = {}
        self._path: tuple = ()
        self._blend = self._pastes = ""  # the op that blended, or pasted, if one did
        self.mix: Mix | None = None
        self.place, self.early = 0, False

    @property
    def name(self) -> str:
        """The op being lowered, as errors name it."""
        return self._op

    @property
    def bound(self) -> int:
        """The largest pixel value of the stage."""
        return 255 if self.dtype == torch.uint8 else 1

    @contextmanager
    def op(self, index: int, transform) -> Iterator[None]:
        """Name the op being lowered, for columns and errors."""
        op, path = self._op, self._path
        name = type(transform).__name__
        self._op, self._path = f"{path_name(path)}{index}.{name}", (*path, index)
        try:
            yield
        finally:
            self._op, self._path = op, path

    def fail(self, message: str) -> ValueError:
        """An error that names the op."""
        return ValueError(f"{self._op}: {message}")

    def check_canvas(self, fault: Callable[[Canvas], str | None]) -> None:
        """Raise what `fault` says of a canvas (H, W) that may arrive at the op."""
        op = self._op

        def step(canvases: Canvases) -> Canvases:
            for canvas in sorted(canvases):
                if message := fault(canvas):
                    raise ValueError(f"{op}: {message}")
            return canvases

        self._go(step)

    def any_canvas(self, question: Callable[[Canvas], bool]) -> bool:
        """Whether it is so for a canvas (H, W) that may arrive at the op."""
        answer = any(map(question, self._canvases))

        def step(canvases: Canvases) -> Canvases:
            if any(map(question, canvases)) != answer:
                raise OtherProgram
            return canvases

        self.track.append(step)
        return answer

    def _go(self, step: Callable[[Canvases], Canvases]) -> None:
        self._canvases = step(self._canvases)
        self.track.append(step)

    def require_float(self) -> None:
        """Raise unless the stage is floating point."""
        if not self.dtype.is_floating_point:
            raise TypeError(
                f"{self._op}: expects floating-point images but meets {self.dtype}; "
                "put ToDtype(torch.float32, scale=True) in front"
            )

    def require_colour(self) -> None:
        """Raise unless there are 1 or 3 channels."""
        if self.channels not in (1, 3):
            raise TypeError(f"{self._op}: expects images of 1 or 3 channels but meets {self.channels}")

    def by_channel(self, values: Sequence[float]) -> list[float]:
        """One value for each of the stage's channels, as one for each of the engine's."""
        return list(values) * (self.width // len(values))

    def become(self, channels: int) -> None:
        """Change the stage's channels, from 3 to 1 or from 1 to 3."""
        self.channels = channels
        self.most_channels = max(self.most_channels, channels)

    def spread(self, call: Callable[[Sequence[float], Canvas], list[Call]]) -> None:
        """Have three equal channels of one, which `call` describes; an engine of three has them already."""
        self._entry(plan.KIND_NONE, 0, (), None, (), (), call)
        self.become(3)

    def _columns_for(self, names: Sequence[str]) -> tuple[int, int]:
        """First table column and stream number; copies of one op inside RandomOrder share both."""
        key = (self._path, tuple(names))
        if key not in self._known:
            first = len(self.columns)
            self.columns += [f"{self._op}.{n}" for n in names]
            self._known[key] = first, self.streams
            self.streams += 1
            if self.streams >= 4096:
                raise self.fail("a pipeline has at most 4096 draws")
        return self._known[key]

    def _constants(self, values: Sequence[float]) -> int:
        """Append to `config`; returns where."""
        self.config += values
        return len(self.config) - len(values)

    def _entry(self, kind, op, arguments, draw, configuration, names, call=None, sizes=None, **words) -> Entry:
        first, stream = self._columns_for(names) if names else (0, 0)
        arguments = _twelve(arguments)
        config = self._constants(arguments + _twelve(configuration))
        code = [0] * plan.ENTRY
        code[plan.KIND], code[plan.OP], code[plan.DRAW] = kind, op, DRAWS[draw] if draw else 0
        code[plan.STREAM], code[plan.GATE_AT], code[plan.WANT] = stream, self._gate, self._want
        code[plan.COLUMN], code[plan.COLUMNS], code[plan.CONFIG] = first, len(names), config
        code[plan.SLOT], code[plan.BOUND], code[plan.LATTICE] = self._slot, self.bound, int(self.dtype == torch.uint8)
        code[plan.CHANNELS], code[plan.STAGE_CHANNELS] = -1, self.channels
        for word, value in words.items():
            code[getattr(plan, word.upper())] = value
        name = self._op.rsplit(".", 1)[-1]
        entry = Entry(name, self._lines, tuple(code), tuple(arguments), call, sizes, place=self.place, path=self._op)
        self.nodes.append(entry)
        self._lines += 1
        self._slot += kind != plan.KIND_GATE
        return self.nodes[-1]

    def geometry(
        self,
        op: str,
        arguments: Sequence[float] = (),
        *,
        call: Callable[[Sequence[float], Canvas], list[Call]],
        draw: str | None = None,
        configuration: Sequence[float] = (),
        columns: Sequence[str] = (),
        shared: bool = False,
        exact: bool = False,
        border: str = "constant",
        sampling: int = geometry.NEAREST,
        fill: Sequence[float] | None = None,
        mask_fill: float | None = 0,
        sizes: Callable[[Canvas], Iterable[Canvas]] | None = None,
        event: Event | None = None,
    ) -> None:
        """Append a geometry slot.

        Args:
            op: a function of `kernels.shared.geometry`.
            arguments: its fixed arguments, in the order of its `a`; those that `columns` draw come first and are
                ignored here.
            call: (drawn values, canvas) -> the torchvision functional calls that do the same.
            draw, configuration, columns: a function of `kernels.shared.draw`, its configuration, and the columns that
                it draws.
            shared: as `blend`.
            exact: an integer map that never leaves its canvas.
            border, sampling, fill: how to answer outside of the canvas and between pixels; the colour by channel.
            mask_fill: the same of masks; None where the pipeline does not say.
            sizes: canvas -> those that it may become, or their extremes, where that is drawn.
            event: what befalls boxes and keypoints beside.
        """
        self._check_front()
        opcode = GEOMETRY[op]
        channels = -1 if fill is None else self._constants(self.by_channel(fill))
        words = dict(trait=int(exact), border=BORDERS[border], filter=sampling, channels=channels, shared=int(shared))
        found = sizes and (lambda canvas: frozenset(sizes(canvas)))
        entry = self._entry(plan.KIND_GEOMETRY, opcode, arguments, draw, configuration, columns, call, found, **words)
        self.nodes[-1] = entry = replace(entry, mask_fill=mask_fill, event=event)
        if op not in KEEP_CANVAS:
            self._go(lambda canvases: frozenset().union(*map(entry.after, canvases)))

    def pixel(
        self,
        op: str | int,
        arguments: Sequence[float] = (),
        *,
        call: Callable[[Sequence[float], Canvas], list[Call]] | None,
        draw: str | None = None,
        configuration: Sequence[float] = (),
        columns: Sequence[str] = (),
        needs: str = "pixel",
        by_channel: Sequence[Sequence[float]] | None = None,
        mask_fill: float | None = 0,
    ) -> None:
        """Append a pixel slot, as `geometry`.

        Args:
            op: a function of `kernels.shared.pixel`, or the opcode of one of `kernels.shared.user`.
            needs: what the op must know beside the pixel: "mean", "extremes" or "histogram" of the image, its
                "neighbours", or its own "place".
            by_channel: eight arguments for each three channels; those that `columns` draw come first and are ignored.
        """
        if needs not in ("pixel", "place") or (self._pastes and op not in ("convert", "normalize")):
            self._check_front()
        channels = -1 if by_channel is None else self._constants([v for block in by_channel for v in block])
        words = dict(trait=NEEDS[needs], channels=channels)
        entry = self._entry(plan.KIND_PIXEL, PIXEL.get(op, op), arguments, draw, configuration, columns, call, **words)
        self.nodes[-1] = replace(entry, mask_fill=mask_fill)

    def paste(
        self,
        *,
        call: Callable[[Sequence[float], Canvas], dict[str, Any]],
        draw: str,
        configuration: Sequence[float],
        columns: Sequence[str],
    ) -> None:
        """Append an op that copies objects from image to image; behind it stands only what does the same to all images.
        Arguments as `geometry`."""
        self._check_front()
        entry = self._entry(plan.KIND_NONE, 0, (), draw, configuration, columns, call)
        self.nodes[-1] = replace(entry, pastes=True)
        self._blend = self._pastes = self._op

    def temporal(
        self,
        frames: Callable[[torch.Tensor, int], torch.Tensor],
        *,
        draw: str | None = None,
        configuration: Sequence[float] = (),
        columns: Sequence[str] = (),
    ) -> None:
        """Append an op that takes frames of a clip.

        Args:
            frames: (drawn values float32 [N, columns], T) -> the numbers, int64 [N or 1, T'], of the frames taken of
                clips of T. T' may not depend on what was drawn.
            draw, configuration, columns: as `geometry`.
        """
        if self._gate >= 0:
            raise self.fail("an op on frames stands outside of random choices: a clip's length may not be drawn")
        entry = self._entry(plan.KIND_NONE, 0, (), draw, configuration, columns, lambda values, canvas: [])
        self.nodes[-1] = replace(entry, frames=frames)

    def event(self, event: Event, everywhere: bool = False) -> None:
        """Append what befalls boxes or keypoints alone; `everywhere`: it may not hang on a draw.

        Raises:
            ValueError: it stands behind a gate, `everywhere`.
        """
        if everywhere and self._gate >= 0:
            raise self.fail("it stands outside of random choices: all boxes of a batch have one format and one mode")
        self.nodes[-1] = replace(self._entry(plan.KIND_NONE, 0, (), None, (), ()), event=event)

    def _check_front(self) -> None:
        if self._blend:
            why = "behind a blend only ops may stand that need a pixel and its place alone; put the blend behind it"
            raise self.fail(f"{self._blend} stands in front of it, and {why}")

    def blend(
        self,
        op: str,
        mix: Mix,
        *,
        call: Callable[[Sequence[float], Canvas], dict[str, Any]],
        draw: str,
        configuration: Sequence[float],
        columns: Sequence[str],
        shared: bool,
    ) -> None:
        """Append a slot that blends the layers of an output, as `geometry`.

        Args:
            op: a function of `kernels.shared.blend`, whose arguments are what `columns` draw.
            mix: how samples are paired; all blends of a pipeline agree on it.
            call: (drawn values, canvas) -> what the slot's record says beside op and partner.
            shared: it is drawn once for the samples that `mix.per` names.
        """
        if self._blend:
            raise self.fail(f"{self._blend} stands in front of it, and a pipeline has one blend; use RandomChoice")
        if self.mix not in (None, mix):
            raise self.fail("blends of a pipeline must agree on pair, per, num_classes and label_smoothing")
        self._blend, self.mix = self._op, mix
        exact = self.dtype == torch.uint8 and not self.early
        settles = (blend.ROUND if mix.pair else blend.TRUNCATE) if exact else blend.FLOAT
        words = dict(trait=plan.BLEND, shared=int(shared))
        arguments = [0.0] * 7 + [settles]
        self._entry(plan.KIND_PIXEL, BLENDS[op], arguments, draw, configuration, columns, call, **words)

    def to_dtype(self, dtype: torch.dtype, scale: bool) -> None:
        """Change the stage's dtype, scaling values as torchvision's `to_dtype` if `scale`."""

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [("to_dtype", {"dtype": dtype, "scale": scale})]

        before, after = self.dtype, dtype
        factor, truncate = 1.0, 0.0
        if before == torch.uint8 and after.is_floating_point and scale:
            factor = 1.0 / 255.0
        elif before.is_floating_point and after == torch.uint8:
            factor, truncate = 255.999 if scale else 1.0, 1.0
        if before != after:
            self.pixel("convert", (factor, truncate), call=call)
        self.dtype = dtype


def path_name(path: tuple) -> str:
    """The position in nested containers as a prefix, "3.1."."""
    return "".join(f"{i}." for i in path)


def _twelve(values: Sequence[float]) -> list[float]:
    return [float(v) for v in values] + [0.0] * (12 - len(values))


def lower(transforms: Sequence, canvases: Canvases, channels: int, dtype: torch.dtype, streams: int = 0) -> Program:
    """Lower a pipeline for images of the sizes `canvases` (H, W), `channels` and `dtype`.

    Args:
        streams: how many the draws of ops in front take.

    Raises:
        TypeError: a dtype or channel count that an op cannot take.
        ValueError: a size that an op cannot take.
    """
    if dtype not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise TypeError(f"images must be {names}, got {dtype}; convert them first, for example images.float()")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"images must have 1 to {MAX_CHANNELS} channels, got {channels}; is the shape [B, C, H, W]?")
    build = _walk(transforms, canvases, channels, dtype, channels, streams)
    if build.most_channels > channels:
        build = _walk(transforms, canvases, channels, dtype, build.most_channels, streams)
    config = tuple(np.array(build.config, np.float32).tolist())
    nodes = tuple(build.nodes)
    groups, steps, asks = counts(nodes)
    return Program(
        nodes=nodes,
        config=config,
        columns=tuple(build.columns),
        canvases=canvases,
        channels=build.width,
        in_channels=channels,
        out_channels=build.channels,
        in_dtype=dtype,
        out_dtype=build.dtype,
        out_sizes=build._canvases,
        groups=max(groups, 1),
        steps=max(steps, 1),
        asks=asks,
        mix=build.mix,
        track=tuple(build.track),
    )


def _walk(
    transforms: Sequence, canvases: Canvases, channels: int, dtype: torch.dtype, width: int, streams: int
) -> Lowering:
    build = Lowering(canvases, channels, dtype, width, streams)
    for written in in_order(transforms, lambda: build.dtype):
        with ExitStack() as levels:
            for index, transform in written.path:
                levels.enter_context(build.op(index, transform))
            build.place, build.early = written.place, written.early
            written.op.lower(build)
    return build
