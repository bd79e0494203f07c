"""Events for TensorBoard, as TensorBoard's own reader sees them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "tensorboard"):
    pytest.importorskip(needed, reason=f"not installed: {needed}; pip install 'gpuaug[finetune,tensorboard]'")

from finetuning import few  # noqa: E402
from PIL import Image  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # noqa: E402

from gpuaug.finetune import Config, finetune, report, resume, runs, tensorboard  # noqa: E402

OPTIONS = {"model": "test_resnet", "augment": "none", "lr": 0.02, "batch_size": 50, "device": "cpu", "workers": 0}
OPTIONS |= {"quiet": True, "tensorboard": True, "epochs": 3}
AFTER = report.after


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return finetune(Config(**OPTIONS, out=tmp_path_factory.mktemp("runs")), parts=few()).run


@pytest.fixture
def no_report(monkeypatch) -> None:
    monkeypatch.setattr(report, "after", lambda job: None)


def read(run: Path) -> EventAccumulator:
    """Everything, none left out by sampling."""
    found = EventAccumulator(str(run / "events"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def check(run: Path, found: EventAccumulator | None = None) -> None:
    """Each number of metrics.jsonl is there once, at its step, and nothing else is."""
    found = found or read(run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = lines[-1]["best_epoch"]
    expected = {f"{name}/test": [(0, lines[0][f"test_{name}"]), (best, lines[-1][f"test_{name}"])] for name in METRICS}
    for part in ("train", "val"):
        expected |= {f"{m}/{part}": [(x["epoch"], x[f"{part}_{m}"]) for x in lines[1:-1]] for m in METRICS}
    expected["lr"] = [(line["epoch"], line["lr"]) for line in lines[1:-1]]
    for name in ("seconds", "images_per_second"):
        expected[f"time/{name}"] = [(line["epoch"], line[name]) for line in lines[1:-1]]
    for name in ("waiting", "augment", "model"):
        expected[f"time/{name}"] = [(line["epoch"], line["shares"][name]) for line in lines[1:-1]]
    assert [line["epoch"] for line in lines[1:-1]] == [1, 2, 3]
    assert set(found.Tags()["scalars"]) == set(expected)
    for tag, pairs in expected.items():
        seen = [(event.step, event.value) for event in found.Scalars(tag)]
        assert [step for step, _ in seen] == [step for step, _ in pairs], tag
        assert [value for _, value in seen] == pytest.approx([value for _, value in pairs], rel=1e-6), tag


METRICS = ("loss", "accuracy")


def test_tensorboard_reads_what_metrics_jsonl_says(made):
    check(made)


def test_tensorboard_has_the_pictures(made):
    found = read(made)
    pictures = {path.stem: path for path in (made / "pictures").glob("*.png")}
    assert set(found.Tags()["images"]) == set(pictures) >= {"curves", "confusion", "contact_sheet", "calibration"}
    for name, path in pictures.items():
        (event,) = found.Images(name)
        with Image.open(path) as image:
            assert (event.width, event.height) == image.size
    (event,) = found.Images("curves")
    (made / "again.png").write_bytes(event.encoded_image_string)
    with Image.open(made / "again.png") as again, Image.open(made / "pictures" / "curves.png") as first:
        assert np.array_equal(np.asarray(again.convert("RGB")), np.asarray(first.convert("RGB")))


def test_tensorboard_has_the_options(made):
    content = read(made).PluginTagToContent("hparams")
    assert set(content) >= {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    assert {info.name.tag for info in experiment.metric_infos} == {"accuracy/test", "loss/test"}
    options = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert options["lr"].number_value == 0.02 and options["epochs"].number_value == 3
    assert options["model"].string_value == "test_resnet" and options["recipe"].string_value == "full"


class Broken(Exception):
    """What a callback raises in these tests: as if the process were killed behind a line that was just written."""


def breaks_at(epoch: int):
    def callback(line: dict) -> None:
        if line.get("epoch") == epoch:
            raise Broken

    return callback


def test_a_resumed_run_has_each_step_once(tmp_path, no_report):
    """It breaks with epoch 2 in its events and not in its checkpoint; a TensorBoard looks on all the time."""
    config = Config(**OPTIONS, out=tmp_path)
    with pytest.raises(Broken):
        finetune(config, parts=few(), callbacks=[breaks_at(2)])
    (folder,) = (run.folder for run in runs.every(tmp_path))
    looking = read(folder)
    before = {event.step: event.wall_time for event in looking.Scalars("loss/train")}
    assert sorted(before) == [1, 2] and [path.stem for path in (folder / "checkpoints").iterdir()] == ["epoch-0001"]
    with pytest.raises(Broken):
        resume(folder, parts=few(), callbacks=[breaks_at(3)])
    resume(folder, parts=few())
    check(folder)
    looking.Reload()
    check(folder, looking)
    times = {event.step: event.wall_time for event in read(folder).Scalars("loss/train")}
    assert times[1] == before[1] and times[1] < times[2] < times[3]


def test_files_of_a_clock_that_was_ahead(tmp_path, no_report):
    with pytest.raises(Broken):
        finetune(Config(**OPTIONS, out=tmp_path), parts=few(), callbacks=[breaks_at(2)])
    (folder,) = (run.folder for run in runs.every(tmp_path))
    (old,) = tensorboard.files(folder / "events")
    old.rename(old.with_name("events.out.tfevents.4102444800.elsewhere.1.0"))
    resume(folder, parts=few())
    check(folder)


def test_events_that_a_crash_has_torn_are_mended(tmp_path, no_report):
    with pytest.raises(Broken):
        finetune(Config(**OPTIONS, out=tmp_path), parts=few(), callbacks=[breaks_at(2)])
    (folder,) = (run.folder for run in runs.every(tmp_path))
    (torn,) = tensorboard.files(folder / "events")
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 3])
    resume(folder, parts=few())
    check(folder)


def test_a_report_that_is_written_again_has_its_pictures_once(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / made.name)
    (folder / "report.html").unlink()
    resume(folder, parts=few())
    found = read(folder)
    check(folder, found)
    assert all(len(found.Images(name)) == 1 for name in found.Tags()["images"])


def test_without_the_option_there_are_no_events(tmp_path, no_report):
    run = finetune(Config(**(OPTIONS | {"tensorboard": False, "epochs": 1}), out=tmp_path), parts=few()).run
    assert not (run / "events").exists()


def test_a_missing_package_is_said_before_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r"needs the package tensorboard: pip install 'gpuaug\[tensorboard\]'"):
        finetune(Config(**OPTIONS, out=tmp_path), parts=few())
    assert list(tmp_path.iterdir()) == []


def test_metrics_of_ones_own_and_numbers_that_are_none():
    line = {"event": "epoch", "epoch": 4, "val_my_rate": 0.5, "val_loss": None, "train_loss": 1, "shares": None}
    assert dict(tensorboard.scalars(line)) == {"my_rate/val": 0.5, "loss/train": 1.0}
    assert tensorboard.step_of(line) == 4
