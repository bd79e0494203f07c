"""The callbacks for Lightning's Trainer: what reaches a step, in which epoch, and what is left behind."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga

lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
from gpuaug.integrations.lightning import HOOK, AugmentCallback, EpochCallback  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
]
IMAGES = torch.randint(0, 256, (12, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(IMAGES, torch.arange(12) % 4)
TO_FLOAT = [ga.RandomResizedCrop(16), ga.ToDtype(torch.float32, scale=True)]


def pipeline(*more: Any, seed: int | None = 0) -> ga.Compose:
    return ga.Compose([*TO_FLOAT, *more], seed=seed)


def loader(data: Any = DATA, **keywords: Any) -> DataLoader:
    return DataLoader(data, 4, **keywords)


class Net(lightning.LightningModule):
    """Keeps the batches that its steps see."""

    def __init__(self, fail: bool = False):
        super().__init__()
        self.layer, self.fail = torch.nn.Linear(3, 4), fail
        self.seen: dict[str, list] = {"train": [], "validate": [], "test": [], "predict": []}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.fail:
            raise ArithmeticError("as it was asked to")
        self.seen["train"].append((self.current_epoch, batch))
        return self.layer(batch[0].float().mean((2, 3)).to(self.layer.weight.dtype)).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen["validate"].append(batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self.seen["predict"].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, callbacks: Sequence[Any], epochs: int = 2, **keywords: Any) -> Any:
    keywords = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, **keywords}
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        default_root_dir=folder,
        **keywords,
    )


def check_as_called(seen: list[tuple[int, Any]], augment: ga.Compose, epochs: Sequence[int]) -> None:
    """In each of the epochs all samples in order, each by its id."""
    assert [epoch for epoch, _ in seen] == [epoch for epoch in epochs for _ in range(3)]
    for i, epoch in enumerate(epochs):
        found = torch.cat([images for _, (images, _) in seen[3 * i : 3 * i + 3]])
        assert torch.equal(found, augment(IMAGES, ids=range(12), epoch=epoch)), f"epoch {epoch}"


def test_training_batches_are_augmented_by_id_and_epoch_and_no_others(tmp_path: Path) -> None:
    augment, net = pipeline(), Net()
    fit = trainer(tmp_path, [AugmentCallback(augment)])
    plain = loader()
    fit.fit(net, loader(ga.WithIds(DATA)), plain)
    fit.validate(net, plain, verbose=False)
    fit.test(net, plain, verbose=False)
    fit.predict(net, plain)
    check_as_called(net.seen["train"], augment, [0, 1])
    labels = [batch[1] for _, batch in net.seen["train"][:3]]
    assert torch.equal(torch.cat(labels), DATA.tensors[1])
    assert len(net.seen["validate"]) == 2 + 2 * 3 + 3, "the sanity check, two epochs, and validate()"
    others = net.seen["validate"] + net.seen["test"] + net.seen["predict"]
    assert {batch[0].dtype for batch in others} == {torch.uint8} and len(others) == 17
    assert augment.epoch == 1 and HOOK not in vars(net)


def test_ids_in_the_batch_stay_there(tmp_path: Path) -> None:
    augment, net = pipeline(), Net()
    data = TensorDataset(IMAGES, DATA.tensors[1], torch.arange(12))
    trainer(tmp_path, [AugmentCallback(augment, ids=2)], epochs=1).fit(net, loader(data))
    for _, (images, _, ids) in net.seen["train"]:
        assert torch.equal(images, augment(IMAGES[ids], ids=ids, epoch=0))


def test_ids_that_no_batch_has_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ids names 'id', and a batch holds \\[0, 1\\]"):
        trainer(tmp_path, [AugmentCallback(pipeline(), ids="id")]).fit(Net(), loader())


def test_labels_become_soft(tmp_path: Path) -> None:
    net = Net()
    augment = pipeline(ga.MixUp(num_classes=4))
    trainer(tmp_path, [AugmentCallback(augment)], epochs=1).fit(net, loader(ga.WithIds(DATA)))
    for i, (_, (images, soft)) in enumerate(net.seen["train"]):
        ids = range(4 * i, 4 * i + 4)
        expected = augment(IMAGES[ids], DATA.tensors[1][ids], ids=ids, epoch=0)
        assert torch.equal(images, expected[0]) and torch.equal(soft, expected[1]) and soft.shape == (4, 4)


def test_hooks_of_ones_own_run_first_and_are_there_again_afterwards(tmp_path: Path) -> None:
    class Own(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [255 - batch[0], batch[1]]

    class Plain(lightning.LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loader()

    class Data(Plain):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0].flip(-1), batch[1]]

    invert = ga.Compose([ga.RandomInvert(1.0)], seed=0)
    for net, module, expected in (
        (Own(), None, IMAGES[:4]),
        (Own(), Plain(), IMAGES[:4]),
        (Net(), Data(), 255 - IMAGES[:4].flip(-1)),
    ):
        data = {"train_dataloaders": loader()} if module is None else {"datamodule": module}
        trainer(tmp_path, [AugmentCallback(invert)], epochs=1).fit(net, **data)
        assert torch.equal(net.seen["train"][0][1][0], expected)
        assert all(HOOK not in vars(owner) for owner in (net, module) if owner is not None)


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    net, callback = Net(fail=True), AugmentCallback(pipeline())
    own = net.on_after_batch_transfer = lambda batch, dataloader_idx: batch
    with pytest.raises(ArithmeticError):
        trainer(tmp_path, [callback]).fit(net, loader())
    assert vars(net)[HOOK] is own
    net.fail = False
    trainer(tmp_path, [callback], epochs=1).fit(net, loader())
    assert net.seen["train"][0][1][0].shape == (4, 3, 16, 16) and vars(net)[HOOK] is own


def test_an_example_input_is_left_as_it_is(tmp_path: Path) -> None:
    class Summed(Net):
        example_input_array = torch.zeros(1, 3, 20, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[-2:] == (20, 24)
            return self.layer(x.mean((2, 3)))

    net = Summed()
    trainer(tmp_path, [AugmentCallback(pipeline())], epochs=1, enable_model_summary=True).fit(net, loader())
    assert net.seen["train"][0][1][0].shape == (4, 3, 16, 16)


def test_images_have_the_trainers_precision(tmp_path: Path) -> None:
    net = Net()
    trainer(tmp_path, [AugmentCallback(pipeline())], epochs=1, precision="bf16-true").fit(net, loader())
    assert net.seen["train"][0][1][0].dtype == torch.bfloat16


def test_the_search_for_a_learning_rate_sees_what_training_sees(tmp_path: Path) -> None:
    net = Net()
    net.lr = 0.1
    fit = trainer(tmp_path, [AugmentCallback(pipeline())])
    lightning.tuner.Tuner(fit).lr_find(net, loader(), num_training=4, update_attr=False)
    assert {batch[0].dtype for _, batch in net.seen["train"]} == {torch.float32} and HOOK not in vars(net)


@pytest.mark.parametrize("seed", [7, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_draws_as_one_that_was_not_broken(workers: int, seed: int | None, tmp_path: Path) -> None:
    """Without workers on the device; with them in a collate function: the epoch is set before they begin."""
    first, second = pipeline(seed=seed), pipeline(seed=None)
    begun = []

    class Noted(DataLoader):
        def __iter__(self) -> Any:
            begun.append(self.augment.epoch)
            return super().__iter__()

    def run(augment: ga.Compose, epochs: int, checkpoint: Path | None = None) -> Net:
        kind = EpochCallback if workers else AugmentCallback
        made = ga.collate(augment) if workers else None
        data = Noted(ga.WithIds(DATA), 4, num_workers=workers, persistent_workers=workers > 0, collate_fn=made)
        data.augment = augment
        saving = lightning.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        net = Net()
        fit = trainer(tmp_path, [kind(augment), saving], epochs, enable_checkpointing=True)
        fit.fit(net, data, ckpt_path=checkpoint)
        return net

    check_as_called(run(first, 2).seen["train"], first, [0, 1])
    check_as_called(run(second, 4, tmp_path / "epoch=1.ckpt").seen["train"], first, [2, 3])
    assert second.seed == first.seed and begun == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_the_callbacks_are_those_of_the_package_that_is_imported(name: str) -> None:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    program = f"import {name} as pl, gpuaug.integrations.lightning as it; "
    program += "print(issubclass(it.AugmentCallback, pl.Callback))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="AugmentCallback: augment must be a gpuaug.Compose, got 3"):
        AugmentCallback(3)
    with pytest.raises(RuntimeError, match="more than one stateful callback"):  # Lightning's own word
        trainer(tmp_path, [AugmentCallback(pipeline()), AugmentCallback(pipeline())])
