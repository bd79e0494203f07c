"""The task video: clips of two planted kinds through whole runs, and what is told before a run begins."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")
pytest.importorskip("numba", reason="clips are augmented by the CPU engine")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug import presets  # noqa: E402
from gpuaug.data import DataError, Parts, Source, by_video, clips, motion  # noqa: E402
from gpuaug.data.clips import are_clips, evenly  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, evaluating, finetune, resume, video, video_data  # noqa: E402
from gpuaug.finetune.predicting import Predicted  # noqa: E402

SIDE, FRAMES = 20, 6


def frames_of(path: Path, red: int, n: int = FRAMES, seed: int = 0) -> None:
    """A clip as a folder of frames: noise under so much red."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for t in range(n):
        frame = rng.integers(0, 60, (SIDE, SIDE, 3)) + np.array([red, 0, 0])
        Image.fromarray(frame.astype(np.uint8)).save(path / f"{t}.png")


def write(root: Path, count: int = 8, classes=("calm", "wild"), n: int = FRAMES) -> Path:
    for k, name in enumerate(classes):
        for i in range(count):
            frames_of(root / name / f"c{i}", 190 * k, n + i % 2, 100 * k + i)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Train and test part of two classes that one colour tells."""
    root = tmp_path_factory.mktemp("clips")
    write(root / "train", 8)
    write(root / "test", 4)
    return root


def options(out: Path, **more) -> dict:
    few = {"model": "resnet20", "size": 16, "frames": 3, "epochs": 8, "batch_size": 8, "lr": 0.003, "robustness": 0}
    return few | {"device": "cpu", "workers": 0, "quiet": True, "out": out} | more


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    known = options(out, stride=2, clips_per_video=2, robustness=4)
    return Run(finetune(Config(data=str(folder), **known)).run)


# --- whole runs -------------------------------------------------------------------------------------------------------
def test_a_run_learns_and_leaves_what_it_found(run: Run) -> None:
    known = run.resolved
    assert known["task"] == "video" and known["images"] == {"train": 16, "test": 16}, "two samples of each of 8 videos"
    assert known["details"] == {"frames": 3, "stride": 2, "pooling": "mean", "clips_per_video": 2}
    assert run.evaluation.n == 8 and run.event("after")["test_accuracy"] == 1.0
    stored = run.predictions
    assert len(set(stored["paths"])) == 8 and all(Path(path).is_dir() for path in stored["paths"])
    assert np.allclose(np.exp(stored["logits"]).sum(1), 1, atol=1e-5), "logarithms of averaged probabilities"
    names = {path.name for path in run.picture("x").parent.iterdir()}
    assert {"contact_sheet.png", "mistakes.png", "confusion.png", "calibration.png", "curves.png"} <= names
    assert run.robustness["n"] == 4 and (run.folder / "pictures" / "corruptions.png").exists()
    assert "clips" in (run.folder / "report.html").read_text() and "streamed" in " ".join(known["decisions"])


def test_its_model_answers_for_clips(run: Run, folder: Path, tmp_path: Path) -> None:
    model = ga.load(run.folder, device="cpu")
    frames_of(tmp_path / "other" / "one", 190, 5)
    (tmp_path / "other" / "two").mkdir()
    (tmp_path / "other" / "two" / "0.png").write_bytes(b"no image")
    found = model.predict([folder / "test" / "calm", tmp_path / "other" / "one", tmp_path / "other" / "two"])
    assert [one.answer for one in found] == ["calm"] * 4 + ["wild", ""]
    assert "two/0.png" in found.bad[0].error and len(found.bad) == 1
    noise = torch.randint(0, 60, (2, 3, 3, 24, 24), dtype=torch.uint8)
    assert [one.answer for one in model.predict(noise)] == ["calm"] * 2
    clip = torch.randint(0, 256, (2, 3, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(model(clip), model(clip.float() / 255))
    for wrong, words in (
        (torch.zeros(2, 5, 3, 8, 8, dtype=torch.uint8), r"\[N, 3, 3, H, W\] for this model"),
        (7, "paths"),
    ):
        with pytest.raises(ValueError, match=words):
            model.predict(wrong)
    with pytest.raises(ValueError, match="tta has no effect with task=video"):
        model.asked(tta="flip")


def test_its_model_is_evaluated_as_the_run_was(run: Run, folder: Path) -> None:
    model = ga.load(run.folder, device="cpu")
    found = model.evaluate(folder, workers=0)
    assert found.n == 8 and found.loss == pytest.approx(run.evaluation.loss, abs=1e-4)


def test_it_is_evaluated_and_exported_by_the_commands(run: Run, tmp_path: Path, capsys) -> None:
    from gpuaug.cli import main

    assert main(["evaluate", str(run.folder), "--device", "cpu", "--workers", "0", "--robustness", "0"]) == 0
    assert "wild" in capsys.readouterr().out
    made = next((run.folder / "evaluations").iterdir())
    assert Run(made).evaluation.n == 8 and (made / "pictures" / "mistakes.png").exists()
    out = tmp_path / "model.pt2"
    assert main(["export", str(run.folder), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "8 test clips of the run" in told and "clips, float32 [B, 3, 3, 16, 16]" in told
    loaded, x = torch.export.load(out).module(), torch.rand(4, 3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), ga.load(run.folder, device="cpu")(x), rtol=1e-4, atol=1e-4)


def test_a_clip_that_spans_the_whole_is_decoded_once(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """And what is kept are the pixels that a Loader decodes."""
    read, original = [], video_data.Loader
    monkeypatch.setattr(video_data, "Loader", lambda *a, **k: read.append(len(a[0])) or original(*a, **k))
    known = Run(finetune(Config(data=str(folder), **options(tmp_path, epochs=2))).run).resolved
    assert read == [16, 8] and known["details"]["stride"] == "fit"
    source = clips(folder / "train", 3, "fit", 18)
    kept, bad = video_data.kept(source, "train", Config(workers=0))
    wanted = {int(i): clip for batch, _, ids in original(source, 4) for clip, i in zip(batch, ids, strict=True)}
    assert not bad and all(torch.equal(wanted[int(i)], clip) for i, clip in zip(kept.ids, kept.images, strict=True))


def test_features_are_made_once(folder: Path, tmp_path: Path) -> None:
    """Of frames, averaged; and of feature maps, which a classifier of motion reads."""
    known = options(tmp_path, recipe="probe", epochs=60, lr=1e-4, optimizer="sgd")
    done = finetune(Config(data=str(folder), stride=2, **known))
    assert done.after == 1.0 and "features of 64 numbers" in " ".join(Run(done.run).resolved["decisions"])
    done = finetune(Config(data=str(folder), pooling="correlation", **known | {"epochs": 1}))
    before, after = Run(done.run), load_file(done.run / "best.safetensors")
    assert f"features of {3 * 64 * 4 * 4} numbers" in " ".join(before.resolved["decisions"])
    assert any(name.startswith("head.over_time") for name in after)


def test_it_goes_on_to_the_bit(folder: Path, tmp_path: Path) -> None:
    def stop(line: dict) -> None:
        if line.get("epoch") == 1:
            import signal

            signal.raise_signal(signal.SIGINT)

    config = Config(data=str(folder), **options(tmp_path, stride=2, epochs=3, checkpoint_steps=1))
    whole = finetune(config).run
    with pytest.raises(Interrupted) as stopped:
        finetune(config, callbacks=[stop])
    begun = Path(str(stopped.value).rsplit(" ", 1)[-1])
    gone_on = resume(begun).run
    assert gone_on == begun and Run(gone_on).event("after") == Run(whole).event("after")
    a, b = (load_file(one / "best.safetensors") for one in (whole, gone_on))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_network_of_volumes(folder: Path, tmp_path: Path) -> None:
    known = options(tmp_path, model="torchvision:r3d_18", size=32, epochs=1, batch_size=16, resident=False, keep=0)
    done = Run(finetune(Config(data=str(folder), **known)).run)
    assert done.resolved["mean"] == pytest.approx([0.43216, 0.394666, 0.37645]) and "streamed" in repr(done.resolved)
    found = ga.load(done.folder, device="cpu").predict(folder / "test" / "wild")
    assert len(found) == 4 and not found.bad


def test_patches_of_pixels_have_a_model(tmp_path: Path) -> None:
    """And their maps are what a loop over places gathers, less the mean of each patch and channel."""
    from gpuaug.finetune.video_model import Patches

    x = torch.rand(1, 3, 24, 28)
    (maps,) = Patches(2).forward_intermediates(x)
    small = torch.nn.functional.avg_pool2d(x, 4)
    patch = small[0, :, 1:6, 2:7]
    torch.testing.assert_close(maps[0, :, 3, 4], (patch - patch.mean((1, 2), keepdim=True)).flatten())
    done = finetune(Config(**options(tmp_path, model="patches", frames=None, size=None, epochs=1)), parts=planted())
    model = ga.load(done.run, device="cpu")
    assert model.about.details["pooling"] == "correlation" and len(model.predict(planted().test.images)) == 8
    assert not any(name.startswith("backbone") for name in load_file(done.run / "best.safetensors"))


def test_its_weights_say_how_clips_are_taken(run: Run, folder: Path, tmp_path: Path) -> None:
    weights = str(run.folder / "best.safetensors")
    known = options(tmp_path, model=None, size=None, frames=None, weights=weights, epochs=1, lr=1e-6)
    done = Run(finetune(Config(data=str(folder), **known)).run)
    details = done.resolved["details"]
    assert (details["frames"], details["stride"], details["pooling"]) == (3, 2, "mean") and done.resolved["size"] == 16
    assert "weights of best.safetensors" in done.resolved["weights"] and done.event("before")["test_accuracy"] == 1.0


# --- flips ------------------------------------------------------------------------------------------------------------
def test_class_names_that_a_mirror_exchanges() -> None:
    names = ("TurnLeft", "turn_right", "bright", "left", "go up", "go down", "leftover", "spin clockwise")
    assert video_data.exchanged(names) == [("TurnLeft", "turn_right")]
    assert video_data.sided(names) == ["TurnLeft", "turn_right", "left", "spin clockwise"]
    assert ("go up", "go down") in video_data.exchanged(names, video_data.OPPOSITE)
    assert video_data.exchanged(motion.CLASSES) == [("pan_left", "pan_right"), ("turn_left", "turn_right")]


@pytest.mark.parametrize(
    "ops, pairs",
    [
        ([], []),
        ([ga.RandomHorizontalFlip()], [("pan_left", "pan_right"), ("turn_left", "turn_right")]),
        ([ga.RandomVerticalFlip()], [("pan_down", "pan_up"), ("turn_left", "turn_right")]),
        ([ga.RandomTemporalFlip(1.0)], sorted({tuple(sorted(pair)) for pair in motion.REVERSED.items()})),
    ],
)  # fmt: skip
def test_a_pipeline_tells_which_motions_it_exchanges(ops, pairs) -> None:
    n = len(motion.CLASSES)
    source = Source(torch.zeros(n, 4, 3, 8, 8, dtype=torch.uint8), torch.arange(n), torch.arange(n), motion.CLASSES)
    found = video_data.swapped_by(ga.Compose([*ops, ga.ToDtype(torch.float32, scale=True)], seed=0), source)
    assert found == pairs


def planted(classes=("wave_left", "wave_right"), n: int = 8) -> Parts:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * n) % 2
    made = torch.randint(0, 60, (2 * n, 4, 3, 16, 16), generator=rng, dtype=torch.uint8)
    made[labels == 1, :, 0] += 190
    source = Source(made, torch.arange(2 * n), labels, classes)
    return Parts("planted", source.subset(range(n)), None, source.subset(range(n, 2 * n)))


def test_sides_have_no_flip_unless_it_is_asked_for(tmp_path: Path, capsys) -> None:
    known = options(tmp_path, epochs=1, frames=None, size=None, quiet=False)
    done = finetune(Config(**known), parts=planted())
    told = capsys.readouterr().out
    assert "RandomHorizontalFlip" not in Run(done.run).resolved["augment"]
    assert "no flip: it would make wave_left and wave_right of each other" in told
    done = finetune(Config(**known, augment="video_train"), parts=planted())
    told = capsys.readouterr().out
    assert "warning: augment exchanges classes, and labels stay: wave_left and wave_right" in told
    with pytest.warns(UserWarning, match="exchanges classes, and labels stay: wave_left and wave_right"):
        finetune(Config(**known | {"quiet": True}, augment="video_train"), parts=planted())
    done = finetune(Config(**known), parts=planted(("calm", "wild")))
    assert "RandomHorizontalFlip" in Run(done.run).resolved["augment"] and "no flip" not in capsys.readouterr().out


def test_the_preset_draws_once_a_clip() -> None:
    clip = torch.randint(0, 256, (1, 1, 3, 24, 24), dtype=torch.uint8).expand(6, 5, -1, -1, -1)
    seen = presets.get("video_train", size=16, seed=0)(clip, ids=list(range(6)), epoch=0)
    assert seen.shape == (6, 5, 3, 16, 16) and torch.equal(seen, seen[:, :1].expand_as(seen))
    assert all(not torch.equal(seen[0], other) for other in seen[1:])
    assert "Flip" not in repr(presets.get("video_train:flip=0", size=16))


# --- what is there ----------------------------------------------------------------------------------------------------
def test_folders_say_that_they_hold_clips(folder: Path, tmp_path: Path) -> None:
    assert are_clips(folder) and are_clips(folder / "train") and not are_clips(tmp_path / "none")
    (tmp_path / "files" / "a").mkdir(parents=True)
    (tmp_path / "files" / "a" / "x.mp4").touch()
    assert are_clips(tmp_path / "files")
    for name in ("holiday 7.png", "8.png"):
        path = tmp_path / "photos" / "cat" / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    assert not are_clips(tmp_path / "photos"), "images in albums, which are not counted"
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "cat" / "1.png")
    assert not are_clips(tmp_path / "photos"), "images right in the class folder"


def test_a_damaged_clip_is_named_and_left_out(tmp_path: Path) -> None:
    root = write(tmp_path / "set", 8)
    (root / "calm" / "c1" / "0.png").write_bytes(b"no image")
    known = options(tmp_path / "runs", epochs=1)
    with pytest.raises(DataError, match=r"1 of 1\d train clips cannot be read, more than max_bad=0.01 .*c1/0.png"):
        finetune(Config(data=str(root), **known))
    (root / "calm" / "c2" / "2.png").write_bytes(b"no image")  # only seen as it is decoded
    done = Run(finetune(Config(data=str(root), max_bad=0.3, **known)).run)
    told = [words for words in done.resolved["decisions"] if "unreadable" in words]
    assert any("c1" in words for words in told) and any("c2" in words for words in told)


def test_what_cannot_be_is_told(folder: Path, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / "1.png")
        (tmp_path / "files" / name).mkdir(parents=True)
        (tmp_path / "files" / name / "1.mp4").write_bytes(b"a film")
    (tmp_path / "single").mkdir()
    write(tmp_path / "single", 4, n=1)
    for one in (tmp_path / "single").rglob("1.png"):
        one.unlink()
    known = options(tmp_path / "runs")
    wrong = [
        ({"data": str(tmp_path / "images"), "task": "video"}, "folders of images, such as cat/1.png, .*task=classify"),
        ({"data": str(tmp_path / "files"), "task": "classify"}, "hold clips, no images; task=video learns them"),
        ({"data": str(tmp_path / "single"), "task": "video"}, "each clip has one frame alone"),
        ({"data": str(tmp_path / "nowhere"), "task": "video"}, "no such folder"),
        ({"data": str(folder), "tta": "flip"}, r"tta has no effect with task=video \(a mirror"),
        ({"data": str(folder), "clips_per_video": 2}, "clips_per_video has no effect with stride=fit"),
        ({"data": str(folder), "stride": 2, "resident": True}, "resident has no effect with stride=2"),
        ({"data": str(folder), "cache": tmp_path}, "cache has no effect with task=video"),
        ({"data": str(folder), "augment": "auto"}, "augment auto knows no candidates for the task video"),
        ({"data": str(folder), "model": "torchvision:mvit_v1_b"}, "frames=3: model torchvision:mvit_v1_b takes 16"),
        ({"data": str(folder), "model": "vit_tiny_patch16_224", "pooling": "correlation"}, "take pooling=mean"),
        ({"data": "digits", "pooling": "mean"}, "pooling has no effect with another task than video"),
    ]  # fmt: skip
    for more, words in wrong:
        with pytest.raises((ValueError, DataError), match=words):
            finetune(Config(**known | more | ({"frames": None} if more["data"] == "digits" else {})))
    with pytest.raises(ValueError, match="stride must be a whole number, or one of fit; got 'all'"):
        Config(stride="all")
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        Config(stride=0)
    images = Source(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.arange(4), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(ValueError, match="train part has images, and task=video wants clips"):
        finetune(Config(**known | {"frames": None}, task="video"), parts=Parts("images", images, None, images))


def test_short_clips_are_told(folder: Path) -> None:
    parts = Parts("some", clips(folder / "train", 8, 1, 16), None, clips(folder / "test", 8, 1, 16))
    _, told = video_data.looked_at(parts, parts.train.clips, Config(workers=0))
    assert "clips of 6 to 7, mostly about " in told[0] and "24 of 24 clips have fewer than 8 frames" in told[1]


def test_probabilities_of_a_video_are_averaged(folder: Path) -> None:
    source = evenly(clips(folder / "test", 3, 1, 16), 3)
    logits = torch.randn(len(source), 2)
    found = video.averaged(Predicted(source.ids, source.labels, logits), source)
    wanted = torch.stack([one.softmax(1).mean(0) for one in logits.split(3)])
    torch.testing.assert_close(found.outputs.exp(), wanted)
    assert torch.equal(found.ids, source.ids[::3]) and torch.equal(found.labels, source.labels[::3])
    assert by_video(logits, source.ids, source)[0].shape == (8, 2)


def test_the_embedded_motions(tmp_path: Path) -> None:
    known = options(tmp_path, data="motion", size=None, frames=4, recipe="probe", epochs=1)
    job = Config(**known)
    task = video.Video()
    parts, told = task.open_parts(job)
    assert parts.train.images.shape == (320, 4, 3, 64, 64) and parts.train.classes == motion.CLASSES
    assert "not learned from" in told[0]
    task.check_parts(parts, 1)
    assert task.usual(job, None) == "video_train:flip=0"
    assert task.chosen(job, None, parts)[0].size == 64 and task.pooling == "correlation"
    bare = task.chosen(Config(data="motion", epochs=2), None, parts)[0]
    assert (bare.recipe, bare.epochs, bare.model) == ("finetune", 2, "patches")
    assert task.chosen(Config(data="motion", recipe="full"), None, parts)[0].model == "resnet20"
    assert evaluating.measures(Run(tmp_path)) == ("accuracy", "accuracy") and math.isclose(sum(parts.test.labels), 420)
    assert json.loads(json.dumps(task.details(job, None, parts)))["stride"] == "fit"
