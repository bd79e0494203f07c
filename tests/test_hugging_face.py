"""Pipelines in the data sets of Hugging Face's datasets, and under the Trainer of its transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga

datasets = pytest.importorskip("datasets", reason="datasets is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
Picture = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
from gpuaug.integrations.transformers import EpochCallback  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"image": "pixel_values", "label": "labels"}
ARRAYS = [np.random.default_rng(i).integers(0, 256, (20 + i, 24, 3), dtype=np.uint8) for i in range(12)]
IMAGES = [torch.from_numpy(array).permute(2, 0, 1) for array in ARRAYS]


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers looks for a package `kernels`, and must not find the folder at the top of this repository."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place).resolve() != ROOT])


def pipeline() -> ga.Compose:
    return ga.Compose([ga.RandomResizedCrop(16), ga.ToDtype(torch.float32, scale=True)], seed=0)


def data(**more: Any) -> Any:
    columns = {"image": [Picture.fromarray(array) for array in ARRAYS], "label": [i % 4 for i in range(12)], **more}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


class Net(torch.nn.Module):
    """Keeps the batches that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(3, 4), []

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append((pixel_values, labels))
        logits = self.layer(pixel_values.mean((2, 3)))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def trained(folder: Path, way: str, augment: ga.Compose, epochs: int, resume: bool = False) -> Net:
    """A network that saw its training data, augmented in the data set or in the collator, by two workers."""
    train, keywords = ga.WithIds(data()), {"data_collator": ga.collate(augment, columns=NAMES)}
    if way == "transform":
        train, keywords = data(id=range(12)).with_transform(ga.collate(augment, ids="id", columns=NAMES)), {}
    arguments = transformers.TrainingArguments(
        folder,
        per_device_train_batch_size=4,
        num_train_epochs=epochs,
        save_strategy="epoch",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        dataloader_num_workers=2,
        dataloader_persistent_workers=True,
        logging_strategy="no",
    )
    net = Net()
    trainer = transformers.Trainer(net, arguments, train_dataset=train, callbacks=[EpochCallback(augment)], **keywords)
    trainer.train(resume_from_checkpoint=resume)
    return net


def check(net: Net, augment: ga.Compose, epochs: list[int]) -> None:
    """In each epoch every sample once, with its label, as its id and the epoch draw it."""
    assert len(net.seen) == 3 * len(epochs)
    for i, epoch in enumerate(epochs):
        images, labels = map(torch.cat, zip(*net.seen[3 * i : 3 * i + 3], strict=True))
        expected = augment(IMAGES, ids=range(12), epoch=epoch)
        found = (images[:, None] == expected).flatten(2).all(2).int().argmax(1)  # which sample each is
        assert sorted(found.tolist()) == list(range(12)), f"epoch {epoch}"
        assert torch.equal(labels, found % 4)


def test_a_collate_function_is_a_transform_of_a_data_set() -> None:
    augment = pipeline()
    augment.set_epoch(3)
    made = data(id=range(12)).with_transform(ga.collate(augment, ids="id", columns=NAMES))
    expected = augment(IMAGES, ids=range(12))
    assert torch.equal(made[:]["pixel_values"], expected) and made[:]["labels"].tolist() == [i % 4 for i in range(12)]
    assert torch.equal(made[5]["pixel_values"], expected[5]) and made[5]["labels"] == 1
    assert torch.equal(made.select([7, 2])[:]["pixel_values"], expected[[7, 2]])
    augment.set_epoch(4)
    kept = made.select(range(4)).add_column("more", range(4)).remove_columns("more")
    assert torch.equal(kept[:]["pixel_values"], augment(IMAGES[:4], ids=range(4))), "copies follow the pipeline"
    with pytest.raises(ValueError, match="collate: ids names 'id', and a sample holds \\['image', 'label'\\]"):
        data().with_transform(ga.collate(augment, ids="id"))[0]


def test_rows_with_ids_are_collated() -> None:
    augment = pipeline()
    rows = torch.utils.data.DataLoader(ga.WithIds(data()), 5, collate_fn=ga.collate(augment, columns=NAMES))
    augment.set_epoch(1)
    found = torch.cat([batch["pixel_values"] for batch in rows])
    assert torch.equal(found, augment(IMAGES, ids=range(12)))


@pytest.mark.parametrize("way", ["transform", "collator"])
def test_the_trainer_draws_by_id_and_epoch_and_after_a_resume(way: str, tmp_path: Path) -> None:
    check(trained(tmp_path, way, pipeline(), 2), pipeline(), [0, 1])
    check(trained(tmp_path, way, pipeline(), 4, resume=True), pipeline(), [2, 3])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TypeError, match="EpochCallback: augment must be a gpuaug.Compose, got 3"):
        EpochCallback(3)
