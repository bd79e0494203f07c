"""A judge of the backends: a plan followed literally, one pixel at a time, in Python's float64.

It reads the words of a row's plan and tells each pixel's story: back through the groups, taps, gather, forward through
the steps. It judges what torchvision cannot: two smooth resamplings that were merged into one.
"""

from __future__ import annotations

import inspect
import math

import torch
from bounds_pixel import jpeg
from torch import Tensor

from gpuaug.kernels.shared import geometry, pixel, plan
from gpuaug.kernels.torch import dialect as torch_dialect
from gpuaug.program import Program


class Literal:
    """A row's image from the words of its plan, as the story of each pixel is told: back, taps, gather, forward."""

    def __init__(self, program: Program, words: Tensor, image: Tensor):
        self.c, self.out, source = program.channels, program.out_channels, image.double()
        self.source = source.expand(self.c, -1, -1).permute(1, 2, 0).tolist()
        self.words = words = words.double().tolist()
        group, step = plan.G_FILL + self.c, plan.S_ARGUMENTS + 8 * ((self.c + 2) // 3)
        steps_at = plan.HEADER + program.groups * group
        asks_at = steps_at + program.steps * step
        self.groups = [words[plan.HEADER + i * group :][:group] for i in range(int(words[plan.N_GROUPS]))]
        self.steps = [words[steps_at + j * step :][:step] for j in range(int(words[plan.N_STEPS]))]
        self.first_group = self.first_step = 0
        self.tables: dict[int, list[list[float]]] = {}
        for k in range(int(words[plan.N_ASKS])):
            self.answer(k, *(int(v) for v in words[asks_at + k * plan.ASK :][:6]))

    def answer(self, k: int, j: int, n_groups: int, h: int, w: int, kind: int, smooth: int) -> None:
        """What step j asks of the image in front of it becomes arguments, a table, or where the story goes on."""
        step, image = self.steps[j], self.canvas((h, w), n_groups, j, smooth)
        colours, arguments = [colour for row in image for colour in row], plan.S_ARGUMENTS
        if kind == plan.MEAN:
            stage = step[plan.S_LATTICE], step[plan.S_CHANNELS]
            grey = [torch_dialect.PIXEL["luma"](*(colour * 3)[:3], *stage) for colour in colours]
            step[arguments + 7] = math.fsum(grey) / len(grey)
        elif kind == plan.EXTREMES:
            for i, values in enumerate((list(zip(*colours, strict=True)) * 3)[:3]):
                step[arguments + i], step[arguments + 3 + i] = min(values), max(values)
        elif kind == plan.HISTOGRAM:
            self.tables[k] = [self.equalizing(values, step) for values in zip(*colours, strict=True)]
        else:
            self.source, self.first_group, self.first_step = self.neighbours(image, step), n_groups, j + 1

    def equalizing(self, values: tuple[float, ...], step: list[float]) -> list[float]:
        levels = [int(torch_dialect.PIXEL["level_of"](v, step[plan.S_LATTICE])) for v in values]
        counts = [levels.count(k) for k in range(256)]
        size = (len(levels) - counts[max(levels)]) // 255
        table = [torch_dialect.PIXEL["equalized"](k, sum(counts[:k]), size) for k in range(256)]
        return [torch_dialect.PIXEL["of_level"](float(v), step[plan.S_LATTICE]) for v in table]

    def neighbours(self, image: list, step: list[float]) -> list:
        """The whole image through a sharpness or a blur."""
        op, p, stage = int(step[plan.S_OP]), step[plan.S_ARGUMENTS :][:8], step[plan.S_BOUND : plan.S_LATTICE + 1]
        h, w, formula = len(image), len(image[0]), torch_dialect.PIXEL
        if op == pixel.JPEG:
            channels = self.c if step[plan.S_CHANNELS] > 1 else 1
            known = torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[:channels] / stage[0]
            made = jpeg(known, int(p[0])) * stage[0]
            return made.expand(self.c, h, w).permute(1, 2, 0).tolist()

        def pixel_at(x: int, y: int, c: int) -> float:
            if op == pixel.SHARPNESS:
                if not (0 < x < w - 1 and 0 < y < h - 1):
                    return formula["sharpen_edge"](image[y][x][c], h, w, *stage)
                nine = sum(image[y + dy][x + dx][c] for dy in (-1, 0, 1) for dx in (-1, 0, 1))
                return formula["sharpen"](image[y][x][c], nine - image[y][x][c], p, *stage)
            across, radius, total, mean = op == pixel.BLUR_X, int(p[1]), 0.0, 0.0
            for k in range(-radius, radius + 1):
                n, at = (w, x + k) if across else (h, y + k)
                at = abs(at) if abs(at) < n else 2 * n - 2 - abs(at)
                weight = formula["blur_weight"](float(k), p)
                total, mean = total + weight, mean + weight * (image[y][at] if across else image[at][x])[c]
            return formula["blurred"](mean / total, p, *stage)

        return [[[pixel_at(x, y, c) for c in range(self.c)] for x in range(w)] for y in range(h)]

    def canvas(self, size: tuple[int, int], n_groups: int, n_steps: int, smooth: int) -> list[list[list[float]]]:
        told = n_groups, n_steps, min(smooth, n_groups)
        return [[self.pixel(float(x), float(y), *told) for x in range(size[1])] for y in range(size[0])]

    def write(self, size: tuple[int, int]) -> Tensor:
        image = self.canvas(size, len(self.groups), len(self.steps), int(self.words[plan.SMOOTH]))
        return torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[: self.out]

    def pixel(self, x: float, y: float, n_groups: int, n_steps: int, smooth: int) -> list[float]:
        spot = x, y, n_groups
        for i in reversed(range(smooth + 1, n_groups)):
            x, y, inside = self.back(self.groups[i], x, y)
            if not inside:
                fill, slot = self.groups[i][plan.G_FILL :], self.groups[i][plan.G_SLOT]
                return self.forward(fill, slot, math.inf, n_steps, spot)
        if smooth == n_groups:
            return self.tap(x, y, smooth, math.inf, n_steps)
        g = self.groups[smooth]
        colour = self.sample(g, *self.through(g, x, y), smooth, n_steps)
        if g[plan.G_BOUND] > 0:
            colour = [min(max(float(round(v)), 0.0), g[plan.G_BOUND]) for v in colour]
        return self.forward(colour, g[plan.G_SLOT], math.inf, n_steps, spot)

    def through(self, g: list[float], x: float, y: float) -> tuple[float, float]:
        depth = g[6] * x + g[7] * y + g[8] if g[plan.G_PROJECTIVE] else 1.0
        return (g[0] * x + g[1] * y + g[2]) / depth, (g[3] * x + g[4] * y + g[5]) / depth

    def back(self, g: list[float], x: float, y: float) -> tuple[float, float, bool]:
        point, inside = [], True
        for axis, v in enumerate(self.through(g, x, y)):
            low, high = g[plan.G_WINDOW + 2 * axis :][:2]
            at = math.floor(v + 0.5)
            to = at if g[plan.G_FILTER] == geometry.NEAREST else v
            if not low <= at <= high:
                inside = inside and g[plan.G_BORDER] != geometry.FILL
                to = torch_dialect.GEOMETRY["fold"](to, low, high, g[plan.G_BORDER])
            point.append(to)
        return *point, inside

    def sample(self, g: list[float], x: float, y: float, smooth: int, n_steps: int) -> list[float]:
        axes = []
        for axis, c in enumerate((x, y)):
            width, kind = g[plan.G_WIDTH + axis], g[plan.G_FILTER]
            low, high = g[plan.G_WINDOW + 2 * axis :][:2]
            support = torch_dialect.GEOMETRY["reach"](kind) * width
            first = math.floor(c - support) + 1
            taps = range(first, first + math.ceil(2 * support))
            weights = [(k, torch_dialect.GEOMETRY["weight"]((k - c) / width, kind)) for k in taps]
            axes.append([(k, weight, low <= k <= high, (low, high)) for k, weight in weights])
        total, colour, border = 0.0, [0.0] * self.c, g[plan.G_BORDER]
        for kx, wx, in_x, window_x in axes[0]:
            for ky, wy, in_y, window_y in axes[1]:
                if not (in_x and in_y) and border == geometry.DROP:
                    continue
                if not (in_x and in_y) and border == geometry.FILL:
                    value = g[plan.G_FILL :]
                else:
                    fold = torch_dialect.GEOMETRY["fold"]
                    at = fold(float(kx), *window_x, border), fold(float(ky), *window_y, border)
                    value = self.tap(*at, smooth, g[plan.G_SLOT], n_steps)
                total += wx * wy
                colour = [s + wx * wy * v for s, v in zip(colour, value, strict=True)]
        return [v / total for v in colour]

    def tap(self, x: float, y: float, n_groups: int, before: float, n_steps: int) -> list[float]:
        spot = x, y, n_groups
        for i in reversed(range(self.first_group, n_groups)):
            x, y, inside = self.back(self.groups[i], x, y)
            if not inside:
                fill, slot = self.groups[i][plan.G_FILL :], self.groups[i][plan.G_SLOT]
                return self.forward(fill, slot, before, n_steps, spot)
        assert x >= 0 and y >= 0
        return self.forward(self.source[int(y)][int(x)], -1.0, before, n_steps, spot)

    def forward(self, colour: list[float], after: float, before: float, n_steps: int, spot: tuple) -> list[float]:
        for step in self.steps[self.first_step : n_steps]:
            if after < step[plan.S_SLOT] < before:
                colour = self.apply(colour, step, spot)
        return colour

    def apply(self, colour: list[float], step: list[float], spot: tuple) -> list[float]:
        blocks = [step[at : at + 8] for at in range(plan.S_ARGUMENTS, len(step), 8)]
        stage = step[plan.S_BOUND : plan.S_CHANNELS + 1]
        if int(step[plan.S_OP]) == pixel.EQUALIZE:
            tables = self.tables[int(blocks[0][7])]
            levels = [int(torch_dialect.PIXEL["level_of"](v, stage[1])) for v in colour]
            return [table[k] for table, k in zip(tables, levels, strict=True)]
        formula = torch_dialect.formula(int(step[plan.S_OP]))
        names = inspect.signature(formula).parameters
        if "v" in names:
            return [formula(v, blocks[0], *stage) for v in colour]
        x, y, n_groups = spot
        for i in reversed(range(int(step[plan.S_GROUPS]), n_groups if "x" in names else 0)):
            x, y, _ = self.back(self.groups[i], x, y)
        at = (math.floor(x + 0.5), math.floor(y + 0.5)) if "x" in names else ()
        padded = [*colour, colour[-1], colour[-1]]
        colour = [v for t, p in enumerate(blocks) for v in formula(*padded[3 * t : 3 * t + 3], *at, p, *stage)]
        return colour[: self.c]
