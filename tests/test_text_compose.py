"""The call of a pipeline of tokens: dicts, labels and whatever goes along, single rows, errors, copies."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings
from collections import UserDict
from pathlib import Path

import pytest
import torch
from text_cases import CLS, MASK, PAD, SEP, SPECIAL, TABLE, V, batch, pipeline

from gpuaug import text

LEAST = {"special_tokens": [0], "pad_token_id": 0}
OPTIONS = {"special_tokens": SPECIAL, "pad_token_id": PAD, "mask_token_id": MASK, "vocab_size": V}


class Tokenizer:
    """What is read of one of Hugging Face's."""

    all_special_ids = [*SPECIAL, 1]
    unk_token_id, pad_token_id, mask_token_id, padding_side, pad_token_type_id = 1, PAD, MASK, "left", 3

    def __len__(self) -> int:
        return V


class Encoding(UserDict):
    """As transformers.BatchEncoding: made of a dict."""


def full(b: int = 6, t: int = 20, **more) -> dict:
    ids, mask = batch(b, t, seed=3)
    return {"input_ids": ids, "attention_mask": mask, **more}


@pytest.mark.parametrize("kind", [dict, Encoding])
def test_dicts_come_back_as_they_were(kind: type) -> None:
    given = full(token_type_ids=torch.zeros(6, 20, dtype=torch.int64), labels=torch.arange(6), names=list("abcdef"))
    kept = {name: copy.deepcopy(value) for name, value in given.items()}
    out = pipeline("all", seed=0)(kind(given), ids=range(6), epoch=0)
    assert type(out) is kind and list(out) == list(given)
    assert out["labels"] is given["labels"] and out["names"] is given["names"]
    ids, mask = pipeline("all", seed=0)(given["input_ids"], given["attention_mask"], ids=range(6), epoch=0)
    assert torch.equal(out["input_ids"], ids) and torch.equal(out["attention_mask"], mask)
    for name, value in kept.items():
        assert torch.equal(given[name], value) if isinstance(value, torch.Tensor) else given[name] == value


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_labels_types_and_fields_go_along(backend: str) -> None:
    """What a token brings is a function of the token, so that it can be checked at its new place."""
    given = full(30, 24)
    ids = given["input_ids"]
    given |= {"labels": 10 * ids, "spans": torch.stack([ids, -ids], 2).int(), "special_tokens_mask": (ids < 5).long()}
    given["token_type_ids"] = (ids == SEP).long().cumsum(1).clamp(max=1)
    options = OPTIONS | {"fields": {"spans": -7}, "ignore_index": -5, "seed": 1, "backend": backend}
    ops = [text.RandomInsertion(0.5, text.Synonyms(TABLE)), text.RandomSwap(0.2), text.RandomDeletion(0.2)]
    out = text.Compose(ops, **options)(given, ids=range(30), epoch=0, sources=True)
    tokens, sources = out["input_ids"], out["sources"]
    old, new, pad = sources >= 0, sources < -1, sources == -1
    assert old.any() and new.any() and pad.any()
    assert torch.equal(out["labels"], torch.where(old, 10 * tokens, -5))
    signed = torch.stack([tokens, -tokens], 2)
    assert (
        torch.equal(out["spans"], torch.where(old[..., None], signed, -7).int()) and out["spans"].dtype == torch.int32
    )
    fixed = given["special_tokens_mask"].gather(1, sources.clamp(min=0).long())
    assert torch.equal(out["special_tokens_mask"], torch.where(pad, 1, torch.where(old, fixed, 0)))
    came = torch.where(new, -2 - sources, sources).clamp(min=0).long()
    assert torch.equal(out["token_type_ids"], torch.where(pad, 0, given["token_type_ids"].gather(1, came)))


def test_replacement_and_masking_keep_labels() -> None:
    given = full(labels=torch.arange(120).view(6, 20))
    out = text.Compose([text.RandomReplacement(1.0), text.RandomMask(0.5)], seed=0, **OPTIONS)(given)
    there = given["attention_mask"] == 1
    assert torch.equal(out["labels"], torch.where(there, given["labels"], -100))


def test_positional_tensors_and_single_rows() -> None:
    given = full()
    augment = pipeline("all", seed=4)
    ids, mask = augment(given["input_ids"], given["attention_mask"], ids=range(6), epoch=1)
    alone = augment(given["input_ids"], ids=range(6), epoch=1)
    assert torch.equal(alone, ids), "without a mask: what is not the padding's id"
    row = augment(given["input_ids"][4], given["attention_mask"][4], ids=4, epoch=1)
    assert row[0].shape == (20,) and torch.equal(row[0], ids[4]) and torch.equal(row[1], mask[4])
    one = augment({"input_ids": given["input_ids"][4], "label": torch.tensor(1)}, ids=[4], epoch=1)
    assert torch.equal(one["input_ids"], ids[4]) and one["label"] == 1
    labels = torch.rand(6, 20)
    assert augment(given["input_ids"], labels=labels, ids=range(6), epoch=1)[1] is labels, "soft labels stay"
    assert augment(given["input_ids"][:0], ids=[], epoch=0).shape == (0, 20)


def test_a_tokenizer_tells_the_rest() -> None:
    given = full(token_type_ids=torch.zeros(6, 20, dtype=torch.int64))
    augment = text.Compose([text.RandomMask(1.0), text.RandomDeletion(0.5)], tokenizer=Tokenizer(), seed=0)
    assert augment.vocabulary == text.program.Vocabulary((0, 2, 3, 4), PAD, MASK, V, True, 3)
    out = augment(given)
    pad = out["attention_mask"] == 0
    assert (out["attention_mask"].diff(dim=1) >= 0).all() and (out["token_type_ids"][pad] == 3).all()
    assert text.Compose([], tokenizer=Tokenizer(), padding_side="right", pad_token_id=9).vocabulary.pad == 9


def test_special_tokens_are_never_put_in() -> None:
    table = text.Synonyms({t: [CLS, SEP, MASK] if t % 2 else [PAD, 7] for t in range(5, V)})
    given = full(20)
    out = text.Compose([text.RandomReplacement(1.0, table)], seed=0, **OPTIONS)(given)
    content = (given["input_ids"] > 4) & (given["attention_mask"] == 1)
    assert torch.equal(
        out["input_ids"][content], torch.where(given["input_ids"] % 2 == 1, given["input_ids"], 7)[content]
    )


def test_masks_that_were_there_stay_and_new_ones_are_content() -> None:
    ids = torch.tensor([[CLS, 9, MASK, 9, SEP]])
    gone = text.Compose([text.RandomDeletion(1.0)], seed=0, **OPTIONS)(ids)
    assert gone.tolist() == [[CLS, 9, MASK, 9, SEP]], "a segment of one on each side"
    put = text.Compose([text.RandomMask(1.0, 1.0, 0.0), text.RandomDeletion(1.0)], seed=0, **OPTIONS)
    assert put(torch.tensor([[CLS, 9, 9, 9, SEP]])).tolist() == [[CLS, MASK, SEP, PAD, PAD]]


def test_insertions_are_cut_in_front_of_the_end() -> None:
    ids = torch.tensor([[CLS, 5, 6, 7, SEP], [CLS, 5, SEP, 6, SEP]])
    out = text.Compose([text.RandomInsertion(1.0, text.Synonyms({t: [60] for t in range(5, 10)}))], seed=0, **OPTIONS)(
        ids
    )
    assert out.tolist() == [[CLS, 5, 60, 6, SEP], [CLS, 5, SEP, 6, SEP]]
    wide = text.Compose(
        [text.RandomInsertion(1.0, text.Synonyms({5: [60], 6: [60], 7: [60]}))], seed=0, max_length=7, **OPTIONS
    )
    assert wide(ids).tolist() == [[CLS, 5, 60, 6, 60, 7, SEP], [CLS, 5, 60, SEP, 6, 60, SEP]]


def test_copies_and_pickles_draw_the_same() -> None:
    given = full()
    augment = pipeline("all", seed=9)
    augment.set_epoch(5)
    augment(given)
    for other in (copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))):
        assert other.seed == 9 and other.epoch == 5 and repr(other) == repr(augment)
        assert torch.equal(other(given, ids=range(6))["input_ids"], augment(given, ids=range(6))["input_ids"])
    assert "RandomSwap(rate=0.1, p=0.5)" in repr(augment) and "seed=9" in repr(augment)
    assert len(augment) == 9 and text.Compose([], **OPTIONS).seed != text.Compose([], **OPTIONS).seed


def test_ids_without_an_epoch_warn_once() -> None:
    augment = pipeline("swap", seed=0)
    with pytest.warns(UserWarning, match="set_epoch"):
        augment(full(), ids=range(6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment(full(), ids=range(6))


IDS = torch.tensor([[CLS, 9, 9, SEP]])
CALLS = {
    "lists": (lambda a: a([[1, 2]]), TypeError, "return_tensors"),
    "floats": (lambda a: a(IDS.float()), TypeError, "float32"),
    "three axes": (lambda a: a(IDS[None]), ValueError, "[B, T]"),
    "mask of another shape": (lambda a: a(IDS, IDS[:, 1:]), ValueError, "attention_mask"),
    "mask of floats": (lambda a: a(IDS, IDS.float()), TypeError, "attention_mask"),
    "types of another shape": (lambda a: a(IDS, None, IDS[:, 1:]), ValueError, "token_type_ids"),
    "no input_ids": (lambda a: a({"tokens": IDS}), ValueError, "input_ids"),
    "an unknown entry": (lambda a: a({"input_ids": IDS, "ner_tags": IDS}), ValueError, "fields={'ner_tags'"),
    "a dict and more": (lambda a: a({"input_ids": IDS}, IDS), TypeError, "alone"),
    "too many ids": (lambda a: a(IDS, ids=[1, 2], epoch=0), ValueError, "ids"),
    "an epoch alone": (lambda a: a(IDS, epoch=0), ValueError, "ids"),
    "a negative epoch": (lambda a: a(IDS, ids=[1], epoch=-1), ValueError, "epoch"),
    "too long": (lambda a: text.Compose([], max_length=3, **OPTIONS)(IDS), ValueError, "max_length=3"),
    "longer than any": (lambda a: a(IDS[:, :1].expand(1, 16385)), ValueError, "16384"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_cannot_be(name: str) -> None:
    call, kind, told = CALLS[name]
    with pytest.raises(kind) as caught:
        call(pipeline("all", seed=0))
    assert told in str(caught.value) and "\n" not in str(caught.value)


MAKING = {
    "no special tokens": (lambda: text.Compose([]), ValueError, "special_tokens"),
    "no padding": (lambda: text.Compose([], special_tokens=[1]), ValueError, "pad_token_id"),
    "no mask": (lambda: text.Compose([text.RandomMask()], **LEAST), ValueError, "mask_token_id"),
    "no size": (lambda: text.Compose([text.RandomReplacement()], **LEAST), ValueError, "vocab_size"),
    "no op": (lambda: text.Compose([3], **OPTIONS), TypeError, "3"),
    "a misspelt option": (lambda: text.Compose([], sead=1, **OPTIONS), TypeError, "did you mean 'seed'?"),
    "a side": (lambda: text.Compose([], padding_side="top", **OPTIONS), ValueError, "'top'"),
    "a backend": (lambda: text.Compose([], backend="gpu", **OPTIONS), ValueError, "backend"),
    "an id": (lambda: text.Compose([], special_tokens=[-1], pad_token_id=0), ValueError, "-1"),
    "no tokenizer": (lambda: text.Compose([], tokenizer="bert"), TypeError, "'bert'"),
    "too many ops": (lambda: text.Compose([text.RandomSwap()] * 65, **OPTIONS), ValueError, "64"),
    "a rate": (lambda: text.RandomDeletion(1.5), ValueError, "RandomDeletion: rate"),
    "rates": (lambda: text.RandomSwap((0.5, 0.1)), ValueError, "RandomSwap: rate"),
    "a probability": (lambda: text.SpanCrop(p=(0, 1)), ValueError, "SpanCrop: p"),
    "no number": (lambda: text.SpanCrop("all"), ValueError, "SpanCrop: scale"),
    "shares": (lambda: text.RandomMask(masked=0.8, other=0.3), ValueError, "masked + other"),
    "a keyword": (lambda: text.RandomDeletion(rat=0.1), TypeError, "did you mean 'rate'?"),
    "a source": (lambda: text.RandomInsertion(0.1, {5: [6]}), TypeError, "source"),
    "words in a table": (lambda: text.Synonyms({"good": ["fine"]}), TypeError, "of_words"),
    "a negative token": (lambda: text.Synonyms({5: [-6]}), ValueError, "2^31"),
    "offsets": (lambda: text.Candidates([0, 3], [1, 2]), ValueError, "offsets"),
    "descending offsets": (lambda: text.Candidates([0, 2, 1, 2], [1, 2]), ValueError, "ascend"),
    "no tokens": (lambda: text.Uniform([]), ValueError, "at least one"),
    "a vector": (lambda: text.Neighbours.of(torch.zeros(5), 2), ValueError, "[V, D]"),
    "too many neighbours": (lambda: text.Neighbours.of(torch.zeros(5, 2), 5), ValueError, "k in 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKING)
def test_pipelines_that_cannot_be(name: str) -> None:
    make, kind, told = MAKING[name]
    with pytest.raises(kind) as caught:
        make()
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_backend_that_cannot_run() -> None:
    with pytest.raises(RuntimeError, match="triton backend cannot.*CUDA"):
        pipeline("swap", seed=0, backend="triton")(IDS)


# --- sources ----------------------------------------------------------------------------------------------------------
def test_synonyms_of_words() -> None:
    vocab = {"good": 5, "fine": 6, "Ġgood": 7, "Ġgreat": 8, "▁good": 9, "▁fine": 10, "odd": 11}
    found = text.Synonyms.of_words({"good": ["great", "fine", "well made"], "unknown": ["odd"]}, vocab)
    assert [found[t] for t in (5, 7, 9, 11, 99)] == [[6], [8], [10], [], []]


def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On few rows; its loop in Python keeps what the ops keep."""
    from gpuaug.benchmarks import text as benchmark

    monkeypatch.setattr(benchmark, "B", 6)
    threads = torch.get_num_threads()
    benchmark.main(["--threads", str(threads), "--rounds", "1", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["shape"] == [6, 128] and list(found["cases"]) == list(benchmark.CASES)
    for row in found["cases"].values():
        assert row["python_ratio"] == pytest.approx(row["python_ms"] / row["gpuaug_ms"], rel=0.05)
    rows, mask, table = benchmark.batch()
    for names in benchmark.CASES.values():
        out, there = benchmark.looped(rows, mask, names, table, True, 0)
        assert out.shape == rows.shape and (out[:, 0] == 101).all() and torch.equal(out != 0, there == 1)
        assert (out.gather(1, there.sum(1, keepdim=True) - 1) == 102).all() and not torch.equal(out, rows)
    assert "all four" in capsys.readouterr().out


BARE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("PIL", "simplejpeg", "tokenizers", "pyarrow", "numba", "triton", "sklearn"):
            raise ModuleNotFoundError(name, name=name.partition(".")[0])
sys.meta_path.insert(0, Block())
import torch
from gpuaug import text
augment = text.Compose([text.RandomDeletion(0.5)], special_tokens=[0], pad_token_id=0, seed=0, backend="torch")
print(augment(torch.arange(1, 9)[None], ids=[1], epoch=0).shape)
"""


def test_tokens_need_no_extra() -> None:
    """What augments is imported without the packages that read files and images."""
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "[1, 8]" in done.stdout, done.stderr
    with pytest.raises(AttributeError, match="did you mean 'Compose'"):
        text.Compos  # noqa: B018
