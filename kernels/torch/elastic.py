"""Elastic transforms of all rows at once, in torch."""

from collections.abc import Sequence

import torch

from ..shared import plan
from .asks import blur
from .dialect import ELASTIC, GEOMETRY
from .layout import Stage
from .sample import deep, grid, whole


@torch.no_grad()
def moved(seeds, sigmas, size: Sequence[int], height, width, reach: int, device: torch.device) -> torch.Tensor:
    """The blurred noise [R, 2, Y, X] of canvases `height` x `width` [R, 1, 1] at the upper left of that size.

    Args:
        seeds, sigmas: two of each, [R, 1, 1].
        reach: the most that a blur reaches.
    """
    noise = torch.stack(ELASTIC["drift"](*grid(size, device), seeds), 1)
    radii = torch.stack([ELASTIC["blur_radius"](sigma) for sigma in sigmas], 1)
    for axis, sigma, length in ((3, sigmas[0], width), (2, sigmas[1], height)):
        noise = blur(noise, (sigma[:, None], radii), axis, length[:, 0], reach)
    return noise


def elastic(
    image: torch.Tensor, words: Sequence[torch.Tensor], seeds, stage: Stage, height, width, most
) -> torch.Tensor:
    """Images [R, C, Y, X] whose canvas is `height` x `width` [R, 1, 1] at the upper left, moved.

    Args:
        words: a step's, [R, 1, 1]. seeds: the step's in front of it.
        most: that a blur reaches, and taps along an axis.
    """
    blocks = [words[at : at + 8] for at in range(plan.S_ARGUMENTS, len(words), 8)]
    alpha_x, alpha_y, sigma_x, sigma_y, kind = blocks[0][:5]
    fill = torch.stack([v for block in blocks for v in block[5:]], 1)[:, : image.shape[1]]
    drift = moved(seeds, (sigma_x, sigma_y), image.shape[2:], height, width, most[0], image.device)
    found = displaced(image, drift, (alpha_x, alpha_y), kind, fill, (height, width), most[1])
    return ELASTIC["settled"](found, deep(stage.bound), deep(stage.lattice))


def displaced(image: torch.Tensor, drift: torch.Tensor, alphas, kind, fill, canvas, taps: int) -> torch.Tensor:
    """Images [R, C, Y, X] whose pixels are read at their place + drift [R, 2, Y, X] times alphas.

    Args:
        alphas: along x and y, [R, 1, 1]. kind: how to read between pixels, [R, 1, 1]. fill: [R, C, 1, 1].
        canvas: height and width [R, 1, 1] at the upper left; outside of it is fill.
        taps: along an axis, at the most.
    """
    height, width = canvas
    at_x, at_y = grid(image.shape[2:], image.device)
    axes = []
    for at, by, alpha, n in ((at_x, drift[:, 0], alphas[0], width), (at_y, drift[:, 1], alphas[1], height)):
        c, smooth = ELASTIC["landing"](at, by, alpha, n, kind), ELASTIC["smooth_kind"](kind)
        first = GEOMETRY["first_tap"](c, GEOMETRY["reach"](smooth))
        taken = [first + float(t) for t in range(taps)]
        weights = [torch.where((k >= 0.0) & (k < n), GEOMETRY["weight"](k - c, smooth), 0.0) for k in taken]
        axes.append([(whole(k, (n - 1.0).long().clamp(min=0)), w) for k, w in zip(taken, weights, strict=True)])
    r, c, _, pitch = image.shape
    pixels, value, cover = image.flatten(2), 0.0, 0.0
    for line, weight_y in axes[1]:
        for column, weight_x in axes[0]:
            index = (line * pitch + column).view(r, 1, -1).expand(-1, c, -1)
            weight = (weight_y * weight_x)[:, None]
            value, cover = value + pixels.gather(2, index).view_as(image) * weight, cover + weight
    return value + fill * (1.0 - cover)


def displacement(seeds: Sequence[float], alphas: Sequence[float], sigmas: Sequence[float], canvas) -> torch.Tensor:
    """What torchvision's `elastic` takes, float32 [1, H, W, 2], of two seeds, halves of alpha, standard deviations."""
    height, width, *numbers = (
        torch.full((1, 1, 1), v, dtype=torch.float32) for v in (*map(float, canvas), *seeds, *sigmas)
    )
    reach = int(max(ELASTIC["blur_radius"](float(s)) for s in sigmas))
    x, y = moved(numbers[:2], numbers[2:], canvas, height, width, reach, height.device)[0]
    return torch.stack((x * (2.0 * alphas[0] / canvas[1]), y * (2.0 * alphas[1] / canvas[0])), -1)[None]
