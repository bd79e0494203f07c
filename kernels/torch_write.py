"""The pixels of all rows at once, in torch: the plan's walk as gathers and arithmetic that autograd can follow.

What the plans hold stays on the device; the host knows a `Layout` alone, and works through group and step numbers under
masks. A smooth group is resampled from a float32 image of the canvas in front of it (its *front*), so that pixel steps
in front run once a pixel, not once a tap. Sums over an image add halves to each other: their bits depend on neither the
batch nor the padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from . import geometry, pixel, plan
from .torch_dialect import GEOMETRY, PIXEL

AXIS_ALIGNED = {
    "flip_horizontal",
    "flip_vertical",
    "crop",
    "center_crop",
    "pad",
    "resized_crop",
    "resize_shorter",
    "resize",
}
FOLDING = (geometry.REFLECT, geometry.SYMMETRIC)
INFINITY = float("inf")
REMAP_CANVAS = (2, 1024)  # remap takes pixels to [-1, 1] and back in float32: at 1024 that costs 1e-4 of a pixel


@dataclass(frozen=True)
class Layout:
    """What the host knows about every plan of a program.

    Attributes:
        canvas: largest height and largest width of any stage.
        separable: x and y never mix.
        front: something may stand in front of a smooth group, or a row may have none.
        bilinear: every smooth group is a plain bilinear one with fill around its canvas, which `remap` can do.
        rounds: smooth results on the lattice: "none", "all" or "some".
        inline: statistics are asked for behind all geometry, so of the very image being written.
        step_ops: the opcodes that can stand at each pixel step, with (bound, lattice), or None where rows differ.
        fixed_steps: whether every row has the one opcode at that step.
    """

    channels: int
    groups: int
    steps: int
    stats: int
    canvas: tuple[int, int]
    taps: int
    separable: bool
    projective: bool
    smooth: bool
    front: bool
    bilinear: bool
    fills: bool
    edges: bool
    folds: bool
    rounds: str
    inline: bool
    step_ops: tuple[dict[int, tuple[float, float] | None], ...]
    fixed_steps: tuple[bool, ...]
    statistic_ops: frozenset[int]


def _entries(code: Sequence[int]) -> list[Sequence[int]]:
    return [code[at : at + plan.ENTRY] for at in range(0, len(code), plan.ENTRY)]


def axis_aligned(code: Sequence[int]) -> bool:
    """Whether no slot mixes x and y."""
    moves = [e for e in _entries(code) if e[plan.KIND] == plan.KIND_GEOMETRY]
    return all(geometry.CASES[e[plan.OP]] in AXIS_ALIGNED for e in moves)


def layout(code: Sequence[int], channels: int, groups: int, steps: int, stats: int, canvas, taps: int) -> Layout:
    """Read a program's code for what holds in all of its plans."""
    entries = _entries(code)
    moves = [e for e in entries if e[plan.KIND] == plan.KIND_GEOMETRY]
    smooth = [e for e in moves if e[plan.FILTER] != geometry.NEAREST]
    pixels = [e for e in entries if e[plan.KIND] == plan.KIND_PIXEL]
    borders = {e[plan.BORDER] for e in moves if e[plan.TRAIT] == 0}
    asking = [i for i, e in enumerate(entries) if e[plan.KIND] == plan.KIND_PIXEL and e[plan.TRAIT]]
    moving = [i for i, e in enumerate(entries) if e[plan.KIND] == plan.KIND_GEOMETRY]
    step_ops, fixed = _step_ops(pixels, steps)
    plain = {(geometry.LINEAR, geometry.FILL)}
    return Layout(
        channels,
        groups,
        steps,
        stats,
        canvas,
        taps,
        separable=axis_aligned(code),
        projective=any(geometry.CASES[e[plan.OP]] == "perspective" for e in moves),
        smooth=bool(smooth),
        front=bool(smooth) and not _smooth_comes_first(entries),
        bilinear={(e[plan.FILTER], e[plan.BORDER]) for e in smooth} == plain and taps == 2 and _remaps(canvas),
        fills=geometry.FILL in borders,
        edges=bool(borders - {geometry.FILL}),
        folds=bool(borders & set(FOLDING)),
        rounds={0: "none", len(smooth): "all"}.get(sum(e[plan.LATTICE] for e in smooth), "some"),
        inline=not asking or not moving or moving[-1] < asking[0],
        step_ops=step_ops,
        fixed_steps=fixed,
        statistic_ops=frozenset(entries[i][plan.OP] for i in asking),
    )


def _remaps(canvas: tuple[int, int]) -> bool:
    return REMAP_CANVAS[0] <= min(canvas) and max(canvas) <= REMAP_CANVAS[1]


def _smooth_comes_first(entries) -> bool:
    """Whether every row meets a smooth slot with nothing but merging geometry in front of it."""
    for e in entries:
        if e[plan.KIND] == plan.KIND_PIXEL:
            return False
        if e[plan.KIND] == plan.KIND_GEOMETRY and e[plan.TRAIT] == 0:
            return e[plan.FILTER] != geometry.NEAREST and e[plan.GATE_AT] < 0
    return False


def _step_ops(pixels, steps: int) -> tuple[tuple[dict, ...], tuple[bool, ...]]:
    """What can stand at each step: an entry's number lies between the certain and all entries before it."""
    at: list[dict] = [{} for _ in range(steps)]
    certain = [False] * steps
    low = 0
    for high, e in enumerate(pixels):
        stage, always = (float(e[plan.BOUND]), float(e[plan.LATTICE])), e[plan.GATE_AT] < 0
        for ops in at[low : high + 1]:
            ops[e[plan.OP]] = stage if ops.get(e[plan.OP], stage) == stage else None
        if low == high and always:
            certain[low] = True
        low += always
    return tuple(at), tuple(certain)


def grid(size: tuple[int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel indices x [1, 1, W] and y [1, H, 1] as float32."""
    y = torch.arange(size[0], device=device, dtype=torch.float32)[None, :, None]
    return torch.arange(size[1], device=device, dtype=torch.float32)[None, None, :], y


def halving_sum(v: torch.Tensor) -> torch.Tensor:
    """Sums [R] of [R, Y, X] by adding halves of a power of two: the same bits for any R and any padding with zeros."""
    for axis in (1, 2):
        while (n := v.shape[axis]) > 1:
            half = 1 << (n - 1).bit_length() - 1
            alone = v.narrow(axis, n - half, 2 * half - n)
            v = v.narrow(axis, 0, n - half) + v.narrow(axis, half, n - half)
            v = torch.cat((v, alone), axis) if n < 2 * half else v
    return v[:, 0, 0]


def whole(x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """A pixel index in 0 .. last, of its dtype; of a pixel that was born of a fill, any such number."""
    return torch.minimum(torch.nan_to_num(x, 0.0).clamp(0.0, 2.0**30).to(last.dtype), last)


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
        r, group_words = len(rows), plan.G_FILL + layout.channels
        step_words = plan.S_ARGUMENTS + 8 * ((layout.channels + 2) // 3)
        ends = (plan.HEADER, layout.groups * group_words, layout.steps * step_words, layout.stats * plan.STAT)
        header, groups, steps, stats = plans[:, : sum(ends)].split(ends, 1)
        self.header = header[:, :, None, None].unbind(1)
        self.groups = groups.view(r, layout.groups, group_words)
        self.steps = steps.view(r, layout.steps, step_words)
        self.asked = stats.view(r, layout.stats, plan.STAT)
        self.means: list[torch.Tensor] = []

    def write(self, size: tuple[int, int]) -> torch.Tensor:
        """The images float32 [R, C, OH, OW]."""
        self.size = size
        groups, steps = self.header[plan.N_GROUPS], self.header[plan.N_STEPS]
        if not self.layout.inline:
            for k in range(self.layout.stats):
                self.means.append(self.statistic(k))
        return self.image(size, groups, steps)

    def image(self, size: tuple[int, int], n_groups: torch.Tensor, n_steps: torch.Tensor) -> torch.Tensor:
        """The canvas behind the first groups and steps of each row, [R, C, *size]; anything beyond a smaller one."""
        x, y = grid(size, self.rows.device)
        if not self.layout.smooth:
            return self.near(x, y, n_groups, n_steps, INFINITY)
        number = torch.minimum(self.header[plan.SMOOTH], n_groups)
        at = number.clamp(max=self.layout.groups - 1).long().expand(-1, -1, self.groups.shape[2])
        group = self.groups.gather(1, at)[:, 0, :, None, None].unbind(1)
        has = number < n_groups
        slot = torch.where(has, group[plan.G_SLOT], INFINITY)
        x, y, born = self.back(x, y, number + 1.0, n_groups, 1)
        front_x, front_y = grid(self.layout.canvas, self.rows.device)
        if self.layout.front:
            front = self.near(front_x, front_y, number, n_steps, slot)
        else:
            front = self.read(front_x, front_y)
        image = self.resample(front, x, y, group, has)
        return self.forward(self.paint(image, born), n_steps, slot, INFINITY, born)

    def near(self, x, y, n_groups, n_steps, before) -> torch.Tensor:
        """Nearest groups 0 .. n_groups - 1, and the pixel steps whose slot is smaller than `before`."""
        x, y, born = self.back(x, y, torch.zeros_like(n_groups), n_groups, 0)
        return self.forward(self.paint(self.read(x, y), born), n_steps, -1.0, before, born)

    @torch.no_grad()
    def back(self, x, y, first, last, start: int):
        """Walk back through groups last - 1 .. first.

        Returns:
            Coordinates x, y, and the slot [R, Y, X] where a pixel was born of a fill (-1: nowhere); None if none can.
        """
        born = torch.full_like(first, -1.0) if self.layout.fills and start < self.layout.groups else None
        for i in reversed(range(start, self.layout.groups)):
            g = self.groups[:, i, :, None, None].unbind(1)
            on = (first <= i) & (last > i)
            to_x, to_y = self.place(g, x, y)
            to_x, in_x = self.answer(g, to_x, g[plan.G_WINDOW], g[plan.G_WINDOW + 1])
            to_y, in_y = self.answer(g, to_y, g[plan.G_WINDOW + 2], g[plan.G_WINDOW + 3])
            x, y = torch.where(on, to_x, x), torch.where(on, to_y, y)
            if born is not None:
                leaves = on & (g[plan.G_BORDER] == geometry.FILL) & ~(in_x & in_y) & (born < 0.0)
                born = torch.where(leaves, g[plan.G_SLOT], born)
        return x, y, born

    def place(self, g, x, y):
        """Group g's matrix times (x, y, 1)."""
        if self.layout.separable:
            return g[0] * x + g[2], g[4] * y + g[5]
        to_x, to_y = g[0] * x + g[1] * y + g[2], g[3] * x + g[4] * y + g[5]
        if self.layout.projective:
            depth = g[6] * x + g[7] * y + g[8]
            to_x, to_y = to_x / depth, to_y / depth
        return to_x, to_y

    def answer(self, g, x, low, high):
        """Group g's snap and border rule along one axis, and whether the pixel lies in the window."""
        at = GEOMETRY["snap"](x)
        inside = (at >= low) & (at <= high)
        to = torch.where(g[plan.G_FILTER] == geometry.NEAREST, at, x) if self.layout.smooth else at
        if self.layout.folds:
            to = torch.where(inside, to, GEOMETRY["fold"](to, low, high, g[plan.G_BORDER]))
        elif self.layout.edges:
            to = torch.where(inside, to, torch.minimum(torch.maximum(to, low), high))
        return to, inside

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

    def forward(self, image: torch.Tensor, n_steps, after, before, born: torch.Tensor | None) -> torch.Tensor:
        """The pixel steps whose slot lies between `after` and `before` and behind each pixel's birth."""
        whole_run = born is None and not self.layout.front
        for j, ops in enumerate(self.layout.step_ops):
            step = self.steps[:, j, :, None, None].unbind(1)
            slot = step[plan.S_SLOT]
            on = (n_steps > j) & (slot > after) & (slot < before)
            on = on if born is None else on & (slot > born)
            for op, stage in ops.items():
                value = self.apply(op, j, image, step, stage)
                if whole_run and self.layout.inline and self.layout.fixed_steps[j]:
                    image = value
                else:
                    image = torch.where((on & (step[plan.S_OP] == op))[:, None], value, image)
        return image

    def apply(self, op: int, j: int, image: torch.Tensor, step, stage: tuple[float, float] | None) -> torch.Tensor:
        """A pixel formula on all rows, as if each had it at step j."""
        formula, channels = PIXEL[pixel.CASES[op]], self.layout.channels
        bound, lattice = stage or (step[plan.S_BOUND], step[plan.S_LATTICE])
        tail = [] if op not in self.layout.statistic_ops else [self.mean_for(j, image, lattice)]
        blocks = [list(step[at : at + 8]) for at in range(plan.S_ARGUMENTS, len(step), 8)]
        blocks = [p[: 8 - len(tail)] + tail for p in blocks]
        if formula.__code__.co_varnames[0] == "v":
            if stage is None:
                bound, lattice = bound[:, None], lattice[:, None]
            return formula(image, [v[:, None] for v in blocks[0]], bound, lattice, channels)
        planes = []
        for t, p in enumerate(blocks):
            r, g, b = (image[:, min(3 * t + i, channels - 1)] for i in range(3))
            planes += formula(r, g, b, p, bound, lattice, channels)
        return torch.stack(planes[:channels], 1)

    def mean_for(self, j: int, image: torch.Tensor, lattice: torch.Tensor | float) -> torch.Tensor:
        """The statistic of step j, [R, 1, 1]."""
        if self.layout.inline:
            return self.mean_grey(image, lattice, self.header[plan.OUT_H], self.header[plan.OUT_W])
        mean = torch.zeros_like(self.header[plan.N_STATS])
        for k, known in enumerate(self.means):
            here = (self.asked[:, k, 0] == j)[:, None, None] & (self.header[plan.N_STATS] > k)
            mean = torch.where(here, known, mean)
        return mean

    def statistic(self, k: int) -> torch.Tensor:
        """The k-th statistic of each row that has one, [R, 1, 1]."""
        on = self.header[plan.N_STATS] > k
        step, groups, h, w = torch.where(on[:, 0], self.asked[:, k], 0.0)[:, :, None, None].unbind(1)
        image = self.image(self.layout.canvas, groups, step)
        lattice = self.steps[:, :, plan.S_LATTICE].gather(1, step[:, :, 0].long())[..., None]
        return self.mean_grey(image, lattice, h, w)

    def mean_grey(self, image: torch.Tensor, lattice, h, w) -> torch.Tensor:
        """The mean of `pixel.luma` over the first h x w pixels of each row, [R, 1, 1]."""
        r, g, b = (image[:, min(i, self.layout.channels - 1)] for i in range(3))
        grey = PIXEL["luma"](r, g, b, lattice, self.layout.channels)
        if not self.layout.inline or grey.shape[1:] != self.size:
            x, y = grid(grey.shape[1:], grey.device)
            grey = torch.where((x < w) & (y < h), grey, 0.0)
        total = halving_sum(grey)
        return total[:, None, None] / torch.clamp(h * w, min=1.0)

    def resample(self, front: torch.Tensor, x, y, group, has) -> torch.Tensor:
        """`front` [R, C, *canvas] through a smooth group; rows that have none are copied."""
        to_x, to_y = self.place(group, x, y)
        x, y = torch.where(has, to_x, x), torch.where(has, to_y, y)
        fill = torch.stack(group[plan.G_FILL :], 1)
        if self.layout.bilinear:
            image = self.warp(front, x, y, group, has, fill)
        else:
            taps_x = self.axis(x, 0, group, has)
            taps_y = self.axis(y, 1, group, has)
            gather = self.by_axis if self.layout.separable else self.by_pixel
            image = gather(front, taps_x[0], taps_y[0])
            if self.layout.fills:
                image = image + fill * (1.0 - taps_x[1] * taps_y[1])[:, None]
        if self.layout.rounds == "all" and not self.layout.front:
            image = image.round().clamp(0.0, 255.0)
        elif self.layout.rounds != "none":
            bound = torch.where(has, group[plan.G_BOUND], 0.0)[:, None]
            image = torch.where(bound > 0.0, torch.minimum(image.round().clamp(min=0.0), bound), image)
        return image

    def warp(self, front: torch.Tensor, x, y, group, has, fill) -> torch.Tensor:
        """Plain bilinear with fill outside of the window, by `remap` of what exceeds the fill."""
        height, width = front.shape[2:]
        low_x, high_x, low_y, high_y = group[plan.G_WINDOW : plan.G_WINDOW + 4]
        at_x, at_y = grid((height, width), front.device)
        inside = (at_x >= low_x) & (at_x <= high_x) & (at_y >= low_y) & (at_y <= high_y)
        above = torch.where(inside[:, None], front - fill, 0.0)
        with torch.no_grad():
            x = torch.nan_to_num(x, -2.0).clamp(-2.0, width + 1.0)
            y = torch.nan_to_num(y, -2.0).clamp(-2.0, height + 1.0)
        image = self.remap(above, x, y) + fill
        if not self.layout.front:
            return image
        return torch.where(has[:, None], image, front[:, :, : x.shape[1], : x.shape[2]])

    @torch.no_grad()
    def axis(self, c: torch.Tensor, axis: int, group, has):
        """Taps along one axis (0 for x) about c: pairs (index, weight), and how much weight meets no fill."""
        last = float(self.layout.canvas[1 - axis] - 1)
        low, high = group[plan.G_WINDOW + 2 * axis : plan.G_WINDOW + 2 * axis + 2]
        low, high = torch.where(has, low, 0.0), torch.where(has, high, last)
        edge = torch.full_like(high, last).long()
        width = torch.where(has, group[plan.G_WIDTH + axis], 1.0)
        kind = torch.where(has, group[plan.G_FILTER], float(geometry.LINEAR))
        border = torch.where(has, group[plan.G_BORDER], float(geometry.EDGE))
        first = torch.floor(c - GEOMETRY["reach"](kind) * width) + 1.0
        pairs, total, kept = [], torch.zeros_like(c), torch.zeros_like(c)
        for t in range(self.layout.taps):
            k = first + float(t)
            inside = (k >= low) & (k <= high)
            weight = GEOMETRY["weight"]((k - c) / width, kind)
            weight = torch.where(inside | (border != geometry.DROP), weight, 0.0)
            total = total + weight
            weight = torch.where(inside | (border != geometry.FILL), weight, 0.0)
            kept = kept + weight
            pairs.append((whole(GEOMETRY["fold"](k, low, high, border), edge), weight))
        total = torch.where(total == 0.0, 1.0, total)
        return [(index, weight / total) for index, weight in pairs], kept / total

    def by_axis(self, front: torch.Tensor, taps_x, taps_y) -> torch.Tensor:
        """Taps that depend on x alone and on y alone: lines first, then along the lines."""
        r, c, height, width = front.shape
        lines = front.reshape(-1, width)
        base = torch.arange(r * c, device=front.device).view(r, c, 1) * height
        tall = front.new_zeros(())
        for index, weight in taps_y:
            at = base + index[:, None, :, 0]
            tall = torch.addcmul(tall, lines.index_select(0, at.view(-1)).view(*at.shape, width), weight[:, None])
        image = front.new_zeros(())
        for index, weight in taps_x:
            at = index[:, None].expand(r, c, tall.shape[2], index.shape[-1])
            image = torch.addcmul(image, tall.gather(3, at), weight[:, None])
        return image

    def by_pixel(self, front: torch.Tensor, taps_x, taps_y) -> torch.Tensor:
        """Taps of each pixel's own."""
        r, c, _, width = front.shape
        pixels, image = front.reshape(r, c, -1), front.new_zeros(())
        for row, weight_y in taps_y:
            for column, weight_x in taps_x:
                at = row * width + column
                value = pixels.gather(2, at.view(r, 1, -1).expand(r, c, -1)).view(r, c, *at.shape[1:])
                image = torch.addcmul(image, value, (weight_y * weight_x)[:, None])
        return image
