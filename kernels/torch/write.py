"""The pixels of all rows at once, in torch: the plan's walk as gathers and arithmetic that autograd can follow.

What the plans hold stays on the device; the host knows a `Layout` alone, and works through group and step numbers under
masks. A smooth group is resampled from a float32 image of the canvas in front of it (its *front*), so that pixel steps
in front run once a pixel, not once a tap. Where a row's image is kept for an ask, its story goes on from there, as if
that image were its source. The bits of a row depend on neither the batch nor the padding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..shared import geometry, pixel, plan
from .asks import colour, equalize, equalize_table, extremes, mean_grey, neighbourhood
from .dialect import GEOMETRY, formula
from .elastic import elastic
from .layout import Layout, Stage
from .sample import Resampler, answer, deep, grid, through, whole

INFINITY = float("inf")
NEIGHBOURS = (pixel.SHARPNESS, pixel.BLUR_X, pixel.BLUR_Y, pixel.JPEG, pixel.ELASTIC_NOISE, pixel.ELASTIC)
MEAN_AT = 7  # which arguments a statistic becomes
EXTREMES_AT = 0


@dataclass(frozen=True)
class Plane:
    """Pixels that are being written: coordinates x, y [R, Y, X] behind the first `groups` [R, 1, 1] groups, and where
    they may be born."""

    x: torch.Tensor
    y: torch.Tensor
    groups: torch.Tensor


@dataclass(frozen=True)
class Reach:
    """How far a story is told: behind so many groups and steps [R, 1, 1], the first smooth group being `smooth`; and
    the most groups and steps of any row."""

    groups: torch.Tensor
    steps: torch.Tensor
    smooth: torch.Tensor
    most_groups: int
    most_steps: int


class Writer:
    """One run: sources, rows and plans of R images.

    Args:
        layout: of the plans' program.
        flat: the sources' memory from where the rows' offsets count, one axis.
        rows: int64 [R, ROW].
        plans: float32 [R, PLAN], as `plan.walk` writes them.
        remap: bilinear interpolation of [R, C, H, W] at x, y [R, OH, OW] in pixels, 0 outside.
    """

    def __init__(self, layout: Layout, flat: torch.Tensor, rows: torch.Tensor, plans: torch.Tensor, remap: Callable):
        self.layout, self.flat, self.rows, self.remap = layout, flat, rows, remap
        r, group_words, step_words = len(rows), plan.group_words(layout.channels), plan.step_words(layout.channels)
        ends = (plan.HEADER, layout.groups * group_words, layout.steps * step_words, len(layout.asks) * plan.ASK)
        header, groups, steps, asked = plans[:, : sum(ends)].split(ends, 1)
        self.header = header[:, :, None, None].unbind(1)
        self.groups = groups.view(r, layout.groups, group_words)
        self.steps = steps.view(r, layout.steps, step_words)
        self.asked = asked.view(r, len(layout.asks), plan.ASK)
        self.tables: dict[int, torch.Tensor] = {}
        self.kept: torch.Tensor | None = None  # where stories go on from: images [R, C, *canvas]
        self.first_group = self.first_step = torch.zeros_like(self.header[plan.N_GROUPS])
        self.behind = False  # of a blend: no step that is left asks for anything

    def write(self, size: tuple[int, int], padded: bool = False) -> torch.Tensor:
        """The images float32 [R, C, OH, OW]; of a program with a blend, as they are in front of it.

        Args:
            padded: the upper left part of them has sizes of its own.
        """
        header, layout, self.size = self.header, self.layout, None if padded else torch.Size(size)
        smooth = header[plan.SMOOTH]
        if not layout.inline:
            for k in range(len(layout.asks)):
                self.hear(k)
        elif layout.asks:  # the story begins at the source for all that, and an ask stands behind all geometry
            smooth = torch.where(header[plan.N_ASKS] > 0, self.asked[:, 0, plan.A_SMOOTH, None, None], smooth)
        reach = (header[plan.N_GROUPS], header[plan.FRONT if layout.blends else plan.N_STEPS], smooth)
        return self.image(size, Reach(*reach, layout.groups, layout.steps))

    # --- asks that geometry follows -----------------------------------------------------------------------------------
    def hear(self, k: int) -> None:
        """Answer ask k of each row that has one, by its story up to there."""
        ask, on = self.layout.asks[k], self.header[plan.N_ASKS] > k
        words = torch.where(on[:, 0], self.asked[:, k], 0.0)
        step, groups, h, w, kind, smooth, _, _ = words[:, :, None, None].unbind(1)
        most = min(ask.groups, self.layout.groups)  # an ask counts a drawn order's geometry once for each position
        image = self.image(self.layout.canvas, Reach(groups, step, smooth, most, ask.steps))
        x, y = grid(self.layout.canvas, image.device)
        inside = (x < w) & (y < h)
        at = step[:, :, 0].long()[:, :, None].expand(-1, 1, self.steps.shape[2])
        own = self.steps.gather(1, at)[:, 0, :, None, None].unbind(1)
        after = image
        for (trait, op), stage in ask.ops.items():
            here = on & (kind == trait) & (own[plan.S_OP] == op)
            stage = stage or _stage(own)
            if trait == plan.MEAN:
                self.note(here, step, mean_grey(image, inside, stage, h * w), MEAN_AT)
            elif trait == plan.EXTREMES:
                self.note(here, step, extremes(image, inside), EXTREMES_AT)
            elif trait == plan.HISTOGRAM:
                table = equalize_table(image, inside, stage.lattice)
                self.tables[k] = torch.where(here, table, self.tables.get(k, table))
            else:
                value = self.safely(here, here, list(own[plan.S_ARGUMENTS :][:8]), image)
                value = self.near_step(op, value[1], value[0], own, at, stage, h, w)
                after = torch.where(here[:, None], value, after)
        if self.layout.resumes or after is not image:
            neighbours = on & (kind == plan.NEIGHBOURS)
            kept = on if self.layout.resumes else neighbours
            self.keep(kept, after, groups, step + neighbours.float())

    def near_step(self, op: int, image, p, step, number: torch.Tensor, stage: Stage, height, width) -> torch.Tensor:
        """What a step, `number` [R, 1, words] of its row, makes of an image and its neighbours."""
        if op == pixel.ELASTIC_NOISE:  # which the step behind it draws
            return image
        if op == pixel.ELASTIC:
            before = self.steps.gather(1, (number - 1).clamp(min=0))[:, 0, :, None, None].unbind(1)
            seeds = before[plan.S_ARGUMENTS : plan.S_ARGUMENTS + 2]
            return elastic(image, step, seeds, stage, height, width, self.layout.elastic)
        return neighbourhood(op, image, p, stage, height, width, self.layout.radii)

    def note(self, here: torch.Tensor, step: torch.Tensor, fact: torch.Tensor, at: int) -> None:
        """Write `fact` [R, n] into the arguments of a row's step, from argument `at` on."""
        first, (n, words) = plan.S_ARGUMENTS + at, (fact.shape[1], self.steps.shape[2])
        numbers = torch.arange(self.layout.steps, device=fact.device)[None, :, None]
        column = torch.arange(words, device=fact.device)
        on = here & (numbers == step) & (column >= first) & (column < first + n)
        fact = torch.nn.functional.pad(fact, (first, words - first - n))[:, None]
        self.steps = torch.where(on, fact, self.steps)

    def keep(self, kept: torch.Tensor, image: torch.Tensor, groups: torch.Tensor, steps: torch.Tensor) -> None:
        """From now on, the stories of some rows begin with these images, behind so many groups and steps."""
        old = self.read(*grid(self.layout.canvas, image.device)) if self.kept is None else self.kept
        self.kept = torch.where(kept[:, None], image, old).contiguous()
        self.first_group = torch.where(kept, groups, self.first_group)
        self.first_step = torch.where(kept, steps, self.first_step)
        _, c, h, w = self.kept.shape
        self.flat, self.rows = self.kept.view(-1), torch.zeros_like(self.rows)
        self.rows[:, plan.ROW_SOURCE] = torch.arange(len(self.rows), device=image.device) * (c * h * w)
        words = (plan.ROW_H, plan.ROW_W, plan.ROW_STRIDE_C, plan.ROW_STRIDE_Y, plan.ROW_STRIDE_X)
        for word, value in zip(words, (h, w, h * w, w, 1), strict=True):
            self.rows[:, word] = value

    # --- a story ------------------------------------------------------------------------------------------------------
    def image(self, size: tuple[int, int], reach: Reach) -> torch.Tensor:
        """The canvas as far as `reach`, [R, C, *size]; anything beyond a smaller one."""
        plane = Plane(*grid(size, self.rows.device), reach.groups)
        if not self.layout.smooth:
            return self.near(plane, reach, INFINITY)
        number = torch.where(reach.smooth < self.first_group, reach.groups, reach.smooth)
        number = torch.minimum(number, reach.groups)
        at = number.clamp(max=self.layout.groups - 1).long().expand(-1, -1, self.groups.shape[2])
        group = self.groups.gather(1, at)[:, 0, :, None, None].unbind(1)
        has = number < reach.groups
        slot = torch.where(has, group[plan.G_SLOT], INFINITY)
        x, y, born = self.back(plane, number + 1.0, 1, reach.most_groups, self.layout.fills)
        front_plane = Plane(*grid(self.layout.canvas, self.rows.device), number)
        mixed = self.layout.front or self.kept is not None
        if mixed:
            front = self.near(front_plane, reach, slot)
        else:
            front = self.read(front_plane.x, front_plane.y)
        image = Resampler(self.layout, self.remap, group, has, mixed).resample(front, x, y)
        return self.forward(self.paint(image, born), plane, reach, slot, INFINITY, born)

    def near(self, plane: Plane, reach: Reach, before) -> torch.Tensor:
        """Nearest groups up to the plane, and the pixel steps whose slot is smaller than `before`."""
        x, y, born = self.back(plane, self.first_group, 0, reach.most_groups, self.layout.fills)
        return self.forward(self.paint(self.read(x, y), born), plane, reach, -1.0, before, born)

    @torch.no_grad()
    def back(self, plane: Plane, first: torch.Tensor, start: int, end: int, births: bool):
        """Walk back from a plane to the canvas in front of group `first` [R, 1, 1]; start <= first, last < end.

        Returns:
            Coordinates x, y, and the slot [R, Y, X] where a pixel was born of a fill (-1: nowhere); None if none can.
        """
        x, y, last = plane.x, plane.y, plane.groups
        born = torch.full_like(first, -1.0) if births and start < end else None
        for i in reversed(range(start, end)):
            g = self.groups[:, i, :, None, None].unbind(1)
            on = (first <= i) & (last > i)
            to_x, to_y = through(self.layout, g, x, y)
            to_x, in_x = answer(self.layout, g, to_x, g[plan.G_WINDOW], g[plan.G_WINDOW + 1])
            to_y, in_y = answer(self.layout, g, to_y, g[plan.G_WINDOW + 2], g[plan.G_WINDOW + 3])
            x, y = torch.where(on, to_x, x), torch.where(on, to_y, y)
            if born is not None:
                leaves = on & (g[plan.G_BORDER] == geometry.FILL) & ~(in_x & in_y) & (born < 0.0)
                born = torch.where(leaves, g[plan.G_SLOT], born)
        return x, y, born

    def read(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The source at whole coordinates, float32 [R, C, Y, X]."""
        narrow = self.flat.shape[0] < 2**31
        row = self.rows.to(torch.int32 if narrow else torch.int64)[:, :, None, None].unbind(1)
        channels = torch.arange(self.layout.channels, device=x.device, dtype=row[0].dtype)[:, None, None]
        y = whole(y, row[plan.ROW_H] - 1) * row[plan.ROW_STRIDE_Y] + row[plan.ROW_SOURCE]
        x = whole(x, row[plan.ROW_W] - 1) * row[plan.ROW_STRIDE_X]
        at = y[:, None] + channels * row[plan.ROW_STRIDE_C][:, None] + x[:, None]
        return self.flat.index_select(0, at.view(-1)).view(at.shape).float()

    def paint(self, image: torch.Tensor, born: torch.Tensor | None) -> torch.Tensor:
        """Give the pixels that were born of a fill their colour."""
        if born is None:
            return image
        for i in range(self.layout.groups):
            g = self.groups[:, i]
            here = (born == g[:, plan.G_SLOT, None, None]) & (self.header[plan.N_GROUPS] > i) & (born >= 0.0)
            image = torch.where(here[:, None], g[:, plan.G_FILL :, None, None], image)
        return image

    # --- pixel steps --------------------------------------------------------------------------------------------------
    def forward(self, image: torch.Tensor, plane: Plane, reach: Reach, after, before, born) -> torch.Tensor:
        """The pixel steps whose slot lies between `after` and `before` and behind each pixel's birth."""
        layout = self.layout
        whole_run = born is None and not (layout.front or self.behind) and layout.inline
        for j, ops in enumerate(layout.step_ops[: reach.most_steps]):
            step = self.steps[:, j, :, None, None].unbind(1)
            slot = step[plan.S_SLOT]
            row_on = (reach.steps > j) & (self.first_step <= j) & (slot > after) & (slot < before)
            on = row_on if born is None else row_on & (slot > born)
            for op, stage in ops.items():
                if self.behind and layout.needs[op] not in (plan.POINTWISE, plan.PLACE):
                    continue
                if not layout.inline and (op in NEIGHBOURS or op == pixel.EQUALIZE and not self.tables):
                    continue  # a story begins behind the one, and ends in front of the other
                fixed = whole_run and layout.fixed_steps[j]
                here = step[plan.S_OP] == op
                value = self.apply(op, j, image, step, stage, plane, None if fixed else (row_on & here, on & here))
                image = value if fixed else torch.where((on & here)[:, None], value, image)
        return image

    def apply(self, op: int, j: int, image, step, stage: Stage | None, plane: Plane, where) -> torch.Tensor:
        """A pixel formula on all rows, as if each had it at step j; `where`: the rows and pixels that do."""
        layout, stage, trait = self.layout, stage or _stage(step), self.layout.needs[op]
        blocks = [list(step[at : at + 8]) for at in range(plan.S_ARGUMENTS, len(step), 8)]
        table = None
        if trait in (plan.MEAN, plan.EXTREMES, plan.HISTOGRAM) and layout.inline:
            table = self.answer_here(trait, image, stage, blocks[0])
        if where is not None:
            for t, p in enumerate(blocks):
                blocks[t], safe = self.safely(*where, p, image)
            image = safe
        if op == pixel.EQUALIZE:
            return equalize(image, self.table(blocks[0][7]) if table is None else table, stage.lattice)
        if op in NEIGHBOURS:
            at = torch.full_like(self.steps[:, :1], j, dtype=torch.int64)
            return self.near_step(
                op, image, blocks[0], step, at, stage, self.header[plan.OUT_H], self.header[plan.OUT_W]
            )
        function = formula(op)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        if names[0] == "v":
            return function(image, [v[:, None] for v in blocks[0]], *map(deep, stage))
        place_of = self.places(j, plane) if "x" in names else ()
        planes = []
        for t, p in enumerate(blocks):
            planes += function(*colour(image, t), *place_of, p, *stage)
        return torch.stack([v.expand(image[:, 0].shape) for v in planes[: layout.channels]], 1)

    def answer_here(self, trait: int, image: torch.Tensor, stage: Stage, p: list) -> torch.Tensor | None:
        """Put what the op asks for into its arguments, of the image being written; or return its table."""
        h, w, inside = self.header[plan.OUT_H], self.header[plan.OUT_W], None
        if image.shape[2:] != self.size:
            x, y = grid(image.shape[2:], image.device)
            inside = (x < w) & (y < h)
        if trait == plan.MEAN:
            p[MEAN_AT] = mean_grey(image, inside, stage, h * w)[:, :, None]
        elif trait == plan.EXTREMES:
            p[EXTREMES_AT : EXTREMES_AT + 6] = extremes(image, inside)[:, :, None, None].unbind(1)
        else:
            return equalize_table(image, inside, stage.lattice)
        return None

    def table(self, number: torch.Tensor) -> torch.Tensor:
        """The table that each row made at its ask `number` [R, 1, 1]."""
        known = list(self.tables.items())
        table = known[0][1]
        for k, other in known[1:]:
            table = torch.where(number == k, other, table)
        return table

    def places(self, j: int, plane: Plane) -> tuple[torch.Tensor, torch.Tensor]:
        """Column and row of each pixel in the canvas in front of step j."""
        if not self.layout.moved_steps[j]:
            return plane.x, plane.y
        groups = self.steps[:, j, plan.S_GROUPS, None, None]
        x, y, _ = self.back(plane, groups, 0, self.layout.groups, False)
        return GEOMETRY["snap"](x), GEOMETRY["snap"](y)

    def safely(self, rows: torch.Tensor, pixels: torch.Tensor, p: list, image: torch.Tensor):
        """Arguments and image of an op, harmless where it does not act: what is thrown away has a finite slope."""
        if not image.requires_grad:
            return p, image
        return [torch.where(rows, v, 1.0) for v in p], torch.where(pixels[:, None], image, 0.5)


def _stage(step) -> Stage:
    """A step's bound, lattice and channels."""
    return Stage(step[plan.S_BOUND], step[plan.S_LATTICE], step[plan.S_CHANNELS])
