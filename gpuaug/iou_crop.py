"""The draws of RandomIoUCrop: a function of seed, epoch, id, view, and the boxes that arrive.

The boxes are carried to the op by what is drawn in front of it; the window is drawn, for all samples and many tries at
once; then all that stands behind it is drawn on top of it (`engine.Key.onto`), as it may depend on the canvas. A draw
takes exactly rounded operations only: of equal boxes it is equal to the bit on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .backends.engine import Engine, Key
from .inputs import moved
from .kernels.shared import plan
from .kernels.torch import dialect as torch_dialect
from .keys import advanced
from .points import upright_at
from .program import Program
from .trail import Trail
from .tree import Event

ROUNDS = 16  # options that are drawn, until one finds a window
AT_ONCE = 4  # of these, on a device that nobody waits for
DRAW = torch_dialect.DRAW


class Window(NamedTuple):
    """Float32 tensors [T, K]: of T draws and K tries, or [T]."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor


def draw_of_boxes(
    engine: Engine,
    points: tuple[Program, Engine],
    rows: torch.Tensor,
    table: torch.Tensor,
    key: Key,
    boxes: torch.Tensor,
    box_rows: torch.Tensor,
    format: str = "XYXY",
    clamping_mode: str | None = "soft",
    backend: str = "kornia",
) -> torch.Tensor:
    """Draw for rows of a program with ops that draw by boxes (`Program.by_boxes`).

    Args:
        engine: of the program. points: its `projection.project_points`, and an engine of that.
        rows: int64 [R, ROW].
        table: float32 [T, P], written; T as the rows name them.
        boxes, box_rows, format, clamping_mode: as `points.move_boxes`. The boxes of all rows of a table row are one's.
        backend: as `trail.Trail`.

    Returns:
        The table.
    """
    key = _named(rows, key)
    table = engine.plan(rows, table, key).table
    for event in engine.program.by_boxes:
        trail = Trail.of(*points, rows, table, backend)
        there = upright_at(trail, event, boxes, box_rows, format, clamping_mode)
        _draw(trail, event, rows, table, key, there, box_rows)
        table = engine.plan(rows, table, key._replace(onto=True)).table
    return table


def _named(rows: torch.Tensor, key: Key) -> Key:
    """A key with ids: a batch without is counted once, however often it is planned."""
    if key.ids is not None:
        return key
    return key._replace(
        ids=advanced(key.state, rows[:, plan.ROW_SAMPLE].max() + 1) + torch.arange(len(rows), device=rows.device)
    )


def _draw(trail: Trail, event: Event, rows, table: torch.Tensor, key: Key, boxes: torch.Tensor, box_rows) -> None:
    """Write an op's columns, where it acts. `boxes`: left, top, right, bottom [M, 4]."""
    stream, column, trials, *limits = event.values
    own = rows[:, plan.ROW_TABLE]
    numbers = torch.arange(len(rows), device=rows.device)
    first = torch.full((len(table),), len(rows), device=rows.device).scatter_reduce(0, own, numbers, "amin")
    first = first.clamp(max=len(rows) - 1)  # a row of each draw
    _, acts, canvas = trail.until(event)
    found = table.new_zeros((len(table), 5))
    open_yet = acts[first]
    words = DRAW["words"](_words(rows[first], key, stream), 0)
    for options, window in _tries(words, canvas[first], limits, trials, boxes.device.type == "cpu"):
        overlap = _overlaps(window, boxes, own[box_rows])
        fits = _allowed(window, limits) & (overlap >= options[..., None].clamp(min=0.0))
        stays, some = options >= 1.0, fits.any(-1)
        ends = stays | some
        which = ends.to(torch.int8).argmax(1)  # the first option that decides
        chosen = fits.gather(1, which[:, None, None].expand(-1, 1, fits.shape[2]))[:, 0].to(torch.int8).argmax(1)
        place = (which * fits.shape[2] + chosen)[:, None]
        applied = open_yet & (some & ~stays).gather(1, which[:, None])[:, 0]
        values = torch.stack([side.flatten(1).gather(1, place)[:, 0] for side in window], 1)
        values = torch.cat((torch.ones_like(values[:, :1]), values), 1)
        found = torch.where(applied[:, None], values, found)
        open_yet = open_yet & ~ends.any(1)
        if boxes.device.type == "cpu" and not open_yet.any():
            break
    table[:, column : column + 5] = found


def _words(rows: torch.Tensor, key: Key, stream: int) -> tuple:
    """The words of the rows' draws for an op, as `draw_columns` makes them."""
    names, state = key.ids.index_select(0, rows[:, plan.ROW_SAMPLE]), key.state
    epoch = torch.full_like(names, key.epoch) if key.epoch >= 0 else state[plan.STATE_EPOCH].expand_as(names)
    seed = state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH]
    words = DRAW["row_key"](names, epoch, rows[:, plan.ROW_VIEW], *seed)
    return (*words[:3], words[3] + stream * 256, *words[4:])


def _tries(words, canvas: torch.Tensor, limits, trials: int, one_by_one: bool) -> Iterator[tuple[torch.Tensor, Window]]:
    """Options [T, K], and so many windows [T, K, trials] of each, some rounds at once."""
    low, high, _, _, *options = limits  # the least and the most of a side, of the ratio; the options
    known = moved(torch.tensor(options, dtype=torch.float32, device="cpu"), canvas.device, torch.float32)
    h, w = (canvas[:, axis, None, None] for axis in (0, 1))
    seeds = [word[:, None, None] for word in words[:2]]
    step = 1 if one_by_one else AT_ONCE
    for start in range(0, ROUNDS, step):
        rounds = torch.arange(start, start + step, device=canvas.device)[None, :, None]
        number = torch.arange(trials + 1, device=canvas.device)[None, None]
        shape = len(canvas), step, trials + 1
        counter = (
            rounds.expand(shape),
            number.expand(shape),
            torch.zeros(shape, dtype=torch.int64, device=canvas.device),
        )
        a, b, c, d = DRAW["philox"](*counter, counter[2], *seeds)
        option = DRAW["integer"](a[..., trials], float(len(options))).long()
        a, b, c, d = (word[..., :trials] for word in (a, b, c, d))
        width = (w * DRAW["between"](a, low, high)).floor()
        height = (h * DRAW["between"](b, low, high)).floor()
        left = ((w - width) * DRAW["unit"](c)).floor()
        yield known[option], Window(((h - height) * DRAW["unit"](d)).floor(), left, height, width)


def _allowed(window: Window, limits) -> torch.Tensor:
    """Whether windows have a ratio within limits, and an area."""
    ratio = window.width / window.height
    return (ratio >= limits[2]) & (ratio <= limits[3]) & (window.width > 0) & (window.height > 0)


def _overlaps(window: Window, boxes: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """The largest IoU of windows [T, K, trials] with those boxes [M, 4] of theirs whose centre lies inside; -1 for
    none. `of`: int64 [M], the draw that a box belongs to."""
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    top, left, height, width = (side[of] for side in window)
    right, bottom = left + width, top + height
    x, y = 0.5 * (x1 + x2), 0.5 * (y1 + y2)
    inside = (left < x) & (x < right) & (top < y) & (y < bottom)
    wide = (x2.minimum(right) - x1.maximum(left)).clamp(min=0.0)
    tall = (y2.minimum(bottom) - y1.maximum(top)).clamp(min=0.0)
    shared = wide * tall
    overlap = shared / ((x2 - x1) * (y2 - y1) + width * height - shared)
    overlap = torch.where(inside, overlap, -1.0).flatten(1)
    most = overlap.new_full((window.top.shape[0], overlap.shape[1]), -1.0)
    return most.scatter_reduce(0, of[:, None].expand_as(overlap), overlap, "amax").view_as(window.top)
