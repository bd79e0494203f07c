"""A call whose input is more than a batch of images: what is beside them is moved as they are, by the same draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from . import forms
from .backends.engine import Key
from .blending import hidden, lacking, soft_labels, soft_masks, there
from .drawn import Drawn, laid_out
from .inputs import moved
from .iou_crop import draw_of_boxes
from .kernels.shared import plan
from .kernels.shared import points as classes
from .labels import Found, with_labels
from .masks import blended, move_listed, move_masks
from .paste import paste
from .points import Moved, move_boxes, move_keypoints
from .projection import project_points
from .recipe import Asked, Recipe, Recipes
from .run import Images, run
from .samples import Batch
from .structure import Leaf
from .trail import Trail


class Group(NamedTuple):
    """Leaves of one kind that are moved together: one of a whole batch, or one of each of some samples.

    Attributes:
        leaves: their numbers.
        owners: whose each piece is.
        pieces: a tensor for each sample.
        listed: each sample has as many items as it has; else all have as many, in one tensor.
    """

    leaves: list[int]
    owners: list[int]
    pieces: list[torch.Tensor]
    listed: bool


Values = list[list[Any]]  # by view and leaf
Kept = dict[str, list[dict[int, torch.Tensor]]]  # which "boxes" and "keypoints", by view and sample; not of tensors


def taken(batch: Batch, asked: Asked) -> tuple[Images, Asked]:
    """The images of a batch as `Compose.take` takes them, and what is asked for of such."""
    images = batch.images
    if not batch.clip:
        return images, asked
    if isinstance(images, list):
        if len({image.shape for image in images}) > 1:
            raise ValueError("clips of several shapes: a batch of clips is one tensor [B, T, C, H, W]")
        images = torch.stack(images)
    return (images[None], asked._replace(single=True)) if batch.single else (images, asked)


def finished(pipeline, batch: Batch, out: Images, of: Drawn) -> Any:
    """The structure that came in with what became of all leaves; of several views a list of such, unless all that came
    in was a batch and what was beside it by keyword.

    Args:
        out: the first image of each sample, as the recipe gave them.
    """
    batch, found = with_labels(batch, pipeline.transforms)
    values: Values = [[leaf.value for leaf in batch.leaves] for _ in range(of.views)]
    first_images(batch, out, of, values)
    other_images(pipeline, batch, of, values)
    kinds = {leaf.kind for leaf in batch.leaves}
    followed = "boxes" in kinds or "keypoints" in kinds or (of.tiles and "mask" in kinds)
    trail = trail_of(of) if followed else None
    kept = points(batch, of, values, trail)
    masks(batch, of, values, trail)
    if of.recipe.mixes:
        soften(batch, of, values)
    elif of.tiles:
        gather_labels(batch, of, values)
    if any(leaf.kind == "objects" for leaf in batch.leaves):
        gather_objects(batch, of, values)
    sanitize(batch, kept, found, values)
    if of.recipe.program.pastes is not None:
        paste(batch, of, values)
    back = [given_back(pipeline, batch, view, v, of, trail) for v, view in enumerate(values)]
    if of.recipe.views is None:
        return batch.rebuild(back[0])
    if not batch.by_keyword_alone or of.recipes.reforms:
        return [batch.rebuild(view) for view in back]
    by_leaf = enumerate(zip(*back, strict=True))
    return batch.rebuild([out if i in batch.firsts else joined(one, batch.goes_with_boxes(i)) for i, one in by_leaf])


def by_view(value: Any, of: Drawn) -> list:
    """What a recipe gave, by view."""
    return [value] if of.recipe.views is None else list(value)


def joined(by_view: Sequence[Any], each: bool = False) -> Any:
    """Values of several views with an axis for them in front, where all are tensors of one shape; labels that have no
    part in the draws once, unless those of `each` are wanted."""
    first = by_view[0]
    if not each and all(value is first for value in by_view):
        return first
    if all(isinstance(value, torch.Tensor) and value.shape == first.shape for value in by_view):
        return torch.stack(list(by_view))
    return list(by_view)


# --- images -----------------------------------------------------------------------------------------------------------
def first_images(batch: Batch, out: Images, of: Drawn, values: Values) -> None:
    """Each sample's first image, where there are images."""
    if batch.bare:
        return
    for view, images in zip(values, by_view(out, of), strict=True):
        if len(batch.firsts) == 1 and batch.leaves[batch.firsts[0]].value is batch.images:
            view[batch.firsts[0]] = images
        else:
            for leaf, image in zip(batch.firsts, images, strict=True):
                view[leaf] = image


def other_images(pipeline, batch: Batch, of: Drawn, values: Values) -> None:
    """The further images of each sample, and clips, whose frames are images of it."""

    def like(leaf: Leaf) -> tuple:
        shape = leaf.value.shape
        return (shape[:-2] if len(shape) == 3 else shape), leaf.value.dtype

    for group in groups(batch, "image", like, set(batch.firsts)):
        recipe, n = of.recipe, of.recipe.samples
        images = batch.leaves[group.leaves[0]].value if len(group.owners) == n == 1 and not batch.single else None
        clips = batch.clip or group.pieces[0].dim() > 3
        images = torch.stack(group.pieces) if clips else group.pieces if images is None else images
        source, own = pipeline.take(images, Asked(views=recipe.views))
        sizes = tuple(recipe.sizes[owner] for owner in group.owners)
        if own.sizes != sizes or own.program.columns != recipe.program.columns:
            raise ValueError(
                f"images of one sample share their draws, and must have one size: {sizes[0]} and {own.sizes[0]}"
            )
        if of.tiles or recipe.mixes:
            raise ValueError("several images of a sample: a pipeline that mixes samples takes one of each")
        table = of.table.view(of.views, n, -1)[:, group.owners].flatten(0, 1)
        wanted = None if of.sizes is None else [of.size(v, i) for v in range(of.views) for i in group.owners]
        found = by_view(run(own, source, table, None, sizes=wanted)[0], of)
        for view, one in zip(values, found, strict=True):
            _put(group, batch, view, list(one))


# --- masks ------------------------------------------------------------------------------------------------------------
def masks(batch: Batch, of: Drawn, values: Values, trail: Trail | None) -> None:
    """Masks of a batch, in one tensor or a list of them, and those of samples."""
    gone = ~tiled(trail, of) if of.tiles and trail is not None else None
    for number, leaf in enumerate(batch.leaves):
        if leaf.kind == "mask" and isinstance(leaf.value, torch.Tensor) and (leaf.sample is None or batch.single):
            given = leaf.value[None] if batch.single else leaf.value
            instances = given.dim() == 4 and not batch.clip
            found = by_view(move_masks(frames_taken(given, of), of, instances), of)
            if instances and of.gathers:
                found = hidden(found, given.shape[1], lacking(of) if gone is None else gone)
            if softens(of, instances):
                found = list(soft_masks(torch.stack([one[None] if batch.single else one for one in found]), of))
                found = [one[0] for one in found] if batch.single else found
            for view, one in zip(values, found, strict=True):
                view[number] = one
    if batch.single:
        return
    for group in groups(batch, "mask", lambda leaf: (leaf.value.dtype, leaf.value.dim()), tensors=False):
        if batch.clip:
            raise ValueError("masks of clips are taken as one tensor [B, T, H, W]; stack them")
        moved_by_view = move_listed(group.pieces, group.owners, of)
        if softens(of, group.pieces[0].dim() == 3):
            moved_by_view = [list(one) for one in soft_masks(torch.stack(list(map(torch.stack, moved_by_view))), of)]
        if gone is not None and group.pieces[0].dim() == 3:
            for here, one in zip(gone, moved_by_view, strict=True):
                triples = zip(one, group.pieces, here[group.owners, None], strict=True)
                one[:] = [hidden([m], len(piece), own)[0] for m, piece, own in triples]
        for view, one in zip(values, moved_by_view, strict=True):
            _put(group, batch, view, one)


def tiled(trail: Trail, of: Drawn) -> torch.Tensor:
    """On which outputs several samples were laid, bool [V, B]; elsewhere a mosaic was not drawn."""
    found = (trail.active & (trail.code == classes.LAID)).any(1)
    return found[: of.views * of.recipe.samples].view(of.views, -1)


def softens(of: Drawn, instances: bool) -> bool:
    """Whether masks become shares of classes."""
    return of.recipe.mixes and not instances and not blended(of.recipe.program)


def frames_taken(given: torch.Tensor, of: Drawn) -> torch.Tensor:
    """Of what clips have by frame [B, T, ...], the frames that the ops on frames take."""
    recipe = of.recipe
    program, n = recipe.program, recipe.samples
    if recipe.clip is None or not program.temporal:
        return given
    t = recipe.clip[0]
    if given.dim() < 3 or given.shape[1] != t:
        raise ValueError(f"beside clips of {t} frames expected [{n}, {t}, ...], got {tuple(given.shape)}")
    if of.views > 1 and program.draws_frames:
        raise ValueError("several views of frames that are drawn: ask for one at a time, by view=")
    index = program.frames(recipe.own(of.table), t).to(given.device)
    return given[torch.arange(n, device=given.device)[:, None], index.expand(n, -1)]


# --- boxes and keypoints ----------------------------------------------------------------------------------------------
def points(batch: Batch, of: Drawn, values: Values, trail: Trail | None) -> Kept:
    """Boxes and keypoints; returns which of the first are kept."""
    kept: Kept = {}
    for kind, move in (("boxes", _boxes), ("keypoints", _keypoints)):
        for group in groups(batch, kind, _like):
            drops = _move(group, batch, of, values, trail, move)
            if drops is not None:
                kept.setdefault(kind, drops)
    return kept


def rows_of_points(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """A row for each of the table, on the device and on the host."""
    kept = recipe.beside.get(("points",))
    if kept is None:
        _, first = np.unique(recipe.host_rows[:, plan.ROW_TABLE].numpy(), return_index=True)
        host = recipe.host_rows[torch.from_numpy(first)]
        kept = recipe.beside["points",] = moved(host, recipe.rows.device, torch.int64), host
    return kept


def drawn_by_boxes(batch: Batch, recipes: Recipes, recipe: Recipe, key: Key, table: torch.Tensor) -> torch.Tensor:
    """The table of a pipeline that draws by the boxes of its samples.

    Raises:
        ValueError: there are none.
    """
    group = next(iter(groups(batch, "boxes", _like)), None)
    if batch.clip:
        raise ValueError("RandomIoUCrop: draws by the boxes of images; clips are not taken")
    if group is None:
        recipe.check_alone()
    rows, host = rows_of_points(recipe)
    flat = {owner: piece.flatten(0, -2) for owner, piece in zip(group.owners, group.pieces, strict=True)}
    samples = host[:, plan.ROW_SAMPLE].tolist()
    given = [flat[sample] for sample in samples if sample in flat]
    whose = np.repeat(np.arange(len(samples)), [len(flat.get(sample, ())) for sample in samples])
    boxes = torch.cat(given) if given else next(iter(flat.values()))[:0]
    what = boxes, on_device(whose, table.device), *batch.leaves[group.leaves[0]].of_boxes
    points = recipes.projected(recipe, project_points)
    return draw_of_boxes(recipe.engine, points, rows, table, key, *what, recipe.backend)


def trail_of(of: Drawn) -> Trail:
    """Which way points go, for each row of the table."""
    points = of.recipes.projected(of.recipe, project_points)
    rows, _ = rows_of_points(of.recipe)
    return Trail.of(*points, rows, of.table, of.recipe.backend)


def _move(group: Group, batch: Batch, of: Drawn, values: Values, trail: Trail, move: Callable):
    shapes = [piece.shape for piece in group.pieces]
    flat = [piece.flatten(0, -2) for piece in group.pieces]
    laid = laid_out(group.owners, [len(piece) for piece in flat], of)
    device, n = of.table.device, len(laid.item)
    given = torch.cat(flat)
    if of.gathers:
        given = given.index_select(0, on_device(laid.item, device))
    rows = on_device(np.concatenate([laid.rows(v, of) for v in range(of.views)]), device)
    went: Moved = move(trail, given.repeat(of.views, 1), rows, batch.leaves[group.leaves[0]], shapes)
    if of.tiles:
        alone = ~tiled(trail, of)[:, on_device(laid.whose, device)]
        went = without(went, (alone & (on_device(laid.layer, device) > 0)).flatten())
    elif of.gathers:
        went = without(went, ~there(laid, of).flatten())
    kept = []
    for v, view in enumerate(values):
        found = went.values[v * n : (v + 1) * n].split(laid.counts)
        found = [one.view(-1, *shape[1:-1], one.shape[-1]) for one, shape in zip(found, shapes, strict=True)]
        if went.kept is not None and group.listed:
            keeps = went.kept[v * n : (v + 1) * n].split(laid.counts)
            keeps = [k.view(len(f), -1)[:, 0] if len(f) else k[:0] for k, f in zip(keeps, found, strict=True)]
            found = [one[keep] for one, keep in zip(found, keeps, strict=True)]
            kept.append(dict(zip(group.owners, keeps, strict=True)))
        _put(group, batch, view, found)
    return kept or None


def on_device(numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    """Whole numbers, without a wait."""
    return moved(torch.from_numpy(np.ascontiguousarray(numbers)), device, torch.int64)


def without(went: Moved, gone: torch.Tensor) -> Moved:
    """What was moved, without some of it."""
    values = torch.where(gone[:, None], torch.nan, went.values) if went.values.is_floating_point() else went.values
    return Moved(values, ~gone if went.kept is None else went.kept & ~gone)


def _like(leaf: Leaf) -> tuple:
    value = leaf.value if isinstance(leaf.value, torch.Tensor) else (leaf.value or [torch.empty(0, device="cpu")])[0]
    return leaf.of_boxes, value.dtype, value.dim()


def _boxes(trail: Trail, given: torch.Tensor, rows: torch.Tensor, leaf: Leaf, shapes: Sequence) -> Moved:
    return move_boxes(trail, given, rows, *leaf.of_boxes)


def _keypoints(trail: Trail, given: torch.Tensor, rows: torch.Tensor, leaf: Leaf, shapes: Sequence) -> Moved:
    return move_keypoints(trail, given, rows, shapes[0][1] if len(shapes[0]) > 2 else 1)


# --- labels -----------------------------------------------------------------------------------------------------------
def soften(batch: Batch, of: Drawn, values: Values) -> None:
    """Labels of a batch that is mixed; of objects, where there are boxes."""
    boxes = any(leaf.kind == "boxes" for leaf in batch.leaves)
    for number, leaf in enumerate(batch.leaves):
        if leaf.kind == "labels":
            if leaf.sample is not None and not batch.single:
                raise TypeError("labels that are mixed must be a batch's: hand in (images, labels), each in one tensor")
            value = leaf.value
            if isinstance(value, torch.Tensor):
                objects = value.dim() == 2 and not value.is_floating_point()
            else:
                objects = isinstance(value, list) and all(isinstance(x, torch.Tensor) and x.dim() for x in value)
            for view, found in zip(values, soft_labels(leaf, of, boxes and objects), strict=True):
                view[number] = found


def gather_labels(batch: Batch, of: Drawn, values: Values) -> None:
    """The labels of the objects of a mosaic: those of all samples on it."""
    found = [(i, leaf) for i, leaf in enumerate(batch.leaves) if leaf.kind == "labels"]
    pieces: dict[int, Any] = {}
    for _, leaf in found:
        items = enumerate(leaf.value) if leaf.sample is None and _of_objects(leaf, batch) else []
        pieces |= dict(items if leaf.sample is None else [(leaf.sample, leaf.value)])
    if not pieces or not all(isinstance(p, torch.Tensor) and p.dim() for p in pieces.values()):
        return
    b, layers = of.recipe.samples, of.recipe.program.mix.layers
    gathered = {i: torch.cat([pieces[j] for j in ((i - k) % b for k in range(layers)) if j in pieces]) for i in pieces}
    for number, leaf in found:
        many = [gathered[i] for i in sorted(gathered)] if leaf.sample is None else gathered[leaf.sample]
        for view in values:
            view[number] = torch.stack(many) if leaf.sample is None and isinstance(leaf.value, torch.Tensor) else many


def _of_objects(leaf: Leaf, batch: Batch) -> bool:
    """Whether the labels of a batch are its objects': a list, or whole numbers [B, N] beside boxes [B, N, 4]."""
    if not isinstance(leaf.value, torch.Tensor):
        return isinstance(leaf.value, list)
    shapes = [other.value.shape[:-1] for other in batch.leaves if other.kind == "boxes" and _together(other)]
    return not leaf.value.is_floating_point() and leaf.value.shape in shapes


def _together(leaf: Leaf) -> bool:
    return leaf.sample is None and isinstance(leaf.value, torch.Tensor)


def gather_objects(batch: Batch, of: Drawn, values: Values) -> None:
    """What else there is one of for each box, where an output has the objects of several samples.

    Raises:
        ValueError: the pipeline pastes objects, and a labels_getter found more than their labels.
    """
    found = [(i, leaf) for i, leaf in enumerate(batch.leaves) if leaf.kind == "objects"]
    if of.recipe.program.pastes is not None and not all(batch.goes_with_boxes(i) for i, _ in found):
        raise ValueError("CopyPaste: labels_getter may find labels alone, as pasted objects have nothing else")
    if not of.gathers:
        return
    places: dict[int, list[int]] = {}
    for number, leaf in found:
        if leaf.sample is not None:
            places.setdefault(leaf.sample, []).append(number)
            continue
        gathered = [torch.cat([leaf.value[j] for j in of.on(i)]) for i in range(of.recipe.samples)]
        for view in values:
            view[number] = torch.stack(gathered) if _together(leaf) else gathered
    for numbers in zip(*places.values(), strict=True):
        pieces = {batch.leaves[number].sample: batch.leaves[number].value for number in numbers}
        for number in numbers:
            gathered = torch.cat(
                [torch.as_tensor(pieces[i]) for i in of.on(batch.leaves[number].sample) if i in pieces]
            )
            for view in values:
                view[number] = gathered


def sanitize(batch: Batch, kept: Kept, found: Found, values: Values) -> None:
    """Drop what goes with the boxes and keypoints that were dropped: with boxes masks and what was given as their
    objects, too, and labels unless `found` says what there is."""

    def left(value: Any, keep: torch.Tensor | None) -> Any:
        if (
            keep is None
            or not isinstance(value, torch.Tensor | np.ndarray)
            or not value.ndim
            or len(value) != len(keep)
        ):
            return value
        return value[keep.to(value.device) if isinstance(value, torch.Tensor) else keep.cpu().numpy()]

    for kind, by_view in kept.items():
        for view, keeps in zip(values, by_view, strict=True):
            for number, leaf in enumerate(batch.leaves):
                goes = kind == "boxes" and (leaf.kind in ("mask", "labels") or batch.goes_with_boxes(number))
                if kind in found and leaf.kind != "mask" and not batch.goes_with_boxes(number):
                    goes = number in found[kind]
                value = view[number]
                if not goes:
                    continue
                if leaf.sample is None and isinstance(value, list):
                    view[number] = [left(one, keeps.get(i)) for i, one in enumerate(value)]
                elif leaf.sample is not None and (leaf.kind != "mask" or value.dim() == 3):
                    view[number] = left(value, keeps.get(leaf.sample))


# --- leaves -----------------------------------------------------------------------------------------------------------
def groups(
    batch: Batch, kind: str, of_one: Callable[[Leaf], Any], without: Iterable[int] = (), tensors: bool = True
) -> list[Group]:
    """The leaves of a kind that can be moved together: a batch's each alone; of samples those that stand at the same
    place and have one `of_one`.

    Args:
        tensors: a batch's in one tensor, too.
    """
    found: list[Group] = []
    of_samples: dict[Any, Group] = {}
    seen: dict[Any, int] = {}
    for number, leaf in enumerate(batch.leaves):
        if leaf.kind != kind or number in without:
            continue
        if leaf.sample is None:
            listed = not isinstance(leaf.value, torch.Tensor)
            if (listed or tensors) and len(leaf.value):
                found.append(Group([number], list(range(len(leaf.value))), list(leaf.value), listed))
            continue
        like = of_one(leaf)
        place = seen[leaf.sample, like] = seen.get((leaf.sample, like), -1) + 1
        group = of_samples.setdefault((like, place), Group([], [], [], True))
        group.leaves.append(number)
        group.owners.append(leaf.sample)
        group.pieces.append(leaf.value)
    return [*found, *of_samples.values()]


def _put(group: Group, batch: Batch, view: list, found: list) -> None:
    """Give a group's leaves what became of their pieces."""
    if batch.leaves[group.leaves[0]].sample is None:
        same = not group.listed or isinstance(batch.leaves[group.leaves[0]].value, torch.Tensor)
        view[group.leaves[0]] = torch.stack(found) if same else found
        return
    for number, value in zip(group.leaves, found, strict=True):
        view[number] = value


def given_back(pipeline, batch: Batch, view: list, v: int, of: Drawn, trail: Trail | None) -> list:
    """The values of a view in the forms in which they came, or in what the pipeline makes of them."""
    found, canvases = [], [of.size(v, i) for i in range(of.recipe.samples)]
    for leaf, value in zip(batch.leaves, view, strict=True):
        canvas = canvases if leaf.sample is None else canvases[leaf.sample]
        dtype = (
            None if leaf.kind in ("image", "labels", "objects") else forms.dtype_behind(pipeline.transforms, leaf.kind)
        )
        value = value if dtype is None else cast(leaf, value, dtype)
        kind = "labels" if leaf.kind == "objects" else leaf.kind
        back = forms.give_back(kind, leaf.like, value, pipeline.transforms, canvas)
        found.append(renamed(back, trail) if leaf.kind == "boxes" and trail is not None and trail.events else back)
    return found


def cast(leaf: Leaf, value: Any, dtype: torch.dtype) -> Any:
    """What became of a leaf in a dtype, except where it became something else, as masks do that are mixed."""
    if isinstance(value, list):
        return [cast(leaf, one, dtype) for one in value]
    came = leaf.value[0] if isinstance(leaf.value, list) else leaf.value
    return value.to(dtype) if value.dtype == came.dtype else value


def renamed(boxes: Any, trail: Trail) -> Any:
    """Boxes that know what format and clamping mode they have come to have."""
    for one in boxes if isinstance(boxes, list | tuple) else (boxes,):
        if hasattr(one, "format"):
            one.format = type(one.format)[trail.format_behind(one.format.value)]
            one.clamping_mode = trail.mode_behind(one.clamping_mode)
    return boxes
