"""Draw first: what a pipeline will read of images of which only the sizes are known, and the pipeline on just that.

A row says where its image begins, how large it is and how far apart its pixels lie. So a part of an image is an image
of full size that begins in front of the part: nothing of a plan changes, and nothing outside of the part is used. What
was decoded at a fraction of the size has its first geometry group carried over to the smaller pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..backends.engine import Plans
from ..compose import Compose
from ..drawn import drawn
from ..facts import REACH
from ..inputs import check_labels, moved
from ..kernels.shared import geometry, plan
from ..keys import CPU
from ..kinds import finished
from ..mixing import mixable
from ..program import Program
from ..recipe import DRAWN, PLAIN, Asked, Recipe, drawn_sizes
from ..run import run
from ..samples import read
from ..tree import Canvas

SHRINKS = (8, 4, 2)
SLACK = 0.01  # pixels: more than coordinates in float32 are off by


class Part(NamedTuple):
    """What is read of an image.

    Attributes:
        top, left, height, width: in pixels of the image. The first two are multiples of `shrink`, and so are the others
            unless the part ends with the image.
        shrink: 1, 2, 4 or 8: how many pixels of the image become one, along each axis.
    """

    top: int
    left: int
    height: int
    width: int
    shrink: int = 1

    @property
    def size(self) -> Canvas:
        """(H, W) once decoded."""
        return -(-self.height // self.shrink), -(-self.width // self.shrink)


class Reading:
    """A pipeline's draw for a batch of RGB images uint8 of which only the sizes are known.

    Args:
        sizes: (H, W) of each.
        ids: int64 [B], on the host. `epoch`: of the draw.
        decode: "full", whose outputs are those of whole images to the bit, or "scaled"; or "whole", of images that are
            there already.
        shrinkable: which images can be decoded at a fraction of their size; None for all.
        asked: which views; a part holds what all of them read.

    Attributes:
        parts: what is to be decoded of each image; they may be widened before `run`.
        whole: why whole images are needed, None where parts may do.
    """

    def __init__(
        self,
        augment: Compose,
        sizes: Sequence[Canvas],
        ids: torch.Tensor,
        epoch: int | None,
        *,
        decode: str = "full",
        shrinkable: Sequence[bool] | None = None,
        asked: Asked = PLAIN,
    ):
        self.augment, self.sizes, self.ids, self.epoch, self.asked = augment, sizes, ids, epoch, asked
        self._parts = np.zeros((len(sizes), len(Part._fields)), np.int64)  # as `parts`
        self._parts[:, 2:4], self._parts[:, 4] = sizes, 1
        self.recipe, self.whole, self.host, self.shrinks = None, None, None, np.ones(len(sizes), np.int64)
        if augment._recipes.is_staged(augment.transforms):
            self.whole = "it holds callables, which are called on images"
            return
        self.recipe = recipe = self._recipe(CPU)
        self.whole = needs_whole(recipe)
        if self.whole is not None:
            return
        self.host = recipe.engine.plan(recipe.rows, recipe.table(CPU), self._key(recipe, CPU))
        if decode == "whole":
            return
        words, of = self.host.words, recipe.rows[:, plan.ROW_SOURCE].numpy()
        if decode == "scaled" and recipe.program.groups:
            allowed = shrinks(words.numpy(), recipe.program)
            np.minimum.at(least := np.full(len(sizes), SHRINKS[0]), of, allowed)
            self.shrinks = least if shrinkable is None else np.where(shrinkable, least, 1)
            if (self.shrinks > 1).any():
                shrink_words(words, recipe.program, torch.from_numpy(self.shrinks[of]))
        self._parts = self._needed(bounds(words.numpy(), recipe.program, self._canvases(of)), of)

    def _recipe(self, device: torch.device) -> Recipe:
        """For images that are no more than sizes."""
        backend = "auto" if device != CPU and self.augment.backend == "cpu" else self.augment.backend
        backend = "auto" if device == CPU and backend == "triton" else backend
        last = self.augment.memory_format == torch.channels_last
        return self.augment._recipes.of_sizes(self.augment.transforms, self.sizes, device, backend, last, self.asked)

    def _key(self, recipe: Recipe, device: torch.device):
        ids = self.ids if device == CPU else moved(self.ids, device, torch.int64)
        return self.augment._draw_keys(recipe, device, ids, self.epoch)

    def _canvases(self, of: np.ndarray) -> np.ndarray:
        """(H, W) of each row's image, as it will be decoded."""
        sizes = np.array(self.sizes, np.int64).reshape(-1, 2)
        return -(-sizes // self.shrinks[:, None])[of]

    @property
    def parts(self) -> list[Part]:
        return [Part(*part) for part in self._parts.tolist()]

    @parts.setter
    def parts(self, parts: Sequence[Part]) -> None:
        self._parts = np.array(parts, np.int64).reshape(-1, len(Part._fields))

    def _needed(self, boxes: np.ndarray, of: np.ndarray) -> np.ndarray:
        """The parts that hold each row's box of decoded pixels: top, left, bottom, right, inclusive."""
        sizes, by = self._parts[:, 2:4], self.shrinks[:, None]
        first, end = np.full(sizes.shape, 2**31), np.zeros(sizes.shape, np.int64)
        np.minimum.at(first, of, boxes[:, :2])
        np.maximum.at(end, of, boxes[:, 2:] + 1)
        first, end = first * by, np.minimum(end * by, sizes)
        return np.concatenate([first, end - first, by], 1)

    def run(self, source: torch.Tensor, offsets: Sequence[int], *, labels=None, targets: dict[str, Any] | None = None):
        """What the pipeline's call returns for the images, given their parts.

        Args:
            source: uint8, one axis, on any device. On the host as many bytes as the largest image has must be readable
                in front of and behind each part: pixels that are fill may be loaded before they are overwritten.
            offsets: where in it each part begins, uint8 [H, W, 3] of `Part.size`.
            labels: as the call. targets: masks, boxes, keypoints by keyword, in the order of the call's.

        Raises:
            what the call raises.
        """
        if self.whole is not None:
            images = [source[at : at + 3 * h * w].view(h, w, 3) for at, (h, w) in zip(offsets, self.sizes, strict=True)]
            if self.recipe is None or not self.recipe.module.POINTERS:
                images = [image.clone() for image in images]  # what is called may hand them on, or write to them
            return self._whole([image.permute(2, 0, 1) for image in images], labels, targets or {})
        recipe, plans = self._on(source.device)
        recipe.check_alone()
        recipe = recipe.placed(moved(self._placed(offsets), source.device, torch.int64))
        sizes = drawn_sizes(self.host) if recipe.out_sizes is DRAWN else None
        if targets or self.augment._recipes.reforms:
            stubs = [source[:1].as_strided((3, h, w), (0, 0, 0)) for h, w in self.sizes]
            batch = read((stubs,), labels=labels, **(targets or {}))
            out, plans = run(recipe, source, None, None, plans=plans, sizes=sizes)
            return finished(self.augment, batch, out, drawn(self.augment._recipes, recipe, plans.table, out))
        if labels is not None:
            check_labels(labels, recipe.single)
            labels = mixable(labels, recipe) if recipe.mixes else labels
        out, plans = run(recipe, source, None, None, plans=plans, sizes=sizes)
        if labels is not None and recipe.mixes:
            labels = recipe.mixing.soft(labels, plans.table, recipe)
        return out if labels is None else (out, labels)

    def _whole(self, images: list[torch.Tensor], labels: Any, targets: dict[str, Any]):
        views = None if self.asked.views is None else len(self.asked.views)
        keywords = {"ids": self.ids.to(images[0].device), "epoch": self.epoch, "views": views}
        return self.augment(images, labels=labels, **targets, **keywords)

    def _on(self, device: torch.device) -> tuple[Recipe, Plans]:
        """The recipe and its plans on a device, which draws as the host did."""
        if device == CPU:
            return self.recipe, self.host
        recipe = self._recipe(device)
        plans = recipe.engine.plan(recipe.rows, recipe.table(device), self._key(recipe, device))
        if (self.shrinks > 1).any():
            by_row = torch.from_numpy(self.shrinks)[recipe.host_rows[:, plan.ROW_SOURCE]]
            shrink_words(plans.words, recipe.program, moved(by_row, device, torch.int64))
        return recipe, plans

    def _placed(self, offsets: Sequence[int]) -> torch.Tensor:
        """The rows of the parts, on the host."""
        rows = self.recipe.host_rows.clone()
        words, of = rows.numpy(), rows[:, plan.ROW_SOURCE].numpy().copy()
        top, left, _, width, by = self._parts.T
        width = -(-width // by)
        begins = np.array(offsets, np.int64) - 3 * (top // by * width + left // by)
        words[:, plan.ROW_SOURCE], words[:, plan.ROW_H : plan.ROW_W + 1] = begins[of], self._canvases(of)
        words[:, plan.ROW_STRIDE_C], words[:, plan.ROW_STRIDE_Y], words[:, plan.ROW_STRIDE_X] = 1, 3 * width[of], 3
        return rows


def needs_whole(recipe: Recipe) -> str | None:
    """Why a pipeline must have whole images, None where parts may do."""
    if not recipe.module.POINTERS:
        return f"the {recipe.backend} backend takes images that lie in memory as a whole"
    if recipe.program.pastes is not None:
        return f"{recipe.program.pastes.name} reads the images again"
    if recipe.program.by_boxes:
        return "RandomIoUCrop draws by boxes"
    return None


# --- of plans: float32 [R, words], see `kernels.shared.plan` ----------------------------------------------------------
def _group(words: np.ndarray, program: Program, i: int) -> np.ndarray:
    at = plan.group_at(program.channels, i)
    return words[:, at : at + plan.group_words(program.channels)]


def _asks(words: np.ndarray, program: Program, k: int) -> tuple[np.ndarray, np.ndarray]:
    at = plan.ask_at(program.channels, program.groups, program.steps, k)
    return words[:, at : at + plan.ASK], k < words[:, plan.N_ASKS]


def shrinks(words: np.ndarray, program: Program) -> np.ndarray:
    """By how much a row's image may be shrunk, int64 [R], 1, 2, 4 or 8, so that as many pixels are left as it gets.

    Only where all that is read of it passes an antialiased resize first, which stands straight, and no step in front of
    that asks for the whole image or for places in it.
    """
    g, n = _group(words, program, 0), len(words)
    straight = (g[:, 1] == 0) & (g[:, 3] == 0) & (g[:, plan.G_PROJECTIVE] == 0)
    ready = straight & (words[:, plan.N_GROUPS] > 0) & (g[:, plan.G_FILTER] != geometry.NEAREST)
    for k in range(program.asks):
        ask, there = _asks(words, program, k)
        ready &= ~(there & (ask[:, plan.A_GROUPS] == 0))
    for k in range(program.steps):
        at = plan.step_at(program.channels, program.groups, k)
        placed = (words[:, at + plan.S_TRAIT] == plan.PLACE) & (words[:, at + plan.S_GROUPS] == 0)
        ready &= ~(placed & (k < words[:, plan.N_STEPS]))
    steps = np.minimum(abs(g[:, 0]), abs(g[:, 4]))
    widths = g[:, plan.G_WIDTH : plan.G_WIDTH + 2].min(1)
    most = np.where(ready, np.minimum(steps, widths), 1.0) + 1e-4
    found = np.ones(n, np.int64)
    for shrink in SHRINKS[::-1]:
        found[most >= shrink] = shrink
    return found


def shrink_words(words: torch.Tensor, program: Program, by: torch.Tensor) -> None:
    """Carry the first geometry group of each row over to an image that is `by` [R] times smaller, in place.

    Pixel i of the smaller image covers pixels i by .. (i + 1) by - 1.
    """
    at = plan.group_at(program.channels, 0)
    g, by = words[:, at : at + plan.group_words(program.channels)], by.to(words.dtype)[:, None]
    shift, depth = 0.5 / by - 0.5, g[:, 6:9].clone()
    on = by > 1
    for line in (slice(0, 3), slice(3, 6)):
        g[:, line] = torch.where(on, g[:, line] / by + shift * depth, g[:, line])
    window, widths = slice(plan.G_WINDOW, plan.G_WINDOW + 4), slice(plan.G_WIDTH, plan.G_WIDTH + 2)
    g[:, window] = torch.where(on, (g[:, window] / by).floor(), g[:, window])
    g[:, widths] = torch.where(on, (g[:, widths] / by).clamp(min=1.0), g[:, widths])


def bounds(words: np.ndarray, program: Program, canvases: np.ndarray) -> np.ndarray:
    """Which pixels of its source each row uses: int64 [R, 4], top, left, bottom, right, inclusive.

    Its output is carried back through all groups, and what an op must know of a whole image, through those in front of
    that op.

    Args:
        canvases: (H, W) of the sources, int64 [R, 2].
    """
    groups = [_group(words, program, i).astype(np.float64) for i in range(program.groups)]
    output = words[:, [plan.N_GROUPS, plan.OUT_H, plan.OUT_W]]
    low, high = _back(groups, words[:, plan.N_GROUPS], words[:, plan.OUT_H], words[:, plan.OUT_W])
    for k in range(program.asks):
        ask, there = _asks(words, program, k)
        there = there & (ask[:, plan.A_GROUPS : plan.A_W + 1] != output).any(1)  # which is looked at above
        if there.any():
            of = [group[there] for group in groups]
            least, most = _back(of, *(ask[there, at] for at in (plan.A_GROUPS, plan.A_H, plan.A_W)))
            low[there], high[there] = np.minimum(low[there], least), np.maximum(high[there], most)
    last = canvases[:, ::-1] - 1
    low, high = np.fmin(np.fmax(low, 0), last), np.fmin(np.fmax(high, 0), last)  # x, y
    return np.concatenate([low[:, ::-1], high[:, ::-1]], 1).astype(np.int64)


def _back(groups: list[np.ndarray], n: np.ndarray, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box of a canvas h x w behind the first n groups of each row, in its source: least and greatest (x, y),
    float64 [R, 2]."""
    high = np.stack([w, h], 1).astype(np.float64) - 1.0
    low = np.zeros_like(high)
    for i, g in reversed(list(enumerate(groups))):
        matrix, window, kind = g[:, :9].reshape(-1, 3, 3), g[:, plan.G_WINDOW : plan.G_WINDOW + 4], g[:, plan.G_FILTER]
        x, y = np.stack([low[:, 0], high[:, 0]] * 2, 1), np.stack([low[:, 1]] * 2 + [high[:, 1]] * 2, 1)
        at = matrix[:, :, :1] * x[:, None] + matrix[:, :, 1:2] * y[:, None] + matrix[:, :, 2:]  # R, (x, y, 1), corners
        seen = (at[:, 2] > 0).all(1)[:, None]
        at = at[:, :2] / np.where(seen[..., None], at[:, 2:], 1.0)
        support = np.array(REACH)[kind.astype(int), None] * g[:, plan.G_WIDTH : plan.G_WIDTH + 2]
        reach = np.where((kind == geometry.NEAREST)[:, None], 0.5, support) + SLACK - 0.5
        least, most = np.floor(at.min(2) - reach), np.ceil(at.max(2) + reach)
        first, last = window[:, ::2], window[:, 1::2]
        border = g[:, plan.G_BORDER, None]
        mirrors = (border == geometry.REFLECT) | (border == geometry.SYMMETRIC)
        part = seen & ~(mirrors & ((least < first) | (most > last)))
        least, most = np.minimum(np.maximum(least, first), last), np.minimum(np.maximum(most, first), last)
        on = (i < n)[:, None]
        low = np.where(on, np.where(part, least, first), low)
        high = np.where(on, np.where(part, most, last), high)
    return low, high
