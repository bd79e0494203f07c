"""The benchmark's other tools: scaling, pictures, two commits against each other."""

from __future__ import annotations

import importlib.util
import io
import json
from itertools import product
from pathlib import Path

import pytest
import torch

from gpuaug.benchmarks import grid, host_time, peers, plots, regression, report, scaling, step, timing
from gpuaug.benchmarks.cases import CASES

CPU = torch.device("cpu")


def entry(axis: str, x: int, milliseconds: float, batch: int = 64) -> dict:
    times = dict.fromkeys(("median_ms", "p20_ms", "p80_ms"), milliseconds)
    return {"provider": "gpuaug", "axis": axis, "x": x, "batch": batch, "size": 224, **times}


def test_scaling_measures_each_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, points in (("SIDES", (32, 40)), ("BATCHES", (1, 2)), ("OPS", (0, 8))):
        monkeypatch.setattr(scaling, name, points)
    monkeypatch.setattr(scaling, "BASE", scaling.BASE.__class__(**{**vars(scaling.BASE), "batch": 8, "out_size": 32}))
    threads = torch.get_num_threads()
    monkeypatch.setattr(scaling, "PEERS_EFFORT", timing.QUICK)
    entries, red = scaling.measure(CPU, threads, timing.QUICK, [peers.PROVIDERS["kornia"]])
    torch.set_num_threads(threads)
    assert not [p for e in entries for p in report._members(e, scaling.FIELDS, "entry")]
    ours = [e for e in entries if e["provider"] == "gpuaug"]
    seen = {axis: [e["x"] for e in ours if e["axis"] == axis] for axis in ("pixels", "batch", "ops")}
    assert seen == {"pixels": [32, 40], "batch": [1, 2], "ops": [0, 8]} and red == []
    assert [e["x"] for e in entries if e["provider"] == "kornia"] == [32, 40, 1, 2]
    assert all(0 < e["p20_ms"] <= e["median_ms"] <= e["p80_ms"] for e in entries)


def test_grid_covers_batches_and_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "CASES", {"cifar": CASES["cifar"]})
    monkeypatch.setattr(grid, "BASE", "cifar")
    monkeypatch.setattr(grid, "images_of", lambda b, s: (torch.randint(256, (b, 3, s, s), dtype=torch.uint8), ""))
    monkeypatch.setattr(grid, "INPUTS", grid.INPUTS[1:3])
    monkeypatch.setattr(grid, "OUTPUTS", grid.OUTPUTS[::3])
    found, red = grid.measure(CPU, 1e10, timing.QUICK, (1, 4))
    assert red == [] and [(e["case"], e["batch"]) for e in found["batches"]] == [("cifar", 1), ("cifar", 4)]
    assert len(found["formats"]) == len(grid.INPUTS) * len(grid.OUTPUTS) * len(grid.LAYOUTS)
    assert not [p for e in found["batches"] for p in report._members(e, grid.BATCH_FIELDS, "entry")]
    assert not [p for e in found["formats"] for p in report._members(e, grid.FORMAT_FIELDS, "entry")]
    monkeypatch.setattr(grid, "INPUTS", grid.INPUTS[:1])
    forward = grid.ga.Compose.forward
    monkeypatch.setattr(grid.ga.Compose, "forward", lambda self, images: forward(self, images).flip(-1))
    found, red = grid.measure(CPU, 1e10, timing.QUICK, (4,))
    assert found == {"batches": [], "formats": []} and len(red) == 5


def test_what_is_new_is_checked_and_shown(measured: dict) -> None:
    result = measured
    figures = dict.fromkeys(grid._FIGURES, 2.0)
    batches = [{"case": "flip", "batch": b, **figures} for b in (1, 16)]
    formats = [{"input": grid.INPUTS[0], "output": "uint8", "layout": "contiguous", "batch": 64, **figures}]
    call = {"backend": "cpu", "pipeline": "a", "call": "b", "median_us": 20.0, "best_us": 10.0}
    result |= {"grid": {"batches": batches, "formats": formats}, "host": [call]}
    assert not report._members(call, host_time.FIELDS, "host") and report.problems(result) == []
    shown = report.render(result)
    assert "| uint8, contiguous | 2 (2%) |" in shown and "| cpu, a, b | 20 us | 10 us |  |" in shown
    for name, entries in (("batches", [{}]), ("formats", [call])):
        assert report.problems(result | {"grid": result["grid"] | {name: entries}})
    assert report.problems(result | {"host": [{}]})


def test_host_time_stands_beside_its_target(measured: dict) -> None:
    def stubs(best: float) -> dict:
        return {"backend": "triton, launches stubbed", "pipeline": "a", "call": "b", "median_us": 70.0, "best_us": best}

    new = {"backend": "cpu", "pipeline": "a", "call": host_time.NEW_SIZE, "median_us": 200.0, "best_us": 151.0}
    shown = report.render(measured | {"host": [stubs(60.0), stubs(61.0), new]})
    assert "| triton, launches stubbed, a, b | 70 us | 60 us | at most 60 us: met |" in shown
    assert "| triton, launches stubbed, a, b | 70 us | 61 us | at most 60 us: **missed** |" in shown
    assert f"| cpu, a, {host_time.NEW_SIZE} | 200 us | 151 us | at most 150 us: **missed** |" in shown


def test_host_time_is_measured_on_each_backend() -> None:
    found = host_time.everywhere(count=1, calls=1)
    assert not [p for e in found for p in report._members(e, host_time.FIELDS, "host")]
    backends = ["cpu", *["triton, launches stubbed"] * (importlib.util.find_spec("triton") is not None)]
    assert {(e["backend"], e["pipeline"]) for e in found} == set(product(backends, host_time.PIPELINES))
    assert len(found) == 4 * len(backends) * len(host_time.PIPELINES)


def test_peak_memory_of_a_call() -> None:
    peak = timing.peak_bytes(lambda _: torch.ones(64 << 20, dtype=torch.uint8), CPU)
    assert peak is None or 60e6 < peak < 90e6


def test_scaling_reads_slopes() -> None:
    ops = [entry("ops", n, 4.0 + 0.25 * n) for n in (0, 1, 2, 4, 8)]
    assert scaling.cost_of_an_op(ops) == pytest.approx(0.25 / 4.0)
    assert scaling.speedup([entry("threads", 1, 9.0), entry("threads", 2, 5.0)]) == pytest.approx(1.8)
    assert scaling.speedup(ops) is None and scaling.cost_of_an_op([]) is None
    assert scaling.growth([entry("batch", 16, 2.0, batch=16)], "batch") == [(16, 8000.0)]


def test_threads_double_up_to_the_machine() -> None:
    assert [x for x, _, _ in scaling.axes(CPU, 6)["threads"]] == [1, 2, 4, 6]
    assert "threads" not in scaling.axes(CPU, 1)


def test_a_training_step_is_timed() -> None:
    found = step.measure(CPU, timing.QUICK)
    assert report._members(found, step.FIELDS, "step") == [] and found["median_ms"] > 0


@pytest.fixture
def measured(published: list[Path]) -> dict:
    """A published result of a CPU, with figures for every picture."""
    result = json.loads(published[0].read_text(encoding="utf-8"))
    result["scaling"] = [entry(axis, x, 1.0 + x) for axis in plots.AXES for x in (1, 2, 4)]
    result["step"] = {"model": "resnet20", "batch": 128, "size": 32, "median_ms": 90.0, "p20_ms": 89.0, "p80_ms": 93.0}
    return result


def test_pictures_show_what_there_is(measured: dict, tmp_path: Path) -> None:
    from PIL import Image

    paths = plots.draw(measured, "cpu", tmp_path)
    assert [p.name for p in paths] == ["cpu-growth.png", "cpu-distance.png", "cpu-share.png"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 150 and len(image.convert("RGB").getcolors(1 << 20)) > 20
    bare = measured | {"scaling": [], "step": None, "cases": []}
    assert plots.draw(bare, "cpu", tmp_path / "bare") == []


class Fake:
    """A side that takes a set time a call, or cannot."""

    def __init__(self, name: str, seconds: float | None):
        self.name, self.seconds = name, seconds

    def ask(self, case: str, calls: int) -> dict:
        return {"error": "ValueError: no such op"} if self.seconds is None else {"seconds": [self.seconds] * calls}


@pytest.mark.parametrize(("new", "worse"), [(0.9, False), (1.0, False), (1.04, False), (1.2, True)])
def test_a_slower_commit_is_seen(new: float, worse: bool) -> None:
    medians = regression.compare([Fake("old", 0.01), Fake("new", 0.01 * new)], "flip")
    middle, low, high, verdict = regression.verdict(medians, 1.05)
    assert (middle, low, high) == pytest.approx((new, new, new)) and verdict is worse


def test_noise_is_no_slower_commit() -> None:
    old = [10.0] * 10
    assert not regression.verdict([old, [9.0, 12.0] * 5], 1.05)[3]


def test_a_case_that_one_side_lacks_is_named() -> None:
    told = regression.compare([Fake("abc123", None), Fake("new", 0.01)], "flip")
    assert told == "abc123: ValueError: no such op"


def test_a_side_answers_in_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("host 3\nno-such-case 1\n"))
    threads = torch.get_num_threads()
    regression.serve(threads, CPU)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(first["seconds"]) == 3 and "KeyError" in second["error"] and "host" in CASES


def test_sources_lie_as_they_are_installed(tmp_path: Path) -> None:
    regression.unpack(None, tmp_path)
    for name in ("gpuaug/compose.py", "gpuaug/kernels/shared/plan.py", "gpuaug/benchmarks/regression.py"):
        assert (tmp_path / name).is_file()
    with pytest.raises(ValueError, match="no-such-commit"):
        regression.unpack("no-such-commit", tmp_path / "other")


def test_feeding_keeps_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("numba", reason="parts of images are read by the CPU engine")
    pytest.importorskip("torchvision", reason="the peer")
    Image = pytest.importorskip("PIL.Image", reason="the peer's decoder")
    from gpuaug.benchmarks import feeding, scaled

    rng = torch.Generator().manual_seed(0)
    for folder, n, side in (("photos", 6, 300), ("cifar10/train/a", 4, 32), ("cifar10/train/b", 4, 32)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(n):
            pixels = torch.randint(
                0, 256, (side // 4, side // 4 + i * (side > 32), 3), generator=rng, dtype=torch.uint8
            )
            image = Image.fromarray(pixels.numpy()).resize((side + 4 * i * (side > 32), side))
            image.save(tmp_path / folder / f"{i}.jpg")
    monkeypatch.setattr(feeding, "SMALL_PASSES", 1)
    monkeypatch.setattr(scaled, "LARGE", (640, 480))
    given = ["--names", "64", "--large", "8", "--rounds", "1", "--workers", "0", "--out", str(tmp_path / "found.json")]
    feeding.main([str(tmp_path / "photos"), *given])
    found, told = json.loads((tmp_path / "found.json").read_text()), capsys.readouterr().out
    assert found["ratios"].keys() == found["targets"].keys() and all(name in told for name in found["ratios"])
    assert all(len(taken) == 1 for ways in found["seconds_an_image"].values() for taken in ways.values())
    assert [row["smaller"] > 0 for row in found["scaled"]] == [False, True, True]
    with pytest.raises(SystemExit):
        feeding.main([str(tmp_path / "photos"), "--names", "10"])


def test_predicting_times_whole_rounds(tmp_path: Path, capsys) -> None:
    pytest.importorskip("timm", reason="needs the extra gpuaug[finetune]")
    pytest.importorskip("tqdm", reason="needs the extra gpuaug[finetune]")
    Image = pytest.importorskip("PIL.Image", reason="paints the photos")
    from safetensors.torch import save_file

    from gpuaug.benchmarks import predicting
    from gpuaug.finetune.models import ResNet20

    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (80, 60), (60 * i, 90, 200)).save(tmp_path / "photos" / f"{i}.jpg")
    save_file(ResNet20().state_dict(), tmp_path / "resnet20_cifar10.safetensors")
    given = [str(tmp_path / "photos"), "--weights", str(tmp_path), "--models", "resnet20", "--device", "cpu"]
    predicting.main([*given, "--names", "20", "--rounds", "2", "--out", str(tmp_path / "found.json")])
    found, told = json.loads((tmp_path / "found.json").read_text()), capsys.readouterr().out
    ways = found["wall_and_cpu_seconds_an_image"]["resnet20"]
    assert ways.keys() == {"decoding", "model", "predict"} and all(len(values) == 2 for values in ways.values())
    assert all(seconds > 0 for values in ways.values() for pair in values for seconds in pair)
    assert len(found["ratios"]["resnet20"]) == 3 and all(name in told for name in found["ratios"]["resnet20"])
    with pytest.raises(SystemExit):
        predicting.main([str(tmp_path / "photos"), "--weights", str(tmp_path)])


def test_ratios_of_predicting_are_of_medians() -> None:
    pytest.importorskip("timm", reason="needs the extra gpuaug[finetune]")
    pytest.importorskip("tqdm", reason="needs the extra gpuaug[finetune]")
    from gpuaug.benchmarks import predicting

    found = {"decoding": [(1, 2), (9, 9), (1, 2)], "model": [(3, 6), (3, 6), (0, 0)], "predict": [(5, 10)] * 3}
    told = predicting.ratios(found, torch.device("cpu"), 2)
    assert told["predict over the slower part"] == 3 / 5
    assert told["predict over what the cores allow"] == (2 + 6) / 2 / 5
    assert told["CPU time of the parts over predict's"] == (2 + 6) / 10
    assert list(predicting.ratios(found, torch.device("cuda"), 16)) == ["predict over the slower part"]
