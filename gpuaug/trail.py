"""Which way points go: a points program's plans, read forward. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from .inputs import moved
from .kernels.shared import pixel, plan, points
from .kernels.torch import dialect as torch_dialect
from .kernels.torch import elastic
from .program import Program
from .projection import events_of
from .tree import Event

if TYPE_CHECKING:
    from .backends.engine import Engine

MODES = {None: points.NOT, "soft": points.SOFT, "hard": points.HARD, "auto": points.AUTO}
FIELD_BYTES = 1 << 26  # of the displacements that are worked out at once


class Trail:
    """Which way the points of each row go.

    Args:
        program: of `projection.project_points`.
        words: float32 [R, words], the rows' plans in it, on any device.
        canvases: float32 [R, 2], (H, W) of each row's input, on the same device.
        backend: which renderer carries upright boxes and keypoints: "kornia" is torch.

    Attributes:
        groups: int64 [R], how many each row goes through.
        active: bool [R, G]. forward: float64 [R, G, 3, 3], a group's input to output, in continuous coordinates (pixel
            i covers [i, i + 1]); the identity where not active.
        before, after: float32 [R, G, 2], the canvases (H, W). code: int64 [R, G], the class (`kernels.shared.points`).
    """

    def __init__(self, program: Program, words: torch.Tensor, canvases: torch.Tensor, backend: str = "kornia"):
        self.program, self.words, self.canvases, self.backend = program, words, canvases, backend
        self.events = events_of(program)
        self.groups = words[:, plan.N_GROUPS].long()
        self.fields: dict[int, list] = {}

    @classmethod
    def of(
        cls, program: Program, engine: Engine, rows: torch.Tensor, table: torch.Tensor, backend: str = "kornia"
    ) -> Trail:
        """The trail of int64 rows [R, ROW] whose draws `table` float32 [T, P] holds; the engine is of the program,
        maybe at other sizes."""
        canvases = rows[:, plan.ROW_H : plan.ROW_W + 1].float()
        return cls(program, engine.plan(rows, table).words, canvases, backend)

    def until(self, event: Event) -> tuple[Trail, torch.Tensor, torch.Tensor]:
        """The trail up to where an event stands; in which rows it acts, bool [R]; and the canvases there."""
        here = self.active & (self.code == points.EVENT + self.events.index(event))
        part = Trail(self.program, self.words, self.canvases, self.backend)
        place = torch.arange(self.program.groups, device=here.device).expand_as(here)
        part.groups = torch.where(here, place, self.program.groups).amin(1).minimum(self.groups)
        return part, here.any(1), part.canvas_behind(part.groups)

    def canvas_behind(self, groups: torch.Tensor) -> torch.Tensor:
        """The rows' canvases [R, 2] behind so many groups [R]."""
        every = torch.cat((self.canvases[:, None], self.after), 1)
        return every.gather(1, groups.view(-1, 1, 1).expand(-1, 1, 2))[:, 0]

    @cached_property
    def group_words(self) -> torch.Tensor:
        """The groups float32 [R, G, words] (`kernels.shared.plan.G_*`); zero where not active."""
        length = plan.group_words(self.program.channels)
        block = self.words[:, plan.HEADER : plan.HEADER + self.program.groups * length]
        return torch.where(self.active[..., None], block.unflatten(1, (-1, length)), 0.0)

    @cached_property
    def active(self) -> torch.Tensor:
        return torch.arange(self.program.groups, device=self.words.device) < self.groups[:, None]

    @cached_property
    def code(self) -> torch.Tensor:
        return self.group_words[..., plan.G_BORDER].long()

    @cached_property
    def after(self) -> torch.Tensor:
        sizes = torch.cat((self.canvases[:, None], self.group_words[..., plan.G_OH : plan.G_OW + 1]), 1)
        last = torch.arange(sizes.shape[1], device=sizes.device).expand(len(sizes), -1).minimum(self.groups[:, None])
        return sizes.gather(1, last[..., None].expand(-1, -1, 2))[:, 1:]

    @cached_property
    def before(self) -> torch.Tensor:
        return torch.cat((self.canvases[:, None], self.after[:, :-1]), 1)

    @cached_property
    def forward(self) -> torch.Tensor:
        m = [self.group_words[..., i] for i in range(9)]
        n = torch.stack(torch_dialect.POINTS["forward"](m), -1).unflatten(-1, (3, 3))
        half = torch.eye(3, dtype=n.dtype, device=n.device).repeat(2, 1, 1)
        half[0, :2, 2], half[1, :2, 2] = 0.5, -0.5
        moved = half[0] @ n @ half[1]
        moved = moved / (self.group_words[..., 0] * m[4] - m[1] * m[3])[..., None, None]
        return torch.where(self.active[..., None, None], moved, torch.eye(3, dtype=n.dtype, device=n.device))

    @cached_property
    def flags(self) -> int:
        """What the program's slots can ask of a walk (`kernels.shared.points`)."""
        classes = {slot.border for slot in self.program.facts.moves}
        found = points.EXPANDS if points.EXPAND in classes else 0
        found |= points.TURNS if {points.WARP, points.EXPAND} & classes else 0
        found |= points.EVENTS if any(code >= points.EVENT for code in classes) else 0
        found |= points.LAYS if points.LAID in classes else 0
        return found | (points.CUTS if points.CENTRES in classes else 0)

    @cached_property
    def event_words(self) -> torch.Tensor:
        """What the walks read of events, float32 [N, EVENT_WORDS], at least one."""
        lines = [_event_words(event) for event in self.events] or [[0.0] * points.EVENT_WORDS]
        return moved(torch.tensor(lines, dtype=torch.float32, device="cpu"), self.words.device, torch.float32)

    def format_behind(self, format: str) -> str:
        """What boxes of a format come out as."""
        return next((event.values[0] for event in self.events[::-1] if event.kind == points.FORMAT), format)

    def mode_behind(self, mode: str | None) -> str | None:
        """The clamping mode that boxes come out with."""
        names = {number: name for name, number in MODES.items()}
        return next((names[event.values[0]] for event in self.events[::-1] if event.kind == points.MODE), mode)


def _event_words(event: Event) -> list[float]:
    known = event.kind not in (points.FORMAT, points.ARRIVES)
    return [float(event.kind), *(event.values if known else (0.0, 0.0)), 0.0]


def elastic_at(trail: Trail, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In which rows the elastic transform of a pixel step acts, bool [R], and behind how many groups, int64 [R]."""
    at = plan.step_at(trail.program.channels, trail.program.groups, step)
    behind = trail.words[:, at + plan.S_GROUPS]
    on = (trail.words[:, plan.N_STEPS] > step) & (behind <= trail.groups)
    return on, torch.where(on, behind, 0.0).long()


def swayed(trail: Trail, step: int, rows: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Sequence[torch.Tensor]:
    """Where torchvision's approximate inverse of an elastic transform takes whole pixels x, y [M, K] of its canvas."""
    found_x, found_y = x, y
    for part, field in _fields(trail, step):
        place = torch.searchsorted(part, rows).clamp(max=len(part) - 1)
        mine = (part[place] == rows)[:, None]
        row, i_x, i_y = place[:, None].expand_as(x), x.long(), y.long()
        found_x = torch.where(mine, x - field[row, 0, i_y, i_x], found_x)
        found_y = torch.where(mine, y - field[row, 1, i_y, i_x], found_y)
    return found_x, found_y


def _fields(trail: Trail, step: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """What an elastic transform moves the pixels of some rows by, [r, 2, Y, X] in pixels, and the rows; kept on the
    trail where few."""
    if step not in trail.fields:
        (h, w), device = trail.program.sizes.largest, trail.words.device
        on, _ = elastic_at(trail, step)
        every = on.nonzero()[:, 0] if device.type == "cpu" else torch.arange(len(on), device=device)
        parts = every.split(max(1, FIELD_BYTES // (8 * h * w))) if len(every) else ()
        fields = ((part, _field(trail, step, part)) for part in parts)
        if len(parts) > 1:
            return fields
        trail.fields[step] = list(fields)
    return trail.fields[step]


def _field(trail: Trail, step: int, part: torch.Tensor) -> torch.Tensor:
    program = trail.program
    at = plan.step_at(program.channels, program.groups, step) + plan.S_ARGUMENTS
    seeds = at - plan.step_words(program.channels)
    on, behind = elastic_at(trail, step)
    canvas = trail.canvas_behind(behind)[part, :, None, None]
    words = torch.where(on[part, None, None, None], trail.words[part, :, None, None], 0.0)
    numbers = [words[:, k] for k in (seeds, seeds + 1, at + 2, at + 3)]
    sizes = program.sizes.largest, canvas[:, 0], canvas[:, 1], max(_reaches(program))
    return elastic.moved(numbers[:2], numbers[2:], *sizes, words.device) * words[:, at : at + 2]


def _reaches(program: Program) -> list[int]:
    """How far the blurs of the elastic transforms reach."""
    slots = [slot for slot in program.facts.paints if slot.op == pixel.ELASTIC]
    sigmas = [sigma for slot in slots for sigma in program.config[slot.channels + 2 : slot.channels + 4]]
    return [int(torch_dialect.ELASTIC["blur_radius"](sigma)) for sigma in sigmas]


def whole_pixels(values: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """Coordinates as pixels 0 .. most; 0 for NaN."""
    return torch.nan_to_num(values, 0.0).trunc().minimum(most).clamp(min=0.0)
