"""Detection: boxes and labels in COCO's format, augmented in the data set as torchvision's reference does it.

    python examples/detection.py blood_cells/train --steps 50

The folder holds images/ and coco.json. Boxes of which a crop leaves nothing are dropped, and their labels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection import fcos_resnet50_fpn

import gpuaug as ga


class Cells(Dataset):
    """Images and targets of a coco.json."""

    def __init__(self, folder: Path, augment: ga.Compose):
        found = json.loads((folder / "coco.json").read_text())
        self.folder, self.augment, self.images = folder / "images", augment, found["images"]
        self.of_image = {image["id"]: [] for image in found["images"]}
        for one in found["annotations"]:
            self.of_image[one["image_id"]].append(one)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict]:
        info = self.images[index]
        image, found = Image.open(self.folder / info["file_name"]).convert("RGB"), self.of_image[info["id"]]
        boxes = torch.tensor([one["bbox"] for one in found]).reshape(-1, 4).float()
        boxes = tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=(image.height, image.width))
        labels = torch.tensor([one["category_id"] for one in found])
        return self.augment(image, {"boxes": boxes, "labels": labels, "image_id": info["id"]}, ids=index, epoch=0)


def main(folder: str, size: int = 320, steps: int = 1, batch_size: int = 2, workers: int = 0) -> float:
    """Train for a few steps; returns the last loss."""
    augment = ga.Compose(
        [
            ga.RandomPhotometricDistort(),
            ga.ScaleJitter((size, size), (0.5, 1.5)),
            ga.RandomCrop(size, pad_if_needed=True, fill=(123, 117, 104)),
            ga.RandomHorizontalFlip(),
            ga.ToImage(),
            ga.ToDtype(torch.float32, scale=True),
            ga.ConvertBoundingBoxFormat("XYXY"),
            ga.SanitizeBoundingBoxes(),
        ],
        seed=0,
    )
    data = Cells(Path(folder), augment)
    loader = DataLoader(data, batch_size, shuffle=True, num_workers=workers, collate_fn=list)
    torch.manual_seed(0)
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=size)  # 0 is background
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    for step, samples in zip(range(steps), loader, strict=False):
        loss = sum(model(*zip(*samples, strict=True)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}, {sum(len(target['boxes']) for _, target in samples)} boxes")
    return loss.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of images/ and coco.json")
    for name, value in {"size": 320, "steps": 1, "batch-size": 2, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
