"""A judge of the backends: a plan followed literally, one pixel at a time, in Python's float64.

It reads the words of a row's plan and tells each pixel's story: back through the groups, taps, gather, forward through
the steps. It judges what torchvision cannot: two smooth resamplings that were merged into one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpuaug.kernels import geometry, pixel, plan, torch_dialect
from gpuaug.program import Program


class Literal:
    """A row's image from the words of its plan, as the story of each pixel is told: back, taps, gather, forward."""

    def __init__(self, program: Program, words: Tensor, image: Tensor):
        self.c, self.image = program.channels, image.double().tolist()
        self.height, self.width = image.shape[1:]
        self.words = words = words.double().tolist()
        group, step = plan.G_FILL + self.c, plan.S_ARGUMENTS + 8 * ((self.c + 2) // 3)
        steps_at = plan.HEADER + program.groups * group
        stats_at = steps_at + program.steps * step
        self.groups = [words[plan.HEADER + i * group :][:group] for i in range(int(words[plan.N_GROUPS]))]
        self.steps = [words[steps_at + j * step :][:step] for j in range(int(words[plan.N_STEPS]))]
        stats = [words[stats_at + k * plan.STAT :][: plan.STAT] for k in range(int(words[plan.N_STATS]))]
        self.means: dict[int, float] = {}
        for j, n_groups, h, w in stats:
            colours = self.canvas((int(h), int(w)), int(n_groups), int(j))
            lattice = self.steps[int(j)][plan.S_LATTICE]
            grey = [torch_dialect.PIXEL["luma"](*(p * 3)[:3], lattice, self.c) for row in colours for p in row]
            self.means[int(j)] = math.fsum(grey) / len(grey)

    def canvas(self, size: tuple[int, int], n_groups: int, n_steps: int) -> list[list[list[float]]]:
        return [[self.pixel(float(x), float(y), n_groups, n_steps) for x in range(size[1])] for y in range(size[0])]

    def write(self, size: tuple[int, int]) -> Tensor:
        return torch.tensor(self.canvas(size, len(self.groups), len(self.steps)), dtype=torch.float64).permute(2, 0, 1)

    def pixel(self, x: float, y: float, n_groups: int, n_steps: int) -> list[float]:
        smooth = min(int(self.words[plan.SMOOTH]), n_groups)
        for i in reversed(range(smooth + 1, n_groups)):
            x, y, inside = self.back(self.groups[i], x, y)
            if not inside:
                return self.forward(self.groups[i][plan.G_FILL :], self.groups[i][plan.G_SLOT], math.inf, n_steps)
        if smooth == n_groups:
            return self.tap(x, y, smooth, math.inf, n_steps)
        g = self.groups[smooth]
        colour = self.sample(g, *self.place(g, x, y), smooth, n_steps)
        if g[plan.G_BOUND] > 0:
            colour = [min(max(float(round(v)), 0.0), g[plan.G_BOUND]) for v in colour]
        return self.forward(colour, g[plan.G_SLOT], math.inf, n_steps)

    def place(self, g: list[float], x: float, y: float) -> tuple[float, float]:
        depth = g[6] * x + g[7] * y + g[8] if g[plan.G_PROJECTIVE] else 1.0
        return (g[0] * x + g[1] * y + g[2]) / depth, (g[3] * x + g[4] * y + g[5]) / depth

    def back(self, g: list[float], x: float, y: float) -> tuple[float, float, bool]:
        point, inside = [], True
        for axis, v in enumerate(self.place(g, x, y)):
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
        for i in reversed(range(n_groups)):
            x, y, inside = self.back(self.groups[i], x, y)
            if not inside:
                return self.forward(self.groups[i][plan.G_FILL :], self.groups[i][plan.G_SLOT], before, n_steps)
        assert 0 <= x < self.width and 0 <= y < self.height
        return self.forward([plane[int(y)][int(x)] for plane in self.image], -1.0, before, n_steps)

    def forward(self, colour: list[float], after: float, before: float, n_steps: int) -> list[float]:
        for j, step in enumerate(self.steps[:n_steps]):
            if not after < step[plan.S_SLOT] < before:
                continue
            formula = torch_dialect.PIXEL[pixel.CASES[int(step[plan.S_OP])]]
            blocks = [step[at : at + 8] for at in range(plan.S_ARGUMENTS, len(step), 8)]
            tail = step[plan.S_BOUND], step[plan.S_LATTICE], self.c
            if j in self.means:
                blocks[0][7] = self.means[j]
            if formula.__code__.co_varnames[0] == "v":
                colour = [formula(v, blocks[0], *tail) for v in colour]
            else:
                padded = [*colour, colour[-1], colour[-1]]
                colour = [v for t, p in enumerate(blocks) for v in formula(*padded[3 * t : 3 * t + 3], p, *tail)]
                colour = colour[: self.c]
        return colour
