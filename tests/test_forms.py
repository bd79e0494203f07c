"""In what form images come back, and several of one sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga

tv_tensors = pytest.importorskip("torchvision.tv_tensors", reason="torchvision is not installed")


def test_an_image_and_a_clip_in_one_sample_get_one_draw() -> None:
    image = tv_tensors.Image(torch.randint(0, 256, (3, 17, 11), dtype=torch.uint8))
    clip = tv_tensors.Video(image.as_subclass(torch.Tensor).expand(4, -1, -1, -1).contiguous())
    augment = ga.Compose([ga.RandomAffine(30, (0.2, 0.2)), ga.RandomCrop(8), ga.ColorJitter(0.4, 0.4)], seed=1)
    for sample in ([image, clip, "name"], (clip, image), {"clip": clip, "image": image, "again": clip}):
        found = augment(sample, ids=3, epoch=0)
        found = list(found.values()) if isinstance(found, dict) else found
        pictures = [x for x in found if isinstance(x, tv_tensors.Image)]
        clips = [x for x in found if isinstance(x, tv_tensors.Video)]
        assert pictures[0].shape == (3, 8, 8) and clips[0].shape == (4, 3, 8, 8)
        for one in clips:
            assert all(torch.equal(frame, pictures[0]) for frame in one.as_subclass(torch.Tensor))
    other = tv_tensors.Video(clip[..., :9])
    with pytest.raises(ValueError, match="must have one size: 17x11 and 17x9|must have one size: .17, 11. and .17, 9."):
        augment([image, other])


def test_plain_tensors_go_out_in_the_form_that_the_pipeline_makes() -> None:
    batch = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    flip = ga.RandomHorizontalFlip(1.0)
    image = ga.Compose([flip, ga.ToImage()])(batch)
    assert type(image) is tv_tensors.Image and torch.equal(image, batch.flip(-1))
    pictures = ga.Compose([flip, ga.ToPILImage()], seed=0)
    one, many = pictures(batch[0]), pictures(list(batch))
    assert isinstance(one, Image.Image) and np.array_equal(np.asarray(one), batch[0].flip(-1).permute(1, 2, 0).numpy())
    assert [type(x) for x in many] == [Image.Image] * 2
    found, labels = pictures(batch, torch.arange(2))
    assert [x.tobytes() for x in found] == [x.tobytes() for x in many] and labels.tolist() == [0, 1]
    views = pictures(batch, views=2)
    assert [[type(x) for x in view] for view in views] == [[Image.Image] * 2] * 2
    replayed = pictures.apply(batch, pictures.sample(batch))
    assert [x.tobytes() for x in replayed] == [x.tobytes() for x in many]
    assert type(ga.Compose([ga.ToImage(), ga.ToPureTensor()])(batch)) is torch.Tensor
    pictures.transforms.pop()
    assert type(pictures(batch)) is torch.Tensor
