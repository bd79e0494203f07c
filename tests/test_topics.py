"""Each command of docs/topics.md is one that there is; and, slowly, each of them runs."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

tyro = pytest.importorskip("tyro", reason="needs the extra finetune")
pytest.importorskip("sklearn", reason="needs the extra finetune")  # sets variables as it is imported: not in a test

from gpuaug import cli  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data"))
FOLDERS = {
    "photos": "cifar10", "reviews": "text/sentence_polarity", "cells": "blood_cells", "nuclei": "nuclei"
}  # fmt: skip
LEAST = {"cells": "--size 64 --batch-size 64", "nuclei": "--size 32 --batch-size 16"}  # else an epoch takes a minute
WORDS = re.findall(r"`gpuaug (.+?)` \|", (ROOT / "docs" / "topics.md").read_text(encoding="utf-8"))


def data_of(words: str) -> str:
    named = re.search(r"--data (\S+)", words)
    return named[1] if named else "digits"


def test_there_is_a_command_for_each_topic():
    assert len(WORDS) == 20


@pytest.mark.parametrize("words", WORDS)
def test_a_command_is_one_that_there_is(words):
    args = shlex.split(words)
    given = tyro.cli(cli.Command, prog="gpuaug", args=args if args[0] != "runs" else [*args, "list"])
    assert type(given) in {kind for kind, _ in cli.COMMANDS.values()}


@pytest.mark.slow
@pytest.mark.parametrize("words", WORDS)
def test_a_command_runs(words, tmp_path, capsys):
    args, data = shlex.split(words), data_of(words)
    if data in FOLDERS:
        if not (DATA / FOLDERS[data]).is_dir():
            pytest.skip(f"{DATA / FOLDERS[data]} is not there; GPUAUG_DATA names the folder that has it")
        args[args.index(data)] = str(DATA / FOLDERS[data])
    if args[0] == "finetune":
        args += [*(["--epochs", "2"] if "--patience" not in args else []), *LEAST.get(data, "").split()]
        args += ["--out", str(tmp_path)]
        args += [] if "--robustness" in args or data not in ("digits", "photos") else ["--robustness", "0"]
    assert cli.main(args) == 0
    assert args[0] == "runs" or len(list(tmp_path.glob("001-*/report.html"))) == 1, capsys.readouterr().out[-2000:]
