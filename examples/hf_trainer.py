"""Hugging Face: `ga.collate` as the transform of a data set, and a callback that sets the epochs, under the Trainer.

    python examples/hf_trainer.py --epochs 2

scikit-learn's handwritten digits as Pillow images (embedded, no download), a few seconds an epoch. Needs `pip install
transformers datasets`. Test data has a transform of its own, so the Trainer evaluates on images that are not augmented.
"""

from __future__ import annotations

import argparse
import tempfile

import datasets
import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedConfig, ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import gpuaug as ga
from gpuaug.data import Source, digits
from gpuaug.integrations.transformers import EpochCallback

COLUMNS = {"image": "pixel_values", "label": "labels"}  # as the models name their inputs
TO_FLOAT = [ga.PILToTensor(), ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5] * 3, [0.5] * 3)]


def pictures(part: Source) -> datasets.Dataset:
    """A data set of Pillow images and labels, as `datasets.load_dataset` gives them, with the ids beside."""
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in part.images]
    columns = {"id": part.ids.tolist(), "image": images, "label": part.labels.tolist()}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def model() -> torch.nn.Module:
    config: PreTrainedConfig = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10
    )
    return ResNetForImageClassification(config)


def main(epochs: int = 2, batch_size: int = 64, workers: int = 0) -> dict[str, float]:
    """Train on the digits; returns the loss in training and what the evaluation found."""
    torch.manual_seed(0)
    affine = ga.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation="bilinear")
    augment, plain = ga.Compose([affine, *TO_FLOAT], seed=0), ga.Compose(TO_FLOAT)
    train, test = map(pictures, digits(size=32).split(0.2, seed=0))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            learning_rate=1e-2,
            remove_unused_columns=False,  # the transform needs them
            dataloader_num_workers=workers,
            dataloader_pin_memory=torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
        )
        trainer = Trainer(
            model(),
            arguments,
            train_dataset=train.with_transform(ga.collate(augment, ids="id", columns=COLUMNS)),
            eval_dataset=test.with_transform(ga.collate(plain, columns=COLUMNS)),
            compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(1) == p.label_ids))},
            callbacks=[EpochCallback(augment)],
        )
        found = {"loss": trainer.train().training_loss, **trainer.evaluate()}
    print(f"loss {found['loss']:.3f}, accuracy {found['eval_accuracy']:.1%}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"epochs": 2, "batch-size": 64, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
