"""Video: camera motions told apart, with the right recipe and with a flip that makes another motion of one.

    python examples/video_clips.py --weights resnet20_cifar10.safetensors
    python examples/video_clips.py --weights resnet20_cifar10.safetensors --flip

Clips of eight motions over scikit-learn's two photos (embedded, no download); others, of files or folders of frames,
come from gpuaug.data.clips. A network of images whose weights are given stays as it is: what is learned is what its
feature maps say of motion.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn import functional as F

import gpuaug as ga
from gpuaug.data import Loader, motion
from gpuaug.finetune.video_model import video_model


def main(
    model: str = "resnet20",
    weights: str | None = None,
    flip: bool = False,
    follow: bool = False,
    epochs: int = 3,
    clips: int = 40,
    size: int = 64,
    seed: int = 0,
) -> float:
    """Train on so many clips of each motion; returns the accuracy on clips of parts of the photos not seen before."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parts = motion.make(size=size, train=clips, test=max(clips * 3 // 8, 1))
    normalised = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
    # One draw a clip. A flip turns pan_left into pan_right: it is left out, unless the labels follow it.
    flips = [ga.RandomHorizontalFlip()] if flip or follow else []
    crop = ga.RandomResizedCrop(size, scale=(0.6, 1.0), ratio=(0.9, 1.11))
    augment = ga.Compose([crop, ga.ColorJitter(0.4, 0.4, 0.4, 0.1), *flips, *normalised], seed=seed)
    train = Loader(parts.train, 32, device=device, shuffle=True, drop_last=True, seed=seed)
    test = Loader(parts.test, 32, ga.Compose(normalised), device=device)

    net = video_model(model, len(motion.CLASSES), weights=weights)[0].to(device)
    net.backbone.requires_grad_(weights is None)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 5e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=epochs * len(train))
    for epoch in range(epochs):
        net.train()
        for images, labels, ids in train:
            params = augment.sample(images, ids=ids, epoch=epoch)
            images = augment.apply(images, params)
            if follow:
                labels = motion.relabel(labels, params)
            loss = F.cross_entropy(net(images), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    net.eval()
    with torch.no_grad():
        hits = torch.cat([net(images).argmax(1) == labels for images, labels, _ in test])
    accuracy = hits.float().mean().item()
    print(f"test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", help="resnet20, or a convolutional network of timm's")
    parser.add_argument("--weights", help="a safetensors file, or pretrained")
    parser.add_argument("--flip", action="store_true", help="flip clips and leave their labels: the wrong recipe")
    parser.add_argument("--follow", action="store_true", help="flip clips, and have their labels follow")
    for name, value in {"epochs": 3, "clips": 40, "size": 64, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
