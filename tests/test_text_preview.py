"""What an augmentation has made of a text, in marks; presets by name; the preview; the table of the benchmark."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

for needed in ("tokenizers", "matplotlib", "scipy", "timm", "tqdm", "accelerate"):
    pytest.importorskip(needed, reason=f"an extra is not installed: {needed}")

import finetuning_text as planted  # noqa: E402
from PIL import Image  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.benchmarks import finetuning_text  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.text.marking import Piece, as_html, marked, written  # noqa: E402

VOCAB = {"[PAD]": 0, "[UNK]": 1, "▁my": 2, "▁card": 3, "s": 4, "▁late": 5, "▁again": 6, "▁": 7, "[CLS]": 8}


class Named:
    """A tokenizer of VOCAB, as far as marks ask."""

    all_special_ids, unk_token_id = (0, 1, 8), 1

    def get_vocab(self) -> dict[str, int]:
        return VOCAB


BEFORE = [8, 2, 3, 4, 5]  # my cards late


@pytest.mark.parametrize(
    "after, sources, line, html",
    [
        ([8, 2, 3, 4, 5], [0, 1, 2, 3, 4], "my cards late", "my cards late"),
        ([8, 2, 5, 0], [0, 1, 4, -1], "my [-cards-] late", "my <del>cards</del> late"),
        ([8, 2, 3, 4, 6, 5], [0, 1, 2, 3, -5, 4], "my cards {+again+} late", "my cards <ins>again</ins> late"),
        ([8, 6, 3, 4, 5], [0, 1, 2, 3, 4], "{~again~} cards late", "<mark>again</mark> cards late"),
        ([8, 5, 2, 3, 4], [0, 4, 1, 2, 3], "<late> my cards", "<em>late</em> my cards"),
        ([8, 7, 5, 1], [0, 1, 4, 2], "{~~}", None),
    ],
)
def test_marks_say_what_became_of_each_token(after, sources, line, html):
    pieces = marked(Named(), BEFORE, after, sources)
    if html is None:  # a mark of a word's beginning alone is nothing to be read; the unknown token is
        assert "[UNK]" in written(pieces) and all(piece.text for piece in pieces)
        return
    assert written(pieces) == line and as_html(pieces) == html


def test_marks_escape_and_colour():
    pieces = [Piece("a<b", "gone", False), Piece("&", "new", True)]
    assert as_html(pieces) == "<del>a&lt;b</del> <ins>&amp;</ins>"
    assert "\033[9;31ma<b\033[0m" in written(pieces, colours=True)


def test_word_pieces_and_byte_levels_are_read_as_words():
    class Pieces(Named):
        def get_vocab(self):
            return {"[PAD]": 0, "[UNK]": 1, "my": 2, "card": 3, "##s": 4, "late": 5, "[CLS]": 8}

    assert written(marked(Pieces(), BEFORE, BEFORE, range(5))) == "my cards late"

    class Bytes(Named):
        def get_vocab(self):
            return {"[PAD]": 0, "[UNK]": 1, "Ġmy": 2, "Ġcard": 3, "s": 4, "Ġlate": 5, "[CLS]": 8}

    assert written(marked(Bytes(), BEFORE, BEFORE, range(5))) == "my cards late"


def test_what_the_augmentation_says_and_the_marks_are_one(tmp_path):
    """Of every text, kept, moved and put in or replaced are what comes out; kept, moved and left out what went in."""
    texts = [text for text, _ in planted.planted(30, 0)]
    tokenizer = ga.text.BPETokenizer.learn(texts, 300)
    augment = ga.text.presets.get("deletion=0.3,swap=0.3,insertion=0.3", tokenizer=tokenizer, seed=0, max_length=64)
    batch = tokenizer(texts)
    out = augment(batch, ids=torch.arange(30), epoch=0, sources=True)
    for i in range(30):
        before = batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
        pieces = marked(tokenizer, before, out["input_ids"][i].tolist(), out["sources"][i].tolist())
        came = "".join(one.text for one in pieces if one.kind != "gone").replace(" ", "").replace("[UNK]", "")
        row = out["input_ids"][i][out["attention_mask"][i].bool()]
        assert came == tokenizer.decode(row[None])[0].replace(" ", "")


def test_presets():
    assert ga.text.presets.ops_of("none") == []
    light = ga.text.presets.ops_of("text_light")
    assert [type(op).__name__ for op in light] == ["RandomDeletion", "RandomSwap"]
    swap, crop = ga.text.presets.ops_of("swap=0.2,crop=(0.5, 1.0)")
    assert swap.rate == 0.2 and crop.scale == (0.5, 1.0)
    for spec, words in [
        ("text_lite", "did you mean 'text_light'"),
        ("deletio=0.1", "did you mean 'deletion'"),
        ("deletion=2", "rate must lie in 0 .. 1"),
        ("deletion=0.1,deletion=0.2", "deletion stands there twice"),
        ("deletion=", "augment 'deletion='"),
        (3, "named by a string"),
    ]:
        with pytest.raises(ValueError, match=words.replace("(", r"\(")):
            ga.text.presets.ops_of(spec)


def test_the_command_shows_texts_and_writes_them(tmp_path, capsys):
    root = planted.folder(tmp_path / "data")
    assert main(["preview", "--text", str(root), "--augment", "deletion=0.4", "--most", "3", "--draws", "2"]) == 0
    told = capsys.readouterr().out
    assert told.count("[-") >= 2 and any(f"{name}: {text}" in told for text, name in planted.planted(90, 0))
    for name in ("a.html", "a.png"):
        assert main(["preview", "--text", str(root), "-o", str(tmp_path / name)]) == 0
    assert "<ol>" in (tmp_path / "a.html").read_text() and "RandomDeletion" in (tmp_path / "a.html").read_text()
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as sheet:
        assert sheet.width == 1000 and len(sheet.convert("RGB").getcolors(1 << 20)) > 20
    capsys.readouterr()
    for arguments, words in [
        (["--text", str(root), "photo.jpg"], "--text shows texts alone"),
        (["--text", str(root), "--gallery"], "--text shows texts alone"),
        (["--text", str(root), "-o", "a.jpg"], "a.jpg: texts are written as .png or .html"),
        (["--text", str(root), "--draws", "0"], "draws must be at least 1"),
        (["--text", str(tmp_path / "none")], "no such file or folder"),
    ]:
        assert main(["preview", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_text_is_there_without_an_import(tmp_path):
    import subprocess

    code = "import sys, gpuaug as ga; assert 'gpuaug.text' not in sys.modules; print(ga.text.Compose.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "Compose\n", done.stderr


# --- the benchmark ----------------------------------------------------------------------------------------------------
def test_a_difference_is_of_the_same_seeds_and_texts():
    rng = np.random.default_rng(0)
    first = rng.random((5, 400)) < 0.6
    second = first | (rng.random((5, 400)) < 0.1)
    found = finetuning_text.compared(first, second)
    gains = (second.astype(float) - first).mean(1)
    assert found["difference"] == pytest.approx(gains.mean()) and found["each"] == pytest.approx(gains.tolist())
    from scipy import stats

    judge = stats.ttest_rel(second.mean(1), first.mean(1)).confidence_interval(0.95)
    assert found["student"] == pytest.approx([judge.low, judge.high])
    assert found["bootstrap"][0] < found["difference"] < found["bootstrap"][1]
    same = finetuning_text.compared(first, first)
    assert same["difference"] == 0 and same["bootstrap"] == [0, 0]
    assert finetuning_text.compared(first[:1], second[:1])["student"] is None


def test_rows_of_the_table_pair_seeds(tmp_path: Path):
    def line(arm: str, seed: int, right: str) -> dict:
        return {"arm": arm, "seed": seed, "right": right}

    runs = [
        line("none", 0, "1100"),
        line("text_light", 0, "1110"),
        line("none", 1, "1000"),
        line("text_light", 2, "1111"),
    ]
    none, light = finetuning_text.rows(runs)
    assert none["mean"] == pytest.approx(0.375) and "difference" not in none
    assert light["mean"] == pytest.approx(0.875) and light["difference"] == pytest.approx(0.25), "of seed 0 alone"
    finetuning_text.write(tmp_path / "a.json", "banking", runs)
    assert "+25.0 points" in finetuning_text.words(light)
    assert finetuning_text.told({"model": "hf:folder/encoder", "augment": "none"})["model"] == "hf:encoder"
