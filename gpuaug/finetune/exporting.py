"""A fine-tuned model for other programs: exported, run again as they would, and kept if it answers as before."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as safetensors
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.data import Loader
from gpuaug.messages import shown

from . import exporting_int8, models, runs
from .asking import LEFT_OUT
from .screen import hushed

if TYPE_CHECKING:
    from .saved import Classifier, Saved

ENDINGS = {"torch-export": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
TOLERANCE = 1e-4  # of a logit, and of a probability
RELATIVE = 1e-5  # of the largest logit, where that is more: float32 keeps about 7 digits
IMAGES = 100
BATCHES = (1, 2, 5, 28)  # images of a call; then all that are left
OPSET = 18  # of ONNX, the dynamo exporter's own


@dataclass(frozen=True)
class Exported:
    """An export that was kept.

    Attributes:
        path: the file. format: "torch-export", "onnx" or "safetensors".
        images: on how many it was checked. real: whether they are the run's test images, not made ones.
        logits, probabilities: the greatest differences from the model's own. input: what it wants, in words; "" of
            weights. kind: what it was checked on, in words.
    """

    path: Path
    format: str
    images: int
    real: bool
    logits: float
    probabilities: float
    input: str = ""
    kind: str = ""

    def told(self) -> str:
        """In words."""
        return (
            f"checked on {self.images} {self.kind}: logits differ by at most {self.logits:.1e}, probabilities by "
            f"{self.probabilities:.1e}"
        )


def format_of(path: Path | None, format: str | None) -> str:
    """What is asked for. Raises ValueError where neither says it, or both say another."""
    if format not in (None, *ENDINGS):
        raise ValueError(f"format must be one of {', '.join(ENDINGS)}; got {shown(format)}")
    known = None if path is None else next((k for k, end in ENDINGS.items() if end == path.suffix.lower()), None)
    if format is None and known is None:
        where = f"{path}: no format by this ending; name it" if path else "say --format, or give an --out that ends in"
        raise ValueError(f"{where} {', '.join(ENDINGS.values())}")
    if known not in (None, format or known):
        raise ValueError(f"{path}: format {format} was asked for, and the ending says {known}; change one of both")
    return format or known


def checked(path: Path, format: str | None, batch_size: int) -> str:
    """The format that is asked for. Raises ValueError for what cannot be, ModuleNotFoundError for what it needs."""
    format = format_of(path, format)
    if path.is_dir():
        raise ValueError(f"{path}: a folder; name the file to be written")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    lacking = [name for name in NEEDED.get(format, ()) if importlib.util.find_spec(name) is None]
    if lacking:
        raise ModuleNotFoundError(
            f"format {format} needs {', '.join(lacking)}: pip install 'gpuaug[export]'", name=lacking[0]
        )
    return format


def export(
    model: Classifier, path: Path, format: str | None = None, *, dynamic_batch: bool = True, batch_size: int = 1
) -> Exported:
    """See :meth:`gpuaug.finetune.saved.Classifier.export`."""
    format = checked(path, format, batch_size)
    cpu = torch.device("cpu")
    model = copy.deepcopy(model).to(cpu, torch.float32, memory_format=models.layout(cpu, model)).eval()
    x, real = model.examples()
    fixed = None if dynamic_batch or format == "safetensors" else batch_size
    with quiet():
        content = MAKERS[format](model, fixed)
        answer = READERS[format](content, model)
        differences = compared(model, answer, x, fixed)
    rounds = format == "onnx" and exporting_int8.rounds(model.about)
    allowed = (exporting_int8.TOLERANCE, exporting_int8.RELATIVE) if rounds else (TOLERANCE, RELATIVE)
    check(differences, f"{path}: as {format}", *allowed)
    runs.write(path, content)
    words = f"{wanted(model, 'B' if dynamic_batch else batch_size)}; the normalisation is inside"
    kind = f"test {model.noun}s of the run" if real else f"{model.noun}s of noise, as the run's are no files"
    return Exported(path, format, len(x), real, *differences[:2], "" if format == "safetensors" else words, kind)


# --- parity -----------------------------------------------------------------------------------------------------------
def of_run(weights: Path, model: Classifier) -> Tensor | None:
    """Images float32 [N, 3, size, size] of 0 to 1: up to 100 of the test images that predictions.npz beside the weights
    names, where these are files; None where there are none."""
    stored = runs.Run(weights.parent).predictions or {}
    files = [Path(path) for path in stored.get("paths", ()) if path and Path(path).exists()]
    files = files[:: max(1, len(files) // IMAGES)][:IMAGES]
    if not files:
        return None
    plain = ga.Compose(model.pipeline().transforms[:-1])  # all but the normalisation
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        found = [x for x, *_ in Loader(model.asked().listed(files)[0], IMAGES, plain, max_bad=1.0)]
    return torch.cat(found) if found else None


def wanted(model: Classifier, batch: int | str = "B") -> str:
    """What the model is called with, in words."""
    return f"{model.noun}s, float32 [{batch}, {', '.join(map(str, model.shape))}], RGB of 0 to 1"


def made(shape: tuple[int, ...], images: int = IMAGES) -> Tensor:
    """So many smooth images with noise, float32 of 0 to 1, always the same; or clips that begin with each and move
    on."""
    size, generator = shape[-1], torch.Generator().manual_seed(0)
    coarse = torch.rand(images, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    images = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
    if len(shape) == 3:
        return images
    return torch.stack([images.roll((t, 2 * t), (2, 3)) for t in range(shape[0])], 1)


@torch.no_grad()
def compared(model: Classifier, answer: Callable[[Tensor], Tensor], x: Tensor, fixed: int | None) -> tuple:
    """The greatest differences, of logits and of probabilities, and the largest logit; in calls of several sizes, or of
    the one size that is taken, the last of them filled up."""
    if fixed is not None:
        x = x[torch.arange(len(x) + -len(x) % fixed) % len(x)]
        sizes = [fixed] * (len(x) // fixed)
    else:
        sizes = [size for size in BATCHES if sum(BATCHES[: BATCHES.index(size) + 1]) <= len(x)]
        sizes += [len(x) - sum(sizes)] * (len(x) > sum(sizes))
    found = (0.0, 0.0, 0.0)
    for part in x.split(sizes):
        found = greatest(found, model, model(part), answer(part))
    return found


def greatest(found: tuple[float, float, float], model: Any, own: Tensor, other: Tensor) -> tuple[float, float, float]:
    """The greatest differences so far, and those of a call: of logits, of probabilities; and the largest logit. NaN of
    another shape."""
    if own.shape != other.shape:
        return float("nan"), float("nan"), 0.0
    likely = (model.probabilities(own) - model.probabilities(other)).abs()
    return tuple(map(_greatest, found, ((own - other).abs(), likely, own.abs())))


def _greatest(value: float, others: Tensor) -> float:
    """NaN if there is one among them."""
    return torch.cat([torch.tensor([value]), others.flatten()]).max().item()


def check(
    greatest: tuple[float, float, float], what: str, tolerance: float = TOLERANCE, relative: float = RELATIVE
) -> None:
    """Raises ValueError where the differences are too large."""
    logits, probabilities, largest = greatest
    allowed = max(TOLERANCE, relative * largest)
    if not (logits <= allowed and probabilities <= tolerance):
        raise ValueError(
            f"{what} it answers otherwise than the model itself: logits differ by {logits:.1e} and probabilities by "
            f"{probabilities:.1e}, and {allowed:.1e} and {tolerance:.0e} may be; nothing was written"
        )


# --- formats ----------------------------------------------------------------------------------------------------------
def described(model: Classifier) -> dict[str, str]:
    """What an exported program says of itself."""
    about = model.about
    known = {name: json.dumps(getattr(about, name)) for name in ("classes", "mean", "std", "size", "resize", "several")}
    return {
        "input": f"{wanted(model)}; the normalisation by mean and std is inside",
        "output": f"logits, float32 {model.output()}",
        "model": about.model,
        "interpolation": about.interpolation,
        **known,
        "gpuaug": about.dumped()["gpuaug"],
    }


def followed(
    model: Saved, arguments: tuple, keywords: dict[str, Tensor], dynamic: dict[str, Any] | None
) -> torch.export.ExportedProgram:
    """What torch.export makes of a call. Raises ValueError for a model that it cannot follow."""
    try:
        return torch.export.export(model, arguments, keywords, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # whatever torch meets in a model of the user's
        reason = str(error).strip().splitlines()
        hint = "; if it is the batch's size that it cannot do without, say --no-dynamic-batch" * (dynamic is not None)
        raise ValueError(
            f"{model.about.model}: torch.export cannot follow it ({type(error).__name__}: "
            f"{shown(reason[0] if reason else '')}){hint}"
        ) from error


def _program(model: Classifier, fixed: int | None) -> torch.export.ExportedProgram:
    x = torch.rand(fixed or 2, *model.shape)
    return followed(model, (x,), {}, None if fixed else {"images": {0: torch.export.Dim("batch", min=1)}})


def saved(program: torch.export.ExportedProgram, said: dict[str, str]) -> bytes:
    """A program as a file; ``said``: of itself."""
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=said)
    return content.getvalue()


def as_onnx(model: Saved, program: torch.export.ExportedProgram, inputs: list[str], said: dict[str, str]) -> bytes:
    """A program as an ONNX file. Raises ValueError where ONNX cannot say it, or one file cannot hold it."""
    import onnx

    names = {"input_names": inputs, "output_names": ["logits"]}
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET, **names).model_proto
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(f"{model.about.model}: ONNX cannot say it ({shown(str(error).splitlines()[0])})") from error
    if exporting_int8.rounds(model.about):
        exporting_int8.whole_biases(made)
    onnx.helper.set_model_props(made, said)
    if made.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        raise ValueError(f"{model.about.model}: larger than the 2 GB of one ONNX file; take torch-export")
    return made.SerializeToString()


def _make_program(model: Classifier, fixed: int | None) -> bytes:
    return saved(_program(model, fixed), described(model))


def _make_onnx(model: Classifier, fixed: int | None) -> bytes:
    return as_onnx(model, _program(model, fixed), ["images"], described(model))


def _make_weights(model: Classifier, fixed: int | None) -> bytes:
    state = {name: value.clone().contiguous() for name, value in model.model.state_dict().items()}
    return safetensors(state, described(model) | model.about.dumped())


def _read_program(content: bytes, model: Classifier) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(content)).module()


def _read_onnx(content: bytes, model: Classifier) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


def _read_weights(content: bytes, model: Classifier) -> Callable[[Tensor], Tensor]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.safetensors"
        path.write_bytes(content)
        return ga.load(path, model=copy.deepcopy(model.model) if model.in_python else None, device="cpu")


MAKERS = {"torch-export": _make_program, "onnx": _make_onnx, "safetensors": _make_weights}
READERS = {"torch-export": _read_program, "onnx": _read_onnx, "safetensors": _read_weights}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters print, warn of and log."""
    with hushed(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
