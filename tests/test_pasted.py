"""Copy-paste in the training of a segmenter: objects come with their masks, by draws that are the same again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm", "segmentation_models_pytorch"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from test_segment import write_discs  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug import presets  # noqa: E402
from gpuaug.data import Loader, Parts, masks  # noqa: E402
from gpuaug.data.annotated import Annotated  # noqa: E402
from gpuaug.finetune import Config, Run, finetune, pasted  # noqa: E402
from gpuaug.finetune.segmented import MaskFeed  # noqa: E402
from gpuaug.finetune.semantic import Meaning, semantic  # noqa: E402

SIDE, IGNORED, CLASSES = 40, 255, 5


def paste(share: float = 1.0) -> ga.Compose:
    return ga.Compose([ga.RandomApply([ga.CopyPaste()], share)], seed=3, backend="cpu")


def planted(counts: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, 3, SIDE, SIDE] whose pixels say what lies there, and numbered masks: so many rectangles in each, of
    classes 1 to 4, beside columns of no class."""
    rng, numbers = np.random.default_rng(0), torch.zeros(len(counts), SIDE, SIDE, dtype=torch.int64)
    for one, count in zip(numbers, counts, strict=True):
        one[:, -4:] = IGNORED
        for i in range(count):
            y, x, h, w = (int(v) for v in rng.integers((0, 0, 4, 4), (30, 30, 10, 10)))
            one[y : y + h, x : x + w] = pasted.STEP * (i + 1) + int(rng.integers(1, CLASSES))
    return (numbers % pasted.STEP).float()[:, None].expand(-1, 3, -1, -1) / 10 - 2, numbers


def test_objects_come_with_their_masks() -> None:
    """As each pixel says which class it is of, one look tells whether its mask does."""
    x, numbers = planted((5, 0, 9, 1))
    before, changed = numbers % pasted.STEP, torch.zeros(4, dtype=torch.bool)
    for epoch in range(6):
        y, found = pasted.pasted(paste(), x, numbers, torch.arange(4), epoch)
        assert found.dtype == torch.int64 and y.dtype == x.dtype
        assert torch.equal(y[:, 0], found.float() / 10 - 2), "what was pasted is where its mask is"
        gone = (before != 0) & (before != IGNORED) & (found == 0)
        assert not gone.any() and set(found.unique().tolist()) <= {*range(CLASSES), IGNORED}
        changed |= (found != before).flatten(1).any(1)
        again = pasted.pasted(paste(), x, numbers, torch.arange(4), epoch)
        assert torch.equal(again[0], y) and torch.equal(again[1], found)
    assert changed.tolist() == [True, True, False, True], "the second image has nothing for the third"
    y, found = pasted.pasted(paste(0.0), x, numbers, torch.arange(4), 0)
    assert torch.equal(y, x) and torch.equal(found, before)


def test_numbers_say_class_and_object(tmp_path: Path) -> None:
    painted = Meaning(("background", "a", "b"), painted=True)
    planes = np.zeros((3, 4, 6), np.uint8)
    planes[0, :, :4], planes[1, 1:3, 1:3], planes[2, 3, 5] = 1, 1, 1
    known = Annotated(tmp_path / "none.png", masks=planes, labels=[0, 1, 0])
    made = pasted.Numbered([known], painted)[0].masks
    assert made.dtype == np.int32 and np.array_equal(made % pasted.STEP, painted(known).masks)
    assert made[0, 0] // pasted.STEP == 1 and made[1, 1] // pasted.STEP == 2 and made[3, 5] // pasted.STEP == 3
    assert made[0, 5] == 0 and len(np.unique(made)) == 4
    write_discs(tmp_path / "objects", 3, 0)
    parts, _ = semantic(Parts("discs", masks(tmp_path / "objects"), None, None), True)
    some = pasted.numbered(parts.train.subset([2, 0]))
    for i, place in enumerate((2, 0)):
        number = masks(tmp_path / "objects").targets[place].masks
        assert np.array_equal(some.targets[i].masks, pasted.STEP * number.astype(np.int32) + (number > 0))
    write_discs(tmp_path / "classes", 3, 0, objects=False)
    parts, _ = semantic(Parts("discs", masks(tmp_path / "classes"), None, None), False)
    with pytest.raises(ValueError, match="copy_paste: it pastes objects, and the numbers in these masks are classes"):
        pasted.numbered(parts.train)


@pytest.mark.parametrize("resident", [False, True])
def test_a_feed_pastes_in_training_alone(tmp_path: Path, resident: bool) -> None:
    write_discs(tmp_path, 8, 0)
    parts, _ = semantic(Parts("discs", masks(tmp_path), None, None), True)
    augment = presets.get("segmentation_train", size=48, mean=(0.5,) * 3, std=(0.5,) * 3, seed=1, backend="cpu")
    how = {"shuffle": True, "seed": 2, "workers": 0, "resident": resident, "device": "cpu"}
    plain = list(MaskFeed(Loader(parts.train, 4, augment, **how), 48))
    feed = pasted.PastedFeed(Loader(pasted.numbered(parts.train), 4, augment, **how), 48, paste=paste())
    for (x, mask, ids), (y, other, same) in zip(plain, feed, strict=True):
        assert torch.equal(ids, same) and other.shape == mask.shape and other.dtype == mask.dtype
        assert set(other.unique().tolist()) <= {0, 1, IGNORED}
        assert (other == 1)[mask == 1].all() and (other != mask).any()
        where = (other == mask)[:, None].expand_as(x) & (mask != 1)[:, None]
        assert torch.equal(y[where], x[where]), "elsewhere images are as they were"
    tested = pasted.PastedFeed(Loader(parts.train, 4, ga.Compose([]), workers=0), 48, paste=paste())
    for images, found, ids in tested:
        for image, mask, id in zip(images, found, ids.tolist(), strict=True):
            place = parts.train.ids.tolist().index(id)
            assert np.array_equal(mask.numpy(), parts.train.targets[place].masks) and image.shape[1:] == mask.shape


def test_a_run_pastes_and_says_so(tmp_path: Path) -> None:
    write_discs(tmp_path / "discs" / "train", 6, 0)
    write_discs(tmp_path / "discs" / "test", 2, 1)
    known = {"data": str(tmp_path / "discs"), "model": "test_efficientnet", "size": 64, "device": "cpu", "workers": 0}
    known |= {"quiet": True, "batch_size": 3, "recipe": "full", "epochs": 1, "keep": 0, "out": tmp_path / "runs"}
    run = Run(finetune(Config(**known, copy_paste=0.5)).run)
    assert "objects are pasted on 50% of the images, from others of the batch" in run.resolved["decisions"]
    for more, words in (
        ({"mixup": 0.2}, "copy_paste: it goes without mixup and cutmix"),
        ({"masks": "classes"}, "copy_paste: it pastes objects, and the numbers in these masks are classes"),
    ):
        with pytest.raises(ValueError, match=words):
            finetune(Config(**known, copy_paste=0.5, **more))
    with pytest.raises(ValueError, match=r"copy_paste must be in \[0, 1\], got 1.5"):
        Config(copy_paste=1.5)
