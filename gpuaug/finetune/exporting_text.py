"""A fine-tuned model of texts for other programs: as :mod:`gpuaug.finetune.exporting`, of tokens and their mask."""

from __future__ import annotations

import copy
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save as safetensors
from torch import Tensor

import gpuaug as ga

from . import runs
from .exporting import IMAGES, Exported, as_onnx, check, checked, followed, greatest, quiet, saved
from .text import TOKENIZER
from .tokens import Batch, Rows

if TYPE_CHECKING:
    from .saved_text import SavedText

TEXTS, LEAST = IMAGES, 2
MADE = "a b c d e f g h i j k l m n o p q r s t u v w x y z"  # where the run's texts are not at hand
SIZES = (1, 2, 5, 28)  # texts of a call; then all that are left


def export(
    model: SavedText, path: Path, format: str | None = None, *, dynamic_batch: bool = True, batch_size: int = 1
) -> Exported:
    """See :meth:`gpuaug.finetune.saved_text.SavedText.export`."""
    format = checked(path, format, batch_size)
    model = copy.deepcopy(model).to("cpu", torch.float32).eval()
    texts, real = texts_of(model)
    fixed = None if dynamic_batch or format == "safetensors" else batch_size
    with quiet():
        content = MAKERS[format](model, fixed)
        answer = READERS[format](content, model)
        differences = compared(model, answer, texts, fixed)
    check(differences, f"{path}: as {format}")
    runs.write(path, content)
    runs.write(path.with_name(TOKENIZER), (model.path.parent / TOKENIZER).read_bytes())
    shape = f"[{fixed}, {model.size}]" if fixed else "[B, T]"
    words = f"input_ids and attention_mask, int64 {shape}, T at most {model.size}, of {TOKENIZER} beside it"
    told = "" if format == "safetensors" else words
    return Exported(
        path, format, len(texts), real, *differences[:2], told, "test texts of the run" if real else "made texts"
    )


def texts_of(model: SavedText) -> tuple[list[str], bool]:
    """(up to 100 of the run's test texts, or such as are made up; whether they are the run's)."""
    stored = runs.Run(model.path.parent).predictions or {}
    found = [str(text) for text in stored.get("texts", ())]
    if found:
        return found[:: max(1, len(found) // TEXTS)][:TEXTS], True
    words = MADE.split()
    return [" ".join(words[i % 7 :: i % 5 + 1]) for i in range(TEXTS)], False


@torch.no_grad()
def compared(model: SavedText, answer: Callable[[Batch], Tensor], texts: list[str], fixed: int | None) -> tuple:
    """As :func:`gpuaug.finetune.exporting.compared`; of a fixed size all rows are as long as they may be."""
    found = (0.0, 0.0, 0.0)
    sizes = [fixed] * -(-len(texts) // fixed) if fixed else [*SIZES, max(1, len(texts) - sum(SIZES))]
    at = 0
    for size in sizes:
        some = [texts[i % len(texts)] for i in range(at, at + size)]
        at += size
        x = inputs(model, some, model.size if fixed else None)
        found = greatest(found, model, model(**x), answer(x))
    return found


def inputs(model: SavedText, texts: list[str], width: int | None = None) -> Batch:
    """Tokens of texts, as wide as the longest, or of a given width."""
    x = Rows(texts, model.tokenizer, model.size, torch.device("cpu")).all()
    if width is None:
        return x
    more = width - x["input_ids"].shape[1]
    pads = {"input_ids": model.tokenizer.pad_token_id, "attention_mask": 0}
    return {name: torch.nn.functional.pad(x[name], (0, more), value=pad) for name, pad in pads.items()}


# --- formats ----------------------------------------------------------------------------------------------------------
def described(model: SavedText) -> dict[str, str]:
    """What an exported program says of itself."""
    about = model.about
    answer = "sigmoid of each" if about.several else "softmax over classes"
    return {
        "input": f"input_ids and attention_mask, int64 [B, T], T at most {model.size}, of the {TOKENIZER} beside it",
        "output": f"logits, float32 [B, {len(about.classes)}], in the order of classes; probabilities: {answer}",
        "model": about.model,
        **{name: json.dumps(getattr(about, name)) for name in ("classes", "size", "several")},
        "gpuaug": about.dumped()["gpuaug"],
    }


def _program(model: SavedText, fixed: int | None) -> torch.export.ExportedProgram:
    x = inputs(model, [MADE] * (fixed or LEAST), model.size if fixed else None)
    dims = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2, max=model.size)}
    return followed(model, (), x, None if fixed else dict.fromkeys(x, dims))


def _make_program(model: SavedText, fixed: int | None) -> bytes:
    return saved(_program(model, fixed), described(model))


def _make_onnx(model: SavedText, fixed: int | None) -> bytes:
    return as_onnx(model, _program(model, fixed), ["input_ids", "attention_mask"], described(model))


def _make_weights(model: SavedText, fixed: int | None) -> bytes:
    state = {name: value.clone().contiguous() for name, value in model.model.state_dict().items()}
    return safetensors(state, described(model) | model.about.dumped())


def _read_program(content: bytes, model: SavedText) -> Callable[[Batch], Tensor]:
    module = torch.export.load(io.BytesIO(content)).module()
    return lambda x: module(**x)


def _read_onnx(content: bytes, model: SavedText) -> Callable[[Batch], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {name: one.numpy() for name, one in x.items()})[0])


def _read_weights(content: bytes, model: SavedText) -> Callable[[Batch], Tensor]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.safetensors"
        path.write_bytes(content)
        shutil.copy(model.path.parent / TOKENIZER, place)
        own = copy.deepcopy(model.model) if model.by_hand(model.about) else None
        loaded = ga.load(path, model=own, device="cpu")
    return lambda x: loaded(**x)


MAKERS = {"torch-export": _make_program, "onnx": _make_onnx, "safetensors": _make_weights}
READERS = {"torch-export": _read_program, "onnx": _read_onnx, "safetensors": _read_weights}
