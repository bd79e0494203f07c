"""The command line: what it prints, its exit status, its errors of one line."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

for needed in ("tyro", "accelerate", "timm", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from PIL import Image  # noqa: E402

from gpuaug.cli import main  # noqa: E402
from gpuaug.commands.terminal import as_options  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def test_finetune_prints_before_and_after_and_makes_a_run(tmp_path, capsys):
    status = main(
        f"finetune --model test_resnet --epochs 1 --batch-size 256 --size 16 --device cpu --out {tmp_path}".split()
    )
    out = capsys.readouterr().out
    assert status == 0
    assert "digits: 1,294 train, 144 val, 359 test images of 10 classes, 16x16" in out
    assert "recipe full: the weights begin at random" in out and "validation: 144 images set aside" in out
    assert "epoch  1/1" in out and "waiting" in out and "before │    after │" in out
    assert "robust   accuracy" in out and "on 40 clean images" in out
    asked = json.loads((tmp_path / "001-test_resnet-digits-full" / "config.json").read_text())["asked"]
    assert asked["model"] == "test_resnet" and asked["batch_size"] == 256 and asked["size"] == 16
    assert main(["resume", "1", "--out", str(tmp_path)]) == 2
    assert "this run is done; start a new one with weights=" in capsys.readouterr().err


def test_preview_writes_a_sheet(tmp_path, capsys):
    Image.new("RGB", (90, 60), (9, 99, 199)).save(tmp_path / "a.png")
    assert main(["preview", f"{tmp_path}/a.png", "--augment", "geometric", "-o", f"{tmp_path}/sheet.png"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/sheet.png\n"
    assert Image.open(tmp_path / "sheet.png").width > 1000


def test_gallery_shows_every_op_and_policy(tmp_path, capsys):
    import gpuaug as ga
    from gpuaug import gallery

    shown = {type(op).__name__ for ops in gallery.SECTIONS.values() for make in ops.values() for op in make()}
    no_picture = {"Identity", "Transform", "PixelOp", "RandomApply", "RandomChoice"}
    no_picture |= {"PILToTensor", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor"}
    no_picture |= {"RandomTemporalCrop", "RandomTemporalFlip", "UniformTemporalSubsample"}
    no_picture |= {"ClampBoundingBoxes", "ClampKeyPoints", "ConvertBoundingBoxFormat", "SetClampingMode"}
    no_picture |= {"SanitizeBoundingBoxes", "SanitizeKeyPoints", "RGB", "ConvertImageDtype", "LinearTransformation"}
    no_picture |= {"FiveCrop", "TenCrop", "Lambda"}
    ops = {
        name
        for name in ga.__all__
        if isinstance(getattr(ga, name), type) and issubclass(getattr(ga, name), ga.Transform)
    }
    assert ops - shown - no_picture == {"RandomOrder"}
    assert main(["preview", "--gallery", "-o", f"{tmp_path}/gallery.png"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/gallery.png\n"
    with Image.open(tmp_path / "gallery.png") as sheet:
        assert sheet.width > 1000 and len(sheet.getcolors(1 << 24)) > 10_000


def test_bench_times_a_case(tmp_path, capsys):
    pytest.importorskip("albumentations", reason="the benchmark extra is not installed")
    out = tmp_path / "host.json"
    args = ["bench", "--quick", "--device", "cpu", "--cases", "host", "--providers", "gpuaug-kornia", "--out", str(out)]
    assert main(args) == 0
    assert json.loads(out.read_text())["cases"][0]["rows"][0]["status"] == "timed"
    assert "## host" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("finetune --data {0}/nowhere", "nowhere: no such folder"),
        ("finetune --augment fancy", "there is no preset 'fancy'; choose one of none, rotate_shift"),
        ("finetune --augment geometrik", "did you mean 'geometric'?"),
        ("finetune --augment geometric:degree=3", "did you mean 'degrees'?"),
        ("finetune --augment geometric:flip=0,flip=1", "flip stands there twice"),
        (
            "finetun --epochs 1",
            "there is no command 'finetun'; choose one of finetune, resume, ",
        ),
        ("finetune --model resnet19", "there is no model 'resnet19'"),
        ("finetune --weights {0}/gone.safetensors", "gone.safetensors: no such weights file"),
        ("finetune --backend quantum", "quantum"),
        ("finetune --device cuda:99", "device 'cuda:99' cannot be used"),
        ("finetune --optimizer sdg", "there is no optimizer 'sdg'; did you mean 'sgd'?"),
        ("finetune --best f2", "there is no metric 'f2'; choose one of accuracy, loss, balanced_accuracy, f1"),
        (
            "finetune --recipe probe --augment geometric",
            "--augment has no effect with --recipe=probe (features are",
        ),
        ("resume 3 --out {0}/runs", "there is no run '3'; there are: none"),
        ("preview {0}/gone.jpg", "gone.jpg: no such file"),
        ("preview {0}/a.jpg --gallery", "--gallery shows its own two photos"),
        ("preview --gallery -o {0}/gallery", "no image format by this ending"),
        ("preview", "name at least one photo"),
        ("demo --seeds 0", "seeds must be at least 1, got 0"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, capsys, args, words):
    args = args.format(tmp_path).split()
    if args[0] == "finetune":
        args += ["--out", str(tmp_path / "runs")]
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gpuaug: ") and words in captured.err
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--epochs 0", "--epochs must be at least 1, got 0"),
        ("--lr nan", "--lr must be finite, got nan"),
        ("--lr inf", "--lr must be finite, got inf"),
        ("--weight-decay nan", "--weight-decay must be finite, got nan"),
        ("--val-fraction nan", "--val-fraction must be finite, got nan"),
    ],
)
def test_a_value_that_cannot_be_ends_the_command(capsys, args, words):
    assert main(["finetune", *args.split()]) == 2
    assert capsys.readouterr().err == f"gpuaug: {words}\n"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("max_bad must be in [0, 1), got 2", "--max-bad must be in [0, 1), got 2"),
        ("raise max_bad=0.01, not lr=x)", "raise --max-bad=0.01, not --lr=x)"),
        ("model gone: give load(..., model=)", "model gone: give load(..., model=)"),
        ("runs/max_bad: a model of the data max_bad.csv", "runs/max_bad: a model of the data max_bad.csv"),
        ("size must be above 0", "--size must be above 0"),
        ("the size must be above 0", "the size must be above 0"),
    ],
)
def test_messages_call_options_as_a_shell_does(message, said):
    assert as_options(message, ["max_bad", "lr", "model", "size"]) == said


@pytest.mark.parametrize("option", ["--augment", "--batch-size", "--label-smoothing"])
def test_a_misspelt_option_says_what_was_meant(capsys, option):
    with pytest.raises(SystemExit) as done:
        main(["finetune", f"{option[:-2]}{option[-1]}", "1"])
    told = capsys.readouterr().err
    assert done.value.code == 2 and "meant" in told and f"{option} " in told


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    from gpuaug.finetune import Interrupted

    def stopped(config):
        raise Interrupted(tmp_path, f"stopped; go on with: gpuaug resume {tmp_path}")

    monkeypatch.setattr("gpuaug.finetune.finetune", stopped)
    assert main(["finetune"]) == 130
    assert capsys.readouterr().err == f"gpuaug: stopped; go on with: gpuaug resume {tmp_path}\n"


def test_a_warning_is_one_line(monkeypatch):
    """Without the place in the code that it comes from, and with options as a shell has them."""
    told, before = [], warnings.formatwarning

    def warns(command) -> None:
        told.append(warnings.formatwarning(UserWarning("2 files were left out\n(max_bad=0.1)"), UserWarning, "a.py", 3))
        warnings.warn("something", stacklevel=1)

    monkeypatch.setattr("gpuaug.cli.run", warns)
    with pytest.warns(UserWarning, match="something"):  # others still see it as a warning
        main(["finetune"])
    assert told == ["warning: 2 files were left out (--max-bad=0.1)\n"] and warnings.formatwarning is before
    monkeypatch.setenv("GPUAUG_DEBUG", "1")
    with pytest.warns(UserWarning, match="something"):
        main(["finetune"])
    assert told[1].startswith("a.py:3: UserWarning: 2 files")


def test_debug_keeps_the_traceback(monkeypatch):
    monkeypatch.setenv("GPUAUG_DEBUG", "1")
    with pytest.raises(ValueError, match="there is no preset"):
        main(["preview", "a.jpg", "--augment", "fancy"])


@pytest.mark.parametrize("args", [["--help"], ["finetune", "--help"], ["preview", "--help"]])
def test_help(args, capsys):
    with pytest.raises(SystemExit) as done:
        main(args)
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert (
        ("finetune" in shown and "preview" in shown and "demo" in shown) if args == ["--help"] else "--augment" in shown
    )


def test_without_the_extra_the_command_says_what_to_install():
    script = "import sys; sys.modules['tyro'] = None; from gpuaug.cli import main; main([])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stderr == (
        "gpuaug: its commands need the fine-tuning extra: pip install 'gpuaug[finetune]'\n"
    )


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "gpuaug", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Fine-tune an image classifier" in done.stdout
