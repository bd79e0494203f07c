"""Coordinates and resampling of all rows at once, in torch.

`g` is a geometry group of each row (`plan.G_*`), its words tensors [R, 1, 1]; `x, y` are coordinates [R, Y, X], or what
broadcasts to that.
"""

from collections.abc import Callable

import torch

from ..shared import geometry, plan
from .dialect import ELEMENTARY, GEOMETRY
from .layout import Layout

WHOLLY = 1e-06  # what is missing where weights that cover a pixel do not quite add up to 1


def deep(v):
    """A number, or [R, 1, 1] for images [R, C, Y, X]."""
    return v[:, None] if isinstance(v, torch.Tensor) else v


def grid(size: tuple[int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel indices x [1, 1, W] and y [1, H, 1] as float32."""
    y = torch.arange(size[0], device=device, dtype=torch.float32)[None, :, None]
    return torch.arange(size[1], device=device, dtype=torch.float32)[None, None, :], y


def whole(x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """A pixel index in 0 .. last, of its dtype; of a pixel that was born of a fill, any such number."""
    return torch.minimum(torch.nan_to_num(x, 0.0).clamp(0.0, 2.0**30).to(last.dtype), last)


def through(layout: Layout, g, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Group g's matrix times (x, y, 1)."""
    if layout.separable:
        return g[0] * x + g[2], g[4] * y + g[5]
    to_x, to_y = g[0] * x + g[1] * y + g[2], g[3] * x + g[4] * y + g[5]
    if layout.projective:
        depth = g[6] * x + g[7] * y + g[8]
        to_x, to_y = to_x / depth, to_y / depth
    return to_x, to_y


def answer(layout: Layout, g, x: torch.Tensor, low, high) -> tuple[torch.Tensor, torch.Tensor]:
    """Group g's snap and border rule along one axis, and whether the pixel lies in the window."""
    at = GEOMETRY["snap"](x)
    inside = (at >= low) & (at <= high)
    to = torch.where(g[plan.G_FILTER] == geometry.NEAREST, at, x) if layout.smooth else at
    if layout.folds:
        to = torch.where(inside, to, GEOMETRY["fold"](to, low, high, g[plan.G_BORDER]))
    elif layout.edges:
        to = torch.where(inside, to, torch.minimum(torch.maximum(to, low), high))
    return to, inside


class Resampler:
    """The taps of the first smooth group of each row.

    Args:
        remap: bilinear interpolation of [R, C, H, W] at x, y [R, OH, OW] in pixels, 0 outside.
        group: of each row; `has` [R, 1, 1] where it has none: its pixels are copied.
        copies: whether any row may have none.
    """

    def __init__(self, layout: Layout, remap: Callable, group, has: torch.Tensor, copies: bool):
        self.layout, self.remap, self.group, self.has, self.copies = layout, remap, group, has, copies

    def resample(self, front: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """`front` [R, C, *canvas] at the group's output coordinates."""
        to_x, to_y = through(self.layout, self.group, x, y)
        x, y = torch.where(self.has, to_x, x), torch.where(self.has, to_y, y)
        fill = torch.stack(self.group[plan.G_FILL :], 1)
        if self.layout.bilinear:
            image = self.warp(front, x, y, fill)
        else:
            taps_x, taps_y = self.axis(x, 0), self.axis(y, 1)
            gather = self.by_axis if self.layout.separable else self.by_pixel
            image = gather(front, taps_x[0], taps_y[0])
            if self.layout.fills:
                image = image + fill * (1.0 - taps_x[1] * taps_y[1])[:, None]
        if self.layout.rounds == "all" and not self.copies:
            image = image.round().clamp(0.0, 255.0)
        elif self.layout.rounds != "none":
            bound = torch.where(self.has, self.group[plan.G_BOUND], 0.0)[:, None]
            image = torch.where(bound > 0.0, torch.minimum(image.round().clamp(min=0.0), bound), image)
        return image

    def warp(self, front: torch.Tensor, x: torch.Tensor, y: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
        """Plain bilinear with fill outside of the window: `remap` of its pixels, and of how much they cover."""
        height, width = front.shape[2:]
        low_x, high_x, low_y, high_y = self.group[plan.G_WINDOW : plan.G_WINDOW + 4]
        at_x, at_y = grid((height, width), front.device)
        inside = (at_x >= low_x) & (at_x <= high_x) & (at_y >= low_y) & (at_y <= high_y)
        known = torch.cat((torch.where(inside[:, None], front, 0.0), inside[:, None].to(front.dtype)), 1)
        with torch.no_grad():
            x = torch.nan_to_num(x, -2.0).clamp(-2.0, width + 1.0)
            y = torch.nan_to_num(y, -2.0).clamp(-2.0, height + 1.0)
        image, cover = self.remap(known, x, y).split((front.shape[1], 1), 1)
        missing = 1.0 - cover
        image = torch.where(missing > WHOLLY, image + fill * missing, image)
        if not self.copies:
            return image
        return torch.where(self.has[:, None], image, front[:, :, : x.shape[1], : x.shape[2]])

    @torch.no_grad()
    def axis(self, c: torch.Tensor, axis: int):
        """Taps along one axis (0 for x) about c: pairs (index, weight), and how much weight meets no fill."""
        group, has, last = self.group, self.has, float(self.layout.canvas[1 - axis] - 1)
        low, high = group[plan.G_WINDOW + 2 * axis : plan.G_WINDOW + 2 * axis + 2]
        low, high = torch.where(has, low, 0.0), torch.where(has, high, last)
        edge = torch.full_like(high, last).long()
        width = torch.where(has, group[plan.G_WIDTH + axis], 1.0)
        kind = torch.where(has, group[plan.G_FILTER], float(geometry.LINEAR))
        border = torch.where(has, group[plan.G_BORDER], float(geometry.EDGE))
        reach = GEOMETRY["reach"](kind) * width
        c = ELEMENTARY["clamp"](c, low - reach - 2.0, high + reach + 2.0)
        first = GEOMETRY["first_tap"](c, reach)
        pairs, total, kept = [], torch.zeros_like(c), torch.zeros_like(c)
        for t in range(self.layout.taps):
            k = first + float(t)
            inside = (k >= low) & (k <= high)
            weight = GEOMETRY["weight"]((k - c) / width, kind)
            if self.layout.lanczos:
                weight = torch.where(kind == geometry.LANCZOS, GEOMETRY["windowed"]((k - c) / width), weight)
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
        for line, weight_y in taps_y:
            for column, weight_x in taps_x:
                at = line * width + column
                value = pixels.gather(2, at.view(r, 1, -1).expand(r, c, -1)).view(r, c, *at.shape[1:])
                image = torch.addcmul(image, value, (weight_y * weight_x)[:, None])
        return image
