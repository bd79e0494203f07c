"""docs/cookbook.md, recipe by recipe, as it stands there; and that what each says comes out."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "cookbook.md").read_text(encoding="utf-8")
RECIPES = dict(zip(*[iter(re.split(r"^## (.*)$", TEXT, flags=re.M)[1:])] * 2, strict=True))
PREAMBLE = TEXT.partition("\n## ")[0]


def code(text: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


def differ(y: torch.Tensor) -> bool:
    """Whether no two neighbours of a batch are the same."""
    return all(not torch.equal(a, b) for a, b in zip(y[:-1], y[1:], strict=True))


CHECKS = {
    "Put augmentation into a loop that you have": lambda y, target, **_: (
        y.shape == (16, 3, 32, 32) and y.dtype == torch.float32 and torch.equal(target, torch.arange(16) % 10)
    ),
    "Augment inside of a Dataset": lambda y, target, images, Photos, **_: (
        y.shape == (8, 3, 32, 32)
        and torch.equal(target, torch.arange(8))
        and torch.equal(y, Photos.augment(images[:8], ids=range(8), epoch=3))
    ),
    "Augment in the collate function: photos of any sizes become a batch": lambda y, target, photos, crop, **_: (
        torch.equal(y, crop([image for image, _ in photos], ids=range(16), epoch=3))
        and differ(y)
        and torch.equal(target, torch.arange(16) % 10)
    ),
    "See what was drawn, and draw it again": lambda y, **_: y.shape == (16, 3, 32, 32) and differ(y),
    "Replay an image's draw with torchvision": lambda x, **_: x.shape == (3, 48, 48),
    "Resume a run exactly": lambda resumed, augment, **_: resumed.seed == augment.seed and resumed.epoch == 4,
    "Two views for contrastive learning": lambda first, second, **_: (
        first.shape == second.shape == (16, 3, 32, 32) and not torch.equal(first, second)
    ),
    "Large and small crops (DINO, SwAV)": lambda crops, **_: (
        [tuple(crop.shape) for crop in crops] == [(16, 3, 48, 48)] * 2 + [(16, 3, 16, 16)] * 6
    ),
    "MixUp and CutMix with soft targets": lambda soft, loss, **_: (
        soft.shape == (16, 10) and torch.allclose(soft.sum(1), torch.ones(16)) and loss.isfinite()
    ),
    "timm's recipe": lambda y, **_: y.shape == (16, 3, 32, 32) and y.dtype == torch.float32 and differ(y),
    "Images with masks": lambda y, masks, **_: (
        y.shape == (16, 3, 48, 48) and masks.shape == (16, 48, 48) and set(masks.unique().tolist()) <= {*range(21), 255}
    ),
    "Images with boxes and their labels": lambda y, target, **_: (
        y.shape == (3, 32, 32)
        and len(target["boxes"]) == len(target["labels"])
        and target["boxes"].canvas_size == (32, 32)
    ),
    "Keypoints of a batch": lambda y, moved, keypoints, **_: (
        y.shape == (16, 3, 128, 160)
        and torch.allclose(moved[..., 0], 2 * (79 - keypoints[..., 0]) + 1, atol=3.0)
        and torch.allclose(moved[..., 1], 2 * keypoints[..., 1], atol=1e-3)
    ),
    "Clips: one draw for all frames": lambda y, **_: y.shape == (4, 4, 3, 32, 32),
    "Predict on several views, and bring maps back onto the image": lambda mean, images, **_: (
        mean.shape == (16, 1, 64, 80)
        and (mean - images.float().mean(1, keepdim=True) / 255)[..., 24:40, 30:50].abs().mean() < 0.2
    ),
    "A formula of your own, fused with its neighbours": lambda y, images, **_: y.shape == images.shape,
    "A function of your own between the ops": lambda y, **_: y.shape == (16, 3, 32, 32) and differ(y),
    "Bring a torchvision pipeline over": lambda y, augment, **_: (
        y.shape == (16, 3, 32, 32) and y.dtype == torch.float32 and "RandomResizedCrop(size=(32, 32)" in repr(augment)
    ),
    "Augment a data set that lies in memory": lambda y, augment, resident, index, **_: torch.equal(
        y, augment(resident[index], ids=index, epoch=0)
    ),
    "Prepare a table of images: Arrow, Ray Data, Spark": lambda y, found, table, augment, augment_table, **_: (
        y.shape == (16, 3, 32, 32)
        and found.drop(["image"]).equals(table.drop(["image"]))
        and (
            augment_table(table.slice(5), augment, epoch=3)["image"].combine_chunks().to_numpy_ndarray() == y[5:]
        ).all()
    ),
    "Ask for exactly these parameters": lambda y, images, **_: y.shape == images.shape and differ(y),
    "Compile the model with its augmentation": lambda logits, **_: logits.shape == (16, 10),
}


def test_every_recipe_has_a_check_and_there_are_twenty() -> None:
    assert list(RECIPES) == list(CHECKS)
    assert len(RECIPES) >= 20


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("title", RECIPES)
def test_recipe_runs_as_it_stands(title: str, dynamo: None, tmp_path: Path) -> None:
    if "torchvision" in RECIPES[title]:
        pytest.importorskip("torchvision", reason="the recipe uses torchvision")
    if "pyarrow" in RECIPES[title]:
        pytest.importorskip("pyarrow", reason="the recipe uses pyarrow")
    if "timm" in title:
        pytest.importorskip("timm", reason="the recipe is timm's")
    (tmp_path / "recipe.py").write_text(code(PREAMBLE) + code(RECIPES[title]), encoding="utf-8")
    torch.manual_seed(0)
    assert CHECKS[title](**runpy.run_path(str(tmp_path / "recipe.py"))), title
