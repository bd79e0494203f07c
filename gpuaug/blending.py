"""What becomes of masks, objects and labels where the images of a batch are blended in pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .drawn import Drawn, Laid
from .inputs import moved
from .kernels.shared import blend
from .kernels.torch.dialect import BLEND
from .mixing import mixable, targets_of
from .structure import Leaf


def shares(of: Drawn) -> torch.Tensor:
    """The partner's share of each sample [V, B], where images are mixed as wholes."""
    recipe = of.recipe
    table, columns = recipe.own(of.table), [column for op, column in _blends(of) if op == "mixup"]
    return sum((table[:, i] for i in columns), torch.zeros_like(table[:, 0])).view(of.views, recipe.samples)


def _blends(of: Drawn) -> list[tuple[str, int]]:
    """The pipeline's blends, and where their columns begin."""
    return [(blend.CASES[slot.op], slot.column) for slot in of.recipe.program.facts.blends]


def soft_masks(masks: torch.Tensor, of: Drawn) -> torch.Tensor:
    """Masks [V, B, OH, OW] of classes, or [V, B, K, OH, OW] of their shares, as float32 [V, B, K, OH, OW], mixed as the
    images are.

    Raises:
        ValueError: whole numbers, and no num_classes.
    """
    recipe, mix = of.recipe, of.recipe.program.mix
    if masks.dim() == 4:
        if mix.num_classes is None:
            raise ValueError("masks of classes become soft where a pipeline mixes: pass num_classes= to MixUp")
        masks = masks[:, :, None] == torch.arange(mix.num_classes, device=masks.device)[:, None, None]
    own, table = masks.float(), recipe.own(of.table).view(of.views, recipe.samples, -1)
    y, x = (torch.arange(n, dtype=torch.float32, device=masks.device) for n in masks.shape[-2:])
    other = own.index_select(1, recipe.mixing.others)
    for op, column in _blends(of):  # of these one acts at most, the draws of the others are 0
        p, fold = table[..., column : column + 4, None, None, None].unbind(2), BLEND[op]
        own = fold(1, fold(0, own, own, x, y[:, None], p), other, x, y[:, None], p)
    return own


def there(laid: Laid, of: Drawn) -> torch.Tensor:
    """Which objects are on their outputs at all, bool [V, M]: not those of a partner that has no share."""
    share = shares(of)
    told = np.stack((laid.whose, laid.layer > 0, laid.source == laid.whose))
    whose, partners, own = moved(torch.from_numpy(told), share.device, torch.int64)
    partners, own = partners > 0, own > 0
    return ~partners | ((share[:, whose] > 0.0) & ~own)


def lacking(of: Drawn) -> torch.Tensor:
    """Whose partner has no share, or is the sample itself, bool [V, B]."""
    alone = torch.tensor([of.on(i)[1] == i for i in range(of.recipe.samples)], device="cpu")
    return (shares(of) <= 0.0) | moved(alone, of.table.device, torch.bool)


def hidden(masks: Sequence[torch.Tensor], n: int, gone: torch.Tensor) -> list[torch.Tensor]:
    """Masks of instances by view, [B, N', OH, OW] or [N', OH, OW]: those behind the first N are empty where the other
    samples are gone, bool [V, B]."""
    found = []
    for one, here in zip(masks, gone, strict=True):
        others = torch.arange(one.shape[-3], device=one.device) >= n
        found.append(one.masked_fill((here.view(*one.shape[:-3], 1) & others)[..., None, None], 0))
    return found


def soft_labels(leaf: Leaf, of: Drawn, objects: bool) -> Sequence:
    """By view, labels of images, float32 [B, K]; or of their objects, lists of [N, K], or [B, N, K]: the class of an
    object weighs as much as its image does.

    Raises:
        TypeError, ValueError: labels that cannot be mixed.
    """
    recipe, mix = of.recipe, of.recipe.program.mix
    if not objects:
        soft = recipe.mixing.soft(mixable(leaf.value, recipe), of.table, recipe)
        return [soft] if recipe.views is None else list(soft)
    if mix.num_classes is None:
        raise ValueError("labels of objects become soft where a pipeline mixes: pass num_classes= to MixUp")
    device, found = of.table.device, []
    targets = [targets_of(labels, mix, device) for labels in leaf.value]
    for share in shares(of):
        both = []
        for i, own in enumerate(targets):
            other = targets[of.on(i)[1]]
            both.append(torch.cat((own * (1.0 - share[i]), other * share[i])))
        found.append(torch.stack(both) if isinstance(leaf.value, torch.Tensor) else both)
    return found
