"""The task text: from a folder of tables to a run, its page and its saved model; encoders of Hugging Face's; errors."""

from __future__ import annotations

import csv
import json
import multiprocessing
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "tokenizers", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"an extra is not installed: {needed}")

import finetuning_text as planted  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data import DataError, Parts  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, finetune, resume, runs, text_robustness  # noqa: E402
from gpuaug.finetune.text import source_of  # noqa: E402
from gpuaug.finetune.tokens import Rows, TokenFeed, growth  # noqa: E402
from gpuaug.text.reading import Texts, is_text  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"epochs": 4, "batch_size": 15, "device": "cpu", "quiet": True, "robustness": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return planted.folder(tmp_path_factory.mktemp("texts") / "planted")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Run:
    """A run as a user's: nothing said but the folder, and how many texts are corrupted."""
    out = tmp_path_factory.mktemp("runs")
    options = QUICK | {"epochs": 8, "robustness": 30, "val_fraction": 0.2}
    return Run(finetune(Config(data=str(data), out=out, **options)).run)


# --- a run ------------------------------------------------------------------------------------------------------------
def test_a_folder_of_tables_is_learned_and_its_run_says_so(run, data):
    assert run.resolved["task"] == "text" and run.resolved["model"] == "subwords" and run.noun == "text"
    assert run.event("after")["test_accuracy"] >= 0.9 and run.event("before")["test_accuracy"] < 0.6
    names = {path.name for path in run.folder.iterdir()}
    assert {"tokenizer.json", "samples.json", "robustness.json", "report.html", "best.safetensors"} <= names
    page = run.path(runs.REPORT).read_text()
    assert "72 train, 18 val, 30 test" in page and "deletion" in page and "images" not in page
    assert re.search(r"<del>[^<]+</del>", page), "what the model saw shows what was left out"
    stored = run.predictions
    test = dict(planted.planted(30, 1))
    assert set(stored["texts"]) == set(test)


def test_the_worst_mistakes_are_a_table(data, tmp_path):
    wrong = [(text, {"card": "money", "money": "trip", "trip": "card"}[name]) for text, name in planted.planted(30, 1)]
    root = planted.folder(tmp_path / "data")
    planted.write(root / "test.csv", wrong)
    made = finetune(Config(data=str(root), out=tmp_path, **QUICK))
    page = (made.run / runs.REPORT).read_text()
    rows = page[page.index("Worst mistakes") :]
    assert made.after < 0.3 and '<th class="left">text</th><th>said</th>' in rows
    assert sum(f'<td class="left">{text}</td>' in rows for text, _ in wrong) >= 15


def test_a_run_goes_on_to_the_bit(data, tmp_path):
    options = QUICK | {"data": str(data), "ema": 0.5, "clip": 1.0, "checkpoint_steps": 2, "balance": "weights"}

    class Stop:
        calls = 0

        def __call__(self, logits, labels):
            Stop.calls += 1
            if Stop.calls == 9:
                signal.raise_signal(signal.SIGINT)
            return torch.nn.functional.cross_entropy(logits, labels)

    config = Config(**{**options, "balance": "no", "out": tmp_path / "a"})
    whole = finetune(config, loss=torch.nn.functional.cross_entropy)
    config = Config(**{**options, "balance": "no", "out": tmp_path / "b"})
    with pytest.raises(Interrupted) as stopped:
        finetune(config, loss=Stop())
    done = resume(stopped.value.run, loss=torch.nn.functional.cross_entropy)
    assert done.metrics == whole.metrics
    first, second = (load_file(one.run / runs.WEIGHTS) for one in (whole, done))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    finetune(Config(**{**options, "out": tmp_path / "c", "epochs": 1}))  # weights of classes go, too


@pytest.mark.skipif(sys.platform != "linux", reason="it forks processes")
def test_two_processes_draw_and_lose_as_one_does(data, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(planted.HEAVY)
    augment = "deletion=(0, 0.3),insertion=0.2,swap=0.2"
    found = {}
    for world in (1, 2):
        out = tmp_path / str(world)
        out.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        options = {"epochs": 2, "batch_size": 16 // world, "augment": augment, "val_fraction": 0.2, "seed": 3}
        every = []
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            if world == 1:
                own = {"OMP_NUM_THREADS": "1"}
            every.append(context.Process(target=planted.member, args=(own, str(data), str(out), options)))
            every[-1].start()
        for process in every:
            process.join(200)
        assert [process.exitcode for process in every] == [0] * world
        found[world] = [json.loads((out / f"{rank}.json").read_text()) for rank in range(world)]
    (alone,), (first, second) = found[1], found[2]
    assert not first["seen"].keys() & second["seen"].keys()
    assert first["seen"] | second["seen"] == alone["seen"] and len(alone["seen"]) > 100
    assert first["metrics"] == second["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
    for a, b in zip(alone["history"], first["history"], strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), name


def test_several_labels_and_json_lines_and_one_file(tmp_path):
    rows = [
        (f"{a} {b}", sorted({x, y}))
        for (a, x), (b, y) in zip(planted.planted(60, 0), planted.planted(60, 5)[::-1], strict=True)
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps({"review": text, "label": names}) + "\n" for text, names in rows))
    made = Run(finetune(Config(data=str(path), out=tmp_path, **QUICK)).run)
    assert made.resolved["several"] and made.resolved["images"] == {"train": 48, "test": 12}
    model = ga.load(made.folder)
    answer = model.predict("my card and my flight", threshold=0.0)
    assert {name for name, _ in answer[0].answers} == {"card", "money", "trip"}


def test_sampling_draws_copies_anew(tmp_path):
    root = planted.folder(tmp_path / "data")
    planted.write(
        root / "train.csv", [row for i, row in enumerate(planted.planted(90, 0)) if row[1] != "trip" or i < 30]
    )
    made = Run(finetune(Config(data=str(root), out=tmp_path, balance="sampling", **QUICK)).run)
    assert "90 texts an epoch" in " ".join(made.resolved["decisions"])


def test_feed_gives_each_text_its_own_draw_in_any_batch(data):
    parts = ga.text.open_parts(data)
    tokenizer, source = ga.text.BPETokenizer.learn(parts.train.texts, 300), source_of(parts.train)
    augment = ga.text.presets.get("deletion=0.3,insertion=0.3", tokenizer=tokenizer, seed=1, max_length=32)
    rows = Rows(source.items, tokenizer, 32, torch.device("cpu"))

    def seen(batch_size: int) -> dict[int, list[int]]:
        feed, found = TokenFeed(source, rows, batch_size, augment, shuffle=True), {}
        feed.set_epoch(2)
        for x, labels, ids in feed:
            assert x["input_ids"].shape == x["attention_mask"].shape and len(labels) == len(ids)
            for id, row, mask in zip(ids.tolist(), x["input_ids"], x["attention_mask"].bool(), strict=True):
                assert not mask[int(mask.sum()) :].any()
                found[id] = row[mask].tolist()
        return found

    assert seen(7) == seen(90) and len(seen(7)) == 90
    assert growth(augment) == 2 and growth(lambda x: x) is None


# --- saved models -----------------------------------------------------------------------------------------------------
def test_load_predicts_texts_and_files_as_the_run_did(run, tmp_path, capsys):
    model = ga.load(run.folder)
    stored = run.predictions
    made = model.predict([str(text) for text in stored["texts"]], batch_size=7)
    torch.testing.assert_close(made.probabilities, torch.from_numpy(stored["logits"]).softmax(1))
    path = planted.write(tmp_path / "new.csv", planted.planted(9, 4), ("phrase", "mood"))
    (tmp_path / "lines.txt").write_text("my card\n\nthe flight\n")
    with pytest.raises(DataError, match="no column of texts among phrase, mood"):
        model.predict(path)
    assert len(model.predict(str(path), text_column="phrase")) == 9
    assert [one.answer for one in model.predict(tmp_path / "lines.txt")] == ["card", "trip"]
    out = tmp_path / "answers.json"
    assert main(["predict", str(run.folder), "--text", "my card", "the flight", "--top", "2", "-o", str(out)]) == 0
    (first, second) = json.loads(out.read_text())
    assert first["text"] == "my card" and [one["answer"] for one in second["answers"]][0] == "trip"
    capsys.readouterr()
    assert main(["predict", str(run.folder), str(tmp_path / "lines.txt"), "--text", "euro"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["text"] for row in rows] == ["my card", "the flight", "euro"] and rows[2]["answer"] == "money"
    assert all(0 < float(row["probability"]) <= 1 for row in rows) and list(rows[0]) == [
        "text",
        "answer",
        "probability",
    ]


def test_evaluate_gives_the_runs_own_figures(run, data, capsys):
    assert main(["evaluate", str(run.folder), "--robustness", "30"]) == 0
    told = capsys.readouterr().out
    found = Run(next((run.folder / "evaluations").iterdir()))
    assert found.evaluation.as_dict() == run.evaluation.as_dict() and "30 texts" in told and "image" not in told
    assert found.robustness == run.robustness
    model = ga.load(run.folder)
    assert model.evaluate(data / "test.csv").top1 == run.evaluation.top1
    assert model.evaluate(data, "train").n == 90
    with pytest.raises(DataError, match="does not know the class 'tax'|does not know the class tax"):
        model.evaluate(planted.write(data.parent / "odd.csv", [("my tax", "tax"), ("my card", "card")]))


@pytest.mark.parametrize("format", ["torch-export", "onnx", "safetensors"])
def test_export_answers_as_the_model(run, tmp_path, format):
    for name in ("onnx", "onnxruntime", "onnxscript") if format == "onnx" else ():
        pytest.importorskip(name, reason="the extra export is not installed")
    ending = {"torch-export": "pt2", "onnx": "onnx", "safetensors": "safetensors"}[format]
    model = ga.load(run.folder, device="cpu")
    done = model.export(tmp_path / f"m.{ending}")
    assert done.real and done.images == 30 and done.logits < 1e-4 and "test texts of the run" in done.told()
    assert (tmp_path / "tokenizer.json").read_bytes() == run.path("tokenizer.json").read_bytes()
    texts = ["my card has not come", "euro"]
    x = ga.text.Tokenizer.load(tmp_path / "tokenizer.json")(texts)
    if format == "safetensors":
        other = ga.load(done.path, device="cpu")(**x)
    elif format == "torch-export":
        other = torch.export.load(done.path).module()(**x)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
        other = torch.from_numpy(session.run(["logits"], {name: one.numpy() for name, one in x.items()})[0])
    torch.testing.assert_close(other, model(**x), atol=1e-4, rtol=1e-4)


def test_a_runs_weights_are_taken_further_with_its_tokenizer(run, data, tmp_path):
    weights = str(run.path(runs.WEIGHTS))
    made = Run(finetune(Config(data=str(data), weights=weights, out=tmp_path, **QUICK)).run)
    assert made.event("before")["test_accuracy"] == run.event("after")["test_accuracy"]
    assert made.path("tokenizer.json").read_bytes() == run.path("tokenizer.json").read_bytes()


# --- Hugging Face's ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def encoder(tmp_path_factory, data) -> Path:
    """A BERT of random weights and its tokenizer, in a folder."""
    transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
    root = tmp_path_factory.mktemp("encoder")
    own = ga.text.BPETokenizer.learn(ga.text.open_parts(data).train.texts, 300)
    names = {f"{role}_token": name for role, name in own.names.items()}
    transformers.PreTrainedTokenizerFast(tokenizer_object=own.tokenizer, model_max_length=40, **names).save_pretrained(
        root
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(own), max_position_embeddings=40, **shape)
    transformers.BertModel(config).save_pretrained(root)
    return root


@pytest.mark.parametrize("recipe", ["finetune", "probe"])
def test_an_encoder_of_a_folder_learns_and_is_loaded_without_it(encoder, data, tmp_path, recipe, capsys):
    moved, encoder_here = tmp_path / "moved", tmp_path / "here"
    shutil.copytree(encoder, encoder_here)
    options = QUICK | {
        "model": f"hf:{encoder_here}",
        "recipe": recipe,
        "lr": 0.01,
        "epochs": 12 if recipe == "finetune" else 80,
    }
    options |= {"layer_decay": 0.8, "dropout": 0.1} if recipe == "finetune" else {}
    made = Run(finetune(Config(data=str(data), out=tmp_path, **options)).run)
    gain = made.event("after")["test_accuracy"] - made.event("before")["test_accuracy"]
    assert gain > (0.3 if recipe == "finetune" else 0.1)  # the features that a probe gets are random ones
    assert made.resolved["size"] == 40 and made.name.startswith("001-here-planted")
    encoder_here.rename(moved)
    model = ga.load(made.folder)
    stored = made.predictions
    found = model.predict([str(text) for text in stored["texts"]])
    torch.testing.assert_close(found.probabilities, torch.from_numpy(stored["logits"]).softmax(1), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="no folder with a config.json in it"):
        finetune(Config(data=str(data), out=tmp_path, **options))
    assert "transformers" not in capsys.readouterr().err


def test_adapters_of_an_encoder_learn_and_are_merged(encoder, data, tmp_path):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    options = QUICK | {"model": f"hf:{encoder}", "lora": 4, "lr": 0.01, "epochs": 8}
    made = Run(finetune(Config(data=str(data), out=tmp_path, **options)).run)
    assert made.history[-1]["train_accuracy"] - made.history[0]["train_accuracy"] > 0.1
    start, end = load_file(encoder / "model.safetensors"), load_file(made.path(runs.WEIGHTS))
    changed = {name for name, value in start.items() if not torch.equal(value, end.get(f"encoder.{name}", value))}
    layers = ("query", "key", "value", "output.dense", "intermediate.dense")
    assert changed == {name for name in start if name.endswith(tuple(f"{one}.weight" for one in layers))}
    stored = made.predictions
    found = ga.load(made.folder).predict([str(text) for text in stored["texts"]])
    torch.testing.assert_close(found.probabilities, torch.from_numpy(stored["logits"]).softmax(1), atol=1e-5, rtol=1e-4)


def test_layers_of_an_encoder_have_rates_of_their_own(encoder):
    from gpuaug.finetune import encoders, recipes

    model = encoders.Encoder(encoders.encoder_of(f"hf:{encoder}"), 3)
    found = recipes.layers(model)
    assert {found[n] for n in found if "embeddings" in n} == {0} and found["head.weight"] == max(found.values())
    blocks = [found[f"encoder.encoder.layer.{i}.output.dense.weight"] for i in range(2)]
    assert blocks == [1, 2] and not any("pooler" in name for name in found)


# --- robustness -------------------------------------------------------------------------------------------------------
def test_corruptions_keep_their_draws_and_grow(run):
    texts, ids = [text for text, _ in planted.planted(40, 2)], list(range(40))
    for name in text_robustness.CORRUPTIONS:
        made = [text_robustness.corrupt(name, s, texts, ids) for s in (1, 2, 3, 4, 5)]
        again = text_robustness.corrupt(name, 3, texts[::-1], ids[::-1])
        assert again[::-1] == made[2], "by the id alone"
        changed = [sum(a != b for a, b in zip(texts, one, strict=True)) for one in made]
        assert changed == sorted(changed) and changed[-1] > changed[0] and all(all(one) for one in made)
    long = ["one two three four five six seven eight nine ten"] * 400
    kept = [len(one.split()) for one in text_robustness.corrupt("deletion", 5, long, range(400))]
    assert np.mean(kept) / 10 == pytest.approx(0.5, abs=0.03)
    gone = [
        set(a.split()) >= set(b.split())
        for a, b in zip(*(text_robustness.corrupt("deletion", s, long, range(400)) for s in (2, 4)), strict=True)
    ]
    assert all(gone), "what is left out at a strength is left out at a greater one"
    swapped = text_robustness.corrupt("swap", 5, long, range(400))
    assert all(sorted(one.split()) == sorted(long[0].split()) for one in swapped)
    measured = run.robustness
    assert measured["clean"]["score"] == run.evaluation.top1 and len(measured["corruptions"]) == 15
    assert measured["corruptions"][4]["score"] < measured["clean"]["score"]


# --- errors -----------------------------------------------------------------------------------------------------------
def refused(capsys, *arguments: str) -> str:
    assert main(["finetune", "--device", "cpu", *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    return told


def test_what_is_wrong_with_data_is_told_by_file_and_line(tmp_path, capsys):
    rows, root = planted.planted(12, 0), tmp_path / "d"
    out = ("--out", str(tmp_path / "runs"))

    def told(*more: str) -> str:
        return refused(capsys, "--data", str(root), *out, *more)

    planted.folder(root)
    planted.write(root / "train.csv", rows, ("phrase", "label"))
    words = "no column of texts among phrase, label; name it: columns={'text': ...}, or --text-column"
    assert told() == f"gpuaug: {root}/train.csv: {words}"
    assert "no column 'words' among phrase, label" in told("--text-column", "words")
    planted.write(root / "train.csv", rows, ("text", "mood"))
    assert "the train part has no column of classes; name it: --label-column" in told()
    planted.write(root / "train.csv", [*rows, (" ", "card")])
    assert "train.csv: line 14 has no text; complete it" in told()
    planted.write(root / "train.csv", [*rows, ("a card", "")])
    assert "train.csv: line 14 has no label" in told()
    planted.write(root / "train.csv", rows)
    planted.write(root / "test.csv", [("a tax", "tax")])
    assert "test.csv: the label 'tax' is not among the classes card, money, trip" in told()
    planted.folder(root)
    (root / "train.csv").write_bytes("text,label\nx,a\ncafé,b\n".encode("latin-1"))
    assert "train.csv: line 3 is not UTF-8" in told()
    planted.write(root / "train.csv", [row for row in rows if row[1] == "card"])
    planted.write(root / "test.csv", [row for row in rows if row[1] == "card"])
    assert "only one class, 'card'" in told()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--tta", "flip"], "--tta has no effect with --task=text (it is of images)"),
        (["--size", "64"], "--size has no effect with --task=text"),
        (["--mean", "0", "0", "0"], "--mean has no effect with --task=text"),
        (["--mixup", "0.2"], "--mixup has no effect with --task=text"),
        (["--augment", "auto"], "--augment=auto is of classify"),
        (["--augment", "photo_train"], "there is no augmentation of texts 'photo_train'"),
        (["--augment", "deletion=1.5"], "rate must lie in 0 .. 1"),
        (["--model", "resnet20"], "there is no model of texts 'resnet20'"),
        (["--model", "hf:./nowhere"], "no folder with a config.json in it"),
        (["--weights", "pretrained"], "model subwords has no published weights"),
        (["--dropout", "0.1"], "model subwords has no dropout"),
        (["--max-tokens", "1000"], "--max-tokens=1000: model subwords takes 512"),
        (["--backend", "kornia"], "backend"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_line(data, tmp_path, capsys, options, words):
    assert words in refused(capsys, "--data", str(data), "--out", str(tmp_path), *options)


def test_options_of_text_are_refused_for_images(tmp_path, capsys):
    told = refused(capsys, "--data", "digits", "--text-column", "x", "--out", str(tmp_path))
    assert told == "gpuaug: --text-column has no effect with another task than text: leave it out"


def test_which_data_are_texts(data, tmp_path):
    assert is_text(data) and is_text(data / "train.csv") and not is_text(tmp_path)
    (tmp_path / "train").mkdir()
    planted.write(tmp_path / "train.csv", planted.planted(3, 0))
    assert not is_text(tmp_path), "a table beside folders of images"


def test_parts_in_python(data, tmp_path):
    parts = ga.text.open_parts(data)
    train = Texts(parts.train.texts[:60], parts.train.ids[:60], parts.train.labels[:60], parts.train.classes)
    own = Parts("mine", source_of(train), None, source_of(parts.test))
    made = finetune(Config(task="text", out=tmp_path, **QUICK), parts=own)
    assert Run(made.run).resolved["images"] == {"train": 60, "test": 30}
