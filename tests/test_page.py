"""Pictures and pages of a run: made of a folder such as a run leaves, looked at as files and in a browser."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from PIL import Image  # noqa: E402

from gpuaug.data import digits  # noqa: E402
from gpuaug.finetune import evaluating, page, page_comparison, pictures, robustness  # noqa: E402
from gpuaug.finetune.metrics import Evaluation, mistakes, paired, wilson  # noqa: E402
from gpuaug.finetune.runs import Run  # noqa: E402
from gpuaug.gallery import sample_photos  # noqa: E402

HOSTILE = "<script>alert('&\"$title')</script>"
CLASSES = [
    "daisy",
    HOSTILE,
    "rose with a very long name that does not end so soon",
    "_tulip",
    "μ $x^2$",
    "lily",
    "iris",
]
N = 120


def measured(clean: float, loss: float) -> dict:
    """What robustness.json has, of a model that loses so much by each strength."""
    lines = []
    for name, corruption in robustness.CORRUPTIONS.items():
        for s in robustness.STRENGTHS:
            right = round(N * (clean - loss * s))
            line = {"name": name, "strength": s, "value": corruption.value(s), "words": corruption.words(s)}
            lines.append(line | {"unit": corruption.unit, "score": right / N, "interval": list(wilson(right, N))})
    one = {"score": clean, "interval": list(wilson(round(N * clean), N))}
    mean = sum(line["score"] for line in lines) / len(lines)
    return {"metric": "accuracy", "n": N, "clean": one, "mean": mean, "corruptions": lines}


def make_run(folder: Path, better: float = 2.0, several: bool = False, **asked) -> Path:
    """A run's folder with all that a run writes; the page and what follows from the rest are not there yet."""
    k = len(CLASSES)
    folder.mkdir(parents=True)
    (folder / "pictures").mkdir()
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % k
    hot = torch.nn.functional.one_hot(labels, k).float()
    logits = torch.randn(N, k, generator=rng) + better * hot
    stored = {"ids": np.arange(N), "labels": (hot if several else labels).numpy(), "logits": logits.numpy()}
    np.savez(folder / "predictions.npz", **stored, paths=np.array([f"{i:04d}.jpg" for i in range(N)]))
    decisions = ["val split of 10% held out of the training part", f"recipe finetune, for weights of {HOSTILE}"]
    resolved = {
        "classes": CLASSES,
        "images": {"train": 1000, "val": 100, "test": N},
        "size": 32,
        "resize": None,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "model": "resnet20",
        "recipe": "finetune",
        "augment": "Compose(\n    [\n        RandomHorizontalFlip(0.5),\n    ]\n)",
        "decisions": decisions,
        "data": {"fingerprint": "0123abcd"},
    }
    facts = {"asked": {"data": "flowers", "lr": 0.02, **asked}, "resolved": resolved, "environment": {"torch": "2.9"}}
    (folder / "config.json").write_text(json.dumps(facts))
    lines = [{"event": "before", "test_accuracy": 0.125, "test_loss": 2.2}]
    for epoch in (1, 2, 3):
        line = {
            "event": "epoch",
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "train_accuracy": 0.3 * epoch,
            "lr": 0.02 / epoch,
        }
        line |= {"val_accuracy": 0.28 * epoch, "val_loss": 2.1 / epoch, "seconds": 12.5, "images_per_second": 80.0}
        lines.append(line | {"shares": {"waiting": 0.2, "augment": 0.05, "model": 0.75}})
    lines.append({"event": "after", "test_accuracy": 0.8, "test_loss": 0.7, "best_epoch": 3})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "robustness.json").write_text(json.dumps(measured(0.8, 0.08 / better)))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder as the loop leaves it: what follows from it is not there yet."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "007-resnet20-flowers-finetune")
    Image.new("RGB", (1300, 700), "#446688").save(folder / "pictures" / "contact_sheet.png")
    images, stored = digits(16).images[:12], Run(folder).predictions
    wrong = mistakes(torch.from_numpy(stored["logits"]), torch.from_numpy(stored["labels"]), CLASSES, 12)
    pictures.write_mistakes(folder / "pictures" / "mistakes.png", wrong, images[: len(wrong)])
    return folder


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The same with what follows from it, and what that is."""
    folder = shutil.copytree(made, tmp_path_factory.mktemp("whole") / made.name)
    return folder, evaluating.complete(folder)


@pytest.fixture
def run(whole: tuple[Path, list[Path]], tmp_path: Path) -> Path:
    return shutil.copytree(whole[0], tmp_path / "runs" / whole[0].name)


@pytest.fixture
def other(made: Path, tmp_path: Path) -> Path:
    """A weaker run on the same images, with an evaluation.json."""
    name = "008-resnet20-flowers-full-without-any-augmentation-at-all"
    folder = make_run(tmp_path / "runs" / name, better=1.0, augment="none")
    stored = Run(folder).predictions
    found = Evaluation.of(torch.from_numpy(stored["logits"]), torch.from_numpy(stored["labels"]), CLASSES)
    (folder / "evaluation.json").write_text(json.dumps(found.as_dict()))
    return folder


class Seen(HTMLParser):
    """The tags of a page, its text, and what it would fetch."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[str] = []
        self.text, self.fetched, self.alts, self.open = "", [], [], []
        self.content = path.read_text(encoding="utf-8")
        self.feed(self.content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.fetched += [attributes[name] for name in ("src", "href", "srcset") if name in attributes]
        self.alts += [attributes["alt"]] if tag == "img" else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""


# Pictures


def size_of(content: bytes | Path) -> tuple[int, int]:
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("k", [2, 30, 100, pytest.param(250, marks=pytest.mark.slow)])
def test_a_confusion_matrix_grows_with_its_classes(k, tmp_path):
    confusion = np.eye(k, dtype=np.int64) * 90
    confusion[0, 1] = 10
    confusion[1] = 0  # a class without samples
    pictures.write_confusion(tmp_path / "c.png", confusion, [f"class number {i}" for i in range(k)])
    width, height = size_of(tmp_path / "c.png")
    assert 300 < height < 2700 and 300 < width < 2700
    assert height > 9 * min(k, 100)  # pixels of a name
    image = np.asarray(Image.open(tmp_path / "c.png").convert("RGB")).reshape(-1, 3)
    assert (image == (229, 229, 229)).all(1).any(), "the row without samples is not told from zeros"


def test_every_picture_is_drawn_of_little(tmp_path):
    one = Evaluation.of(torch.tensor([[0.0, 1.0]]), torch.tensor([1]), "ab")
    history = [{"epoch": 1, "train_loss": 1.0}]
    draw = {
        "calibration": lambda target: pictures.write_calibration(target, one.calibration, one.ece),
        "curves": lambda target: pictures.write_curves(target, history),
        "overlaid": lambda target: pictures.write_overlaid(target, {"_a": history, "b": []}),
        "robustness": lambda target: pictures.write_robustness(
            target, {"a": measured(0.9, 0.1), "$b$": measured(0.5, 0)}
        ),
        "mistakes": lambda target: pictures.write_mistakes(target, [], []),
    }
    for write in draw.values():
        target = io.BytesIO()
        write(target)
        assert min(size_of(target.getvalue())) > 90


def test_a_sheet_of_mistakes_shows_each_image(tmp_path):
    red, tall = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 60, 20, dtype=torch.uint8)
    red[0], tall[2] = 255, 255
    lines = [{"index": i, "true": "cat", "predicted": HOSTILE, "confidence": 0.9, "name": "x" * 90} for i in range(8)]
    pictures.write_mistakes(tmp_path / "m.png", lines, [red] * 7 + [tall])
    pixels = np.asarray(Image.open(tmp_path / "m.png").convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 0, 0)).all(1).sum() == 7 * 144**2
    assert (pixels == (0, 0, 255)).all(1).sum() == (2 * 20) * (2 * 60)


def test_corruptions_in_a_sheet(tmp_path):
    pictures.write_corruptions(tmp_path / "c.png", sample_photos()[:1], [3], 32, None)
    width, height = size_of(tmp_path / "c.png")
    assert width > 6 * 120 and height > 6 * 96


def test_a_long_name_keeps_its_ends():
    assert pictures.short("abcdefghijklmnop", 7) == "abc…nop" and pictures.short("abc", 7) == "abc"


# What follows from a folder


def test_what_follows_from_predictions_is_written_once(whole):
    run, written = whole
    names = sorted(path.name for path in written)
    assert names == ["calibration.png", "confusion.png", "curves.png", "evaluation.json", "robustness.png"]
    stored = Run(run).predictions
    expected = Evaluation.of(torch.from_numpy(stored["logits"]), torch.from_numpy(stored["labels"]), CLASSES)
    assert Run(run).evaluation.as_dict() == expected.as_dict()
    assert evaluating.complete(run) == []


def test_what_is_older_than_its_source_is_made_anew(run):
    made, source = run / "evaluation.json", run / "predictions.npz"
    kept = made.read_text()
    made.write_text("{}")
    os.utime(source, ns=(made.stat().st_mtime_ns + 10**9,) * 2)
    assert [path.name for path in evaluating.complete(run)][0] == "evaluation.json"
    assert made.read_text() == kept


def test_mistakes_are_drawn_of_files(run, tmp_path):
    (run / "pictures" / "mistakes.png").unlink()
    with np.load(run / "predictions.npz") as stored:
        arrays = dict(stored)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 40), (255, 0, 0)).save(photo)
    arrays["paths"] = np.array([str(photo)] * N)
    np.savez(run / "predictions.npz", **arrays)
    assert run / "pictures" / "mistakes.png" in evaluating.complete(run)
    pixels = np.asarray(Image.open(run / "pictures" / "mistakes.png").convert("RGB"))
    assert (pixels == (255, 0, 0)).all(2).any()


def test_damage_is_named(run):
    (run / "robustness.json").write_text("{")
    with pytest.raises(ValueError, match=r"robustness\.json: cannot be read as JSON .*; remove it, or run again"):
        page.write(run)
    (run / "robustness.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(True)
    (run / "metrics.jsonl").write_text(lines[0] + "{\n" + lines[1])
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is not JSON"):
        page.write(run)


def test_a_last_line_that_was_cut_off_is_left_out(run):
    path = run / "metrics.jsonl"
    whole = Run(run).lines()
    path.write_text(path.read_text()[:-20])
    assert Run(run).lines() == whole[:-1]


# The page of a run


def test_a_page_has_all_there_is(run):
    assert page.write(run) == run / "report.html"
    seen, found = Seen(run / "report.html"), Run(run).evaluation
    assert len(seen.alts) == 6 and all(seen.alts)
    assert all(source.startswith("data:image/png;base64,") for source in seen.fetched) and len(seen.fetched) == 6
    assert "script" not in seen.tags and "link" not in seen.tags and "url(" not in seen.content
    for text in (
        "007-resnet20-flowers-finetune",
        "val split of 10% held out of the training part",
        f"{found.top1:.1%} ({100 * found.top1_interval[0]:.1f} to {100 * found.top1_interval[1]:.1f})",
        f"{found.balanced_accuracy:.1%}",
        "1,000 train, 100 val, 120 test",
        "RandomHorizontalFlip(0.5)",
        "12.5%",
        "80",
        "waiting 20.0%",
        "×÷1.5",
        HOSTILE,
    ):
        assert text in seen.text, text
    for line in found.per_class:
        assert line["class"] in seen.text
    assert "There is no" not in seen.text and "missing" not in seen.text


def test_whatever_a_run_says_is_escaped(run):
    page.write(run)
    content = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in content and HOSTILE in unescape(content)


def test_a_folder_with_nothing_in_it_says_so(tmp_path):
    (tmp_path / "008-empty").mkdir()
    seen = Seen(page.write(tmp_path / "008-empty"))
    missing = (
        "config.json",
        "epochs",
        "contact_sheet.png",
        "evaluation.json",
        "robustness.json",
        "mistakes.png",
        "speed",
    )
    assert seen.alts == [] and all(name in seen.text for name in missing)
    assert seen.text.count("There is no") + seen.text.count("There are no") == 6


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["config.json"], "There is no config.json"),
        (["metrics.jsonl", "pictures/curves.png"], "There are no epochs"),
        (
            ["predictions.npz", "evaluation.json"],
            "There is no evaluation.json in this run's folder, and no predictions.npz",
        ),
        (["robustness.json"], "There is no robustness.json in this run's folder: it was not measured."),
        (["pictures/contact_sheet.png"], "There is no pictures/contact_sheet.png"),
        (["pictures/mistakes.png"], "There is no pictures/mistakes.png"),
    ],
)
def test_a_page_without_one_part(run, missing, said):
    for name in missing:
        (run / name).unlink()
    text = Seen(page.write(run)).text
    assert text.count("There ") == 1 and said in text


def test_a_page_of_several_labels(tmp_path):
    folder = make_run(tmp_path / "009-several", several=True)
    seen, found = Seen(page.write(folder)), Run(folder).evaluation
    assert f"{found.map:.1%}" in seen.text and "average precision" in seen.text
    assert "top-1" not in seen.text and "taken for what" not in seen.text


def test_a_loss_that_is_not_finite(run):
    path = run / "metrics.jsonl"
    lines = Run(run).lines()
    lines[1]["train_loss"] = math.nan
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "nan" in Seen(page.write(run)).text


def test_no_such_run(tmp_path):
    with pytest.raises(ValueError, match="7: no such run; give the folder"):
        page.write(tmp_path / "7")


# The page of several runs


def test_several_runs_on_one_page(run, other, tmp_path):
    path = page_comparison.write_comparison([run, other], tmp_path / "new" / "comparison.html")
    seen = Seen(path)
    assert len(seen.alts) == 2 and all(source.startswith("data:") for source in seen.fetched)
    assert "2 runs side by side" in seen.text and seen.text.count(other.name) == 3
    for one in (run, other):
        found = Run(one).evaluation
        assert f"{found.top1:.1%} ({100 * found.top1_interval[0]:.1f}" in seen.text
    assert "augment" in seen.text and "McNemar" in seen.text and "different images" not in seen.text
    right = []
    for one in (run, other):
        stored = Run(one).predictions
        right.append(stored["logits"].argmax(1) == stored["labels"])
    gain = 100 * (right[1].mean() - right[0].mean())
    assert f"{gain:+.1f} points" in seen.text


def test_runs_on_other_images_are_named_so(run, tmp_path):
    other = make_run(tmp_path / "elsewhere" / run.name)
    facts = json.loads((other / "config.json").read_text())
    facts["resolved"]["data"]["fingerprint"] = "ffff"
    (other / "config.json").write_text(json.dumps(facts))
    (other / "predictions.npz").unlink()
    seen = Seen(page_comparison.write_comparison([run, other], tmp_path / "c.html"))
    assert "different images" in seen.text and "McNemar" not in seen.text and "Without an evaluation.json" in seen.text
    assert str(other) in seen.text, "two runs of one name are not told apart"


def test_a_comparison_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="name at least one run"):
        page_comparison.write_comparison([], tmp_path / "c.html")
    (tmp_path / "8").mkdir()
    seen = Seen(page_comparison.write_comparison([tmp_path / "8"], tmp_path / "c.html"))
    assert "None of these runs has a robustness.json" in seen.text


def test_paired_answers():
    first = np.array([True] * 60 + [False] * 40)
    second = np.array([True] * 55 + [False] * 5 + [True] * 20 + [False] * 20)
    found = paired(first, second)
    assert (found["difference"], found["only_first"], found["only_second"]) == (0.15, 5, 20)
    assert found["p"] == pytest.approx(2 * sum(math.comb(25, i) for i in range(6)) / 2**25)
    half = 1.96 * math.sqrt((0.25 - 0.15**2) / 100)
    assert found["interval"] == pytest.approx((0.15 - half, 0.15 + half), abs=0.02)
    assert paired(first, first) | {"interval": 0} == {
        "difference": 0.0, "interval": 0, "only_first": 0, "only_second": 0, "p": 1.0
    }  # fmt: skip
    with pytest.raises(ValueError, match="answers to the same samples are wanted"):
        paired(first, second[:9])


# In a browser

LOOK = """<script>
addEventListener("load", () => {
  const box = document.documentElement, seen = [...document.querySelectorAll("body *")];
  const out = seen.filter(e => !e.parentElement.closest(".scroll, details:not([open])"));
  const images = [...document.images];
  parent.postMessage({name: NAME, wide: box.scrollWidth, inner: innerWidth, images: images.length,
    drawn: images.filter(i => i.complete && i.naturalWidth > 80 && i.getBoundingClientRect().width > 80).length,
    tables: document.querySelectorAll("table").length, own: document.querySelectorAll(".scroll > table").length,
    over: out.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))}, "*");
});
</script>"""
FRAMES = """<!DOCTYPE html><body><script>
addEventListener("message", e => { const p = document.createElement("p"); p.className = "told";
  p.textContent = JSON.stringify(e.data); document.body.append(p); });
</script>FRAMES</body>"""


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium on this machine to look at the page with: apt-get install chromium")


def looked_at(pages: list[Path], widths: tuple[int, ...], folder: Path) -> dict[str, dict]:
    """What a browser says of each page in a frame of each width."""
    frames = []
    for path in pages:
        for width in widths:
            name = f"{path.stem}-{width}"
            copy = folder / f"look-{name}.html"
            told = LOOK.replace("NAME", json.dumps(name))
            copy.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{told}</body>"), encoding="utf-8")
            frames.append(f'<iframe src="{copy.name}" style="border:0;width:{width}px;height:900px"></iframe>')
    (folder / "frames.html").write_text(FRAMES.replace("FRAMES", "".join(frames)), encoding="utf-8")
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=20000", "--dump-dom"]
    url = (folder / "frames.html").as_uri()
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
    with subprocess.Popen([*command, url], **quiet) as process:
        try:
            dom, _ = process.communicate(timeout=240)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its helpers, too
    told = [json.loads(unescape(text)) for text in re.findall(r'<p class="told">(.*?)</p>', dom, re.S)]
    return {line["name"]: line for line in told}


def test_a_browser_shows_the_pages_and_nothing_overflows(run, other, tmp_path):
    browser()
    pages = [page.write(run), page_comparison.write_comparison([run, other] * 3, tmp_path / "comparison.html")]
    found = looked_at(pages, (400, 1400), tmp_path)
    assert sorted(found) == ["comparison-1400", "comparison-400", "report-1400", "report-400"]
    for name, line in found.items():
        assert line["inner"] == int(name.rpartition("-")[2])
        assert line["wide"] <= line["inner"] and line["over"] == [], name
        assert line["images"] == line["drawn"] == (6 if name.startswith("report") else 2)
        assert line["tables"] == line["own"] >= 2
