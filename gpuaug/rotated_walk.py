"""Rotated boxes on their way through the groups of a trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from . import rotated
from .kernels.shared import plan, points
from .trail import Trail, elastic_at, swayed, whole_pixels
from .tree import Event

Change = Callable[[str], torch.Tensor]


class Step(NamedTuple):
    """A group, as each box [M] meets it.

    Attributes:
        x, y: where its window begins, in pixels of its input.
        before, after: the canvases (h, w).
        window: (h, w), what it cuts out before it resizes.
    """

    on: torch.Tensor
    code: torch.Tensor
    matrix: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    before: tuple[torch.Tensor, ...]
    after: tuple[torch.Tensor, ...]
    window: tuple[torch.Tensor, ...]

    @property
    def resizes(self) -> torch.Tensor:
        """Whether the canvas changes."""
        return _differ(self.before, self.after)


def _differ(one, other) -> torch.Tensor:
    return (one[0] != other[0]) | (one[1] != other[1])


class RotatedWalk:
    """Boxes [M, 5] or [M, 8] of rows [M] of a trail. Formats and modes may differ from box to box on the way: behind a
    gate rows differ in how many groups stand in front of ConvertBoundingBoxFormat.

    Args:
        formats: the boxes' own, then those that they are converted to.
        mode: `kernels.shared.points.NOT`, SOFT or HARD.
    """

    def __init__(self, trail: Trail, rows: torch.Tensor, boxes: torch.Tensor, formats: list[str], mode: float):
        self.trail, self.rows, self.formats = trail, rows, list(dict.fromkeys(formats))
        self.first, self.last = formats[0], formats[-1]
        self.boxes = {name: boxes.new_zeros((len(rows), rotated.LENGTHS[name])) for name in self.formats}
        self.boxes[self.first] = boxes
        self.format = torch.full_like(rows, self.formats.index(self.first))
        self.mode = boxes.new_full((len(rows),), mode)
        self.kept = torch.ones_like(rows, dtype=torch.bool)

    def moved(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The boxes in the last format, and which are kept."""
        trail, program = self.trail, self.trail.program
        elastic = [(step, *elastic_at(trail, step)) for step in range(1, program.steps, 2)]
        for i in range(program.groups + 1):
            for step, on, behind in elastic:
                canvas = trail.canvas_behind(behind)[self.rows].unbind(-1)
                self._set((on & (behind == i))[self.rows], lambda name, s=step, c=canvas: self._swayed(name, s, *c))
            if i < program.groups:
                self._through(self._step(i))
        return self.boxes[self.last], self.kept

    def _set(self, on: torch.Tensor, change: Change) -> None:
        """Change the boxes where `on`, each in the format that it has."""
        for number, name in enumerate(self.formats):
            here = (on & (self.format == number))[:, None]
            self.boxes[name] = torch.where(here, change(name), self.boxes[name])

    def _step(self, i: int) -> Step:
        trail, rows = self.trail, self.rows
        words = trail.group_words[rows, i]
        left, right, top, bottom = words[:, plan.G_WINDOW : plan.G_WIDTH].unbind(-1)
        code = trail.code[rows, i]
        resizes = code == points.WINDOW
        x, y = torch.where(resizes, left, words[:, 2]), torch.where(resizes, top, words[:, 5])
        before, after = (canvas[rows, i].unbind(-1) for canvas in (trail.before, trail.after))
        window = bottom - top + 1.0, right - left + 1.0
        return Step(trail.active[rows, i], code, trail.forward[rows, i], x, y, before, after, window)

    def _through(self, step: Step) -> None:
        present = {slot.border for slot in self.trail.program.facts.moves}
        ways = {
            points.FLIP_X: lambda name: rotated.flipped(self.boxes[name], name, *step.before, False),
            points.FLIP_Y: lambda name: rotated.flipped(self.boxes[name], name, *step.before, True),
            points.RESIZE: lambda name: self._where(name, step.resizes, self._warped(name, step)),
            points.SHIFT: lambda name: rotated.shifted(self.boxes[name], -step.x, -step.y),
            points.PAD: lambda name: self._where(name, step.resizes, self._padded(name, step)),
            points.CROP: lambda name: self._cropped(name, step, step.after),
            points.WINDOW: lambda name: self._resized(name, step),
            points.WARP: lambda name: self._warped(name, step),
            points.EXPAND: lambda name: self._warped(name, step),
        }
        for kind in sorted(present & set(ways)):
            self._set(step.on & (step.code == kind), ways[kind])
        for number, event in enumerate(self.trail.events):
            self._befall(event, step.on & (step.code == points.EVENT + number), *step.after)

    def _where(self, name: str, on: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return torch.where(on[:, None], boxes, self.boxes[name])

    def _padded(self, name: str, step: Step) -> torch.Tensor:
        return rotated.clamped(rotated.shifted(self.boxes[name], -step.x, -step.y), name, *step.after, self.mode)

    def _cropped(self, name: str, step: Step, window) -> torch.Tensor:
        return rotated.cropped(self.boxes[name], name, step.x, step.y, *window, self.mode)

    def _resized(self, name: str, step: Step) -> torch.Tensor:
        cut = self._cropped(name, step, step.window)
        (h, w), (oh, ow) = step.window, step.after
        scale = torch.stack((ow / w, oh / h), -1).repeat(1, 4)
        resized = rotated.warped(cut, name, lambda corners: corners * scale, oh, ow, self.mode)
        return torch.where(_differ(step.window, step.after)[:, None], resized, cut)

    def _warped(self, name: str, step: Step) -> torch.Tensor:
        (h, w), zero = step.before, step.before[0] * 0.0

        def move(corners: torch.Tensor) -> torch.Tensor:
            moved = _carried(step.matrix, corners)
            begins = _carried(step.matrix, torch.stack((zero, zero, w, zero, w, h, zero, h), -1))
            begins = begins.view(-1, 4, 2).amin(1).repeat(1, 4)
            return torch.where((step.code == points.EXPAND)[:, None], moved - begins, moved)

        return rotated.warped(self.boxes[name], name, move, *step.after, self.mode)

    def _swayed(self, name: str, step: int, h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        def move(x: torch.Tensor, y: torch.Tensor):
            return swayed(self.trail, step, self.rows, x, y)

        return sway_rotated(self.boxes[name], name, h, w, self.mode, move)

    def _befall(self, event: Event, on: torch.Tensor, h: torch.Tensor, w: torch.Tensor) -> None:
        """What an event does where `on`."""
        if event.kind == points.CLAMP_BOXES:
            mode = self.mode if event.values[0] == points.AUTO else torch.full_like(self.mode, event.values[0])
            self._set(on, lambda name: rotated.clamped(self.boxes[name], name, h, w, mode))
        elif event.kind == points.MODE:
            self.mode = torch.where(on, event.values[0], self.mode)
        elif event.kind == points.SANITIZE_BOXES:
            for number, name in enumerate(self.formats):
                lost = ~rotated.valid(self.boxes[name], name, h, w, *event.values)
                self.kept = self.kept & ~(on & (self.format == number) & lost)
        elif event.kind == points.FORMAT:
            new = event.values[0]
            for number, name in enumerate(self.formats):
                here = on & (self.format == number)
                if name != new:
                    changed = rotated.converted(self.boxes[name], name, new)
                    self.boxes[new] = torch.where(here[:, None], changed, self.boxes[new])
            self.format = torch.where(on, self.formats.index(new), self.format)


def _carried(matrix: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Corners [M, 8] carried by matrices [M, 3, 3], float32."""
    pairs = corners.view(-1, 4, 2).to(matrix.dtype)
    moved = torch.cat((pairs, torch.ones_like(pairs[..., :1])), -1) @ matrix.transpose(1, 2)
    return (moved[..., :2] / moved[..., 2:]).float().flatten(1)


def sway_rotated(boxes: torch.Tensor, name: str, h, w, mode: torch.Tensor, move: Callable) -> torch.Tensor:
    """Boxes of a rotated format whose centres are displaced on canvases h x w [M], and clamped.

    Args:
        move: of whole pixels x, y [M, 1], where they go.
    """
    boxes = rotated.converted(boxes, name, "CXCYWHR")
    x, y = whole_pixels(boxes[:, :1].ceil(), w[:, None] - 1.0), whole_pixels(boxes[:, 1:2].ceil(), h[:, None] - 1.0)
    boxes = torch.cat((*move(x, y), boxes[:, 2:]), -1)
    return rotated.converted(rotated.clamped(boxes, "CXCYWHR", h, w, mode), "CXCYWHR", name)
