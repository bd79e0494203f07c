"""The model to be fine-tuned: CIFAR's ResNet-20, any of timm's, or one's own; its classifier, its weights."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import gpuaug as ga

from . import shapes
from .config import Config

NEW = "new classifier"
FITS = 0.9  # of a backbone's tensors that a file has to have
PRETRAINED = "pretrained"
SMALL, PUBLISHED = (
    "resnet20",
    "tf_efficientnet_lite0",
)  # when no model is asked for, without and with pretrained weights
LARGER, LARGE = 64, 48  # the resnet20's input, of images whose shorter side has so many pixels or more


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut has no weights: every ``stride``-th pixel, new channels zero (option A)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.new = stride, (c_out - c_in) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.new or self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new, self.new))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """The 0.27 M parameter network for 32x32 images of He et al., 2015, section 4.2; input float [B, 3, H, W]."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (c_in, c_out) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            blocks = [
                BasicBlock(c_in, c_out, 2 if stage > 1 else 1),
                BasicBlock(c_out, c_out, 1),
                BasicBlock(c_out, c_out, 1),
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(m.weight)

    def group_matcher(self, coarse: bool = False) -> dict:
        """Which parameters are a layer, as timm's models say it."""
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    feature_info = [{"num_chs": 16 << i, "reduction": 1 << i, "module": f"layer{i + 1}"} for i in range(3)]

    def forward_intermediates(self, x: torch.Tensor, indices: Sequence[int], **_: bool) -> list[torch.Tensor]:
        """The feature maps behind the stages of these numbers, as timm's models give theirs."""
        x, found = F.relu(self.bn1(self.conv1(x))), []
        for stage in (self.layer1, self.layer2, self.layer3):
            found.append(x := stage(x))
        return [found[i] for i in indices]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (x,) = self.forward_intermediates(x, [2])
        return self.linear(x.mean((2, 3)))


@dataclass(frozen=True)
class ModelCard:
    """What the data has to know about a model.

    Attributes:
        size: its input's side in pixels. mean, std: with which it was trained, 0 to 1.
        crop: of the shorter side, the share that the central crop keeps.
        interpolation: of the resize in front of it.
    """

    size: int
    mean: tuple[float, ...] = ga.IMAGENET_MEAN
    std: tuple[float, ...] = ga.IMAGENET_STD
    crop: float = 0.875
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, published) -> ModelCard:
        """Of timm's ``pretrained_cfg``, a dict or an object; of None, ImageNet's usual."""
        if published is None:
            return cls(size=224)
        get = published.get if isinstance(published, dict) else functools.partial(getattr, published)
        mean, std = tuple(get("mean")), tuple(get("std"))
        filter = get("interpolation") if get("interpolation") in ("bilinear", "bicubic") else "bilinear"
        return cls(get("input_size")[-1], mean, std, get("crop_pct") or 0.875, filter)


def chosen(config: Config, given: int | None, side: int | None) -> tuple[Config, list[str]]:
    """(``config`` with a model, and with a size where the data or a run's weights say it; what was decided, in words).

    ``given``: side in pixels of the parts that were given, if they have one. ``side``: the shorter one of the images.
    Raises ValueError for a weights file that is none.
    """
    config, told = of_weights(config, given)
    if config.model is None:
        published = config.weights == PRETRAINED
        config = replace(config, model=PUBLISHED if published else SMALL)
        why = "small; --model takes another"
        if published:
            why = "small, and timm publishes weights for it"
        elif config.weights is not None:
            why = f"{Path(config.weights).name} does not say its own; --model NAME does"
        told.append(f"model {config.model}: {why}")
    if config.weights is not None or config.model != SMALL:
        return config, told
    if config.size is None and given is None and side is not None and side >= LARGE:
        config = replace(config, size=LARGER)
        told.append(f"input of {LARGER} x {LARGER}: images of {side} pixels, and more would be slow without a GPU")
    told.append(
        "weights that begin at random want many images; with few, pretrained ones do better: --weights pretrained (a "
        "download), or --model NAME --weights FILE.safetensors"
    )
    return config, told


def fill_around(
    model: nn.Module, inner: nn.Module, path: Path, name: str, heads: str | tuple[str, ...], called: str
) -> str:
    """Take the weights of a file of the whole model, but for what begins with ``heads`` where that is of other classes;
    or those of a classifier, of which ``inner``, one of timm's, is the backbone. Returns in words where they come from.

    Args:
        name: of ``inner``. called: what it is to the model.

    Raises:
        ValueError: no such file; less than nine tenths of the backbone's tensors in it.
    """
    from safetensors.torch import load_file

    check_floats(path, said(path))
    state, own = load_file(path), model.state_dict()
    if state.keys() == own.keys():
        others = {key for key, value in state.items() if value.shape != own[key].shape}
        if all(key.startswith(heads) for key in others):
            model.load_state_dict(state | {key: own[key] for key in others})
            return f"weights of {path.name}" + (f", {NEW}" if others else "")
    own = {key: value for key, value in inner.state_dict().items() if not key.endswith("num_batches_tracked")}
    fits = {key: state[key] for key, value in own.items() if key in state and state[key].shape == value.shape}
    if len(fits) < FITS * len(own):
        lacking = [key for key in own if key not in fits]
        raise ValueError(
            f"{path}: not the weights of {name}: {len(lacking)} of {len(own)} tensors of the {called} are missing or "
            f"of another shape: {', '.join(lacking[:4])}, ..."
        )
    inner.load_state_dict(fits, strict=False)
    return f"weights of {path.name} in the {called}, {NEW}"


def layout(device: torch.device, model: nn.Module | None = None) -> torch.memory_format:
    """In which convolutions are fastest; as they are for a ``model`` of volumes, which has no such layout."""
    if model is not None and any(parameter.ndim == 5 for parameter in model.parameters()):
        return torch.preserve_format
    return torch.channels_last if device.type in ("cuda", "cpu") else torch.preserve_format


def of_weights(config: Config, given: int | None) -> tuple[Config, list[str]]:
    """The part of :func:`chosen` that hangs on no images: (``config`` with the model and the size that a run's weights
    file says, where none were asked for; in words what was decided)."""
    about = {}
    if config.model is None and config.weights not in (None, PRETRAINED):
        about = said(Path(config.weights))
    if "model" not in about:
        return config, []
    size = about.get("size") if config.size is None and given is None else config.size
    return replace(config, model=about["model"], size=size), [f"model {about['model']}: that of the weights"]


def known(name: str) -> bool:
    """Whether :func:`build` makes a model of this name: resnet20, module:function, or one of timm's."""
    import timm

    return name == "resnet20" or ":" in name or timm.is_model(name.split(".")[0])


def card(name: str) -> ModelCard:
    """The :class:`ModelCard` of ``resnet20``, of ``module:function``, or of a timm model. Raises ValueError for any
    other name."""
    if name == "resnet20":
        return ModelCard(size=32, crop=1.0)
    if ":" in name:
        return ModelCard(size=224)
    import timm

    base = name.split(".")[0]  # timm's tags: resnet18.a1_in1k
    if not timm.is_model(base):
        close = difflib.get_close_matches(base, timm.list_models(), n=4, cutoff=0.5)
        raise ValueError(
            f"there is no model {name!r}: resnet20 or one of timm's" + f" ({', '.join(close)}, ...)" * bool(close)
        )
    try:
        return ModelCard.of(timm.get_pretrained_cfg(name))
    except RuntimeError:  # the tag
        tagged = timm.list_pretrained(f"{base}.*")
        close = difflib.get_close_matches(name, tagged, n=4, cutoff=0.5) or tagged[:4]
        raise ValueError(
            f"there is no model {name!r}: {', '.join(close or [base])}; {base} alone takes timm's usual one"
        ) from None


def build(
    name: str,
    num_classes: int,
    weights: str | None = None,
    size: int | None = None,
    *,
    classes: Sequence[str] | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> tuple[nn.Module, str]:
    """(model, one sentence on where its weights come from).

    ``weights``: a safetensors file, ``"pretrained"`` for timm's own, None for random ones. Behind timm's own the
    classifier is new, whatever it was for; a file's is kept where it is for as many classes. A file of a run says for
    which: those in another order than ``classes`` are brought into it, and for others the classifier is new. A new one
    begins at zero (Kolesnikov et al., arXiv 1912.11370).
    ``size``: input side, for models that are built for one. ``classes``: their names.
    ``dropout``, ``drop_path``: rates, for models of timm that have such.
    Raises ValueError for an unknown name, for weights that are not this model's, and for rates that it does not take.
    """
    own = name == "resnet20" or ":" in name
    if own and weights == "pretrained":
        raise ValueError(f"{name} has no published weights here; pass --weights FILE.safetensors")
    if own and (dropout or drop_path):
        raise ValueError(f"{name} has no dropout and no stochastic depth; leave dropout and drop_path out")
    if name == "resnet20":
        model = ResNet20(num_classes)
    elif own:
        model = _called(name, num_classes)
    else:
        rates = {"drop_rate": dropout, "drop_path_rate": drop_path}
        rates = {name: rate for name, rate in rates.items() if rate}
        model = _build_timm(name, num_classes, weights == "pretrained", size, rates)
    if weights is None:
        return model, "random weights"
    if weights == "pretrained":
        _from_zero(model)
        return model, f"timm's pretrained weights, {NEW}"
    return model, fill(model, Path(weights), name, classes)


def adapt(model: nn.Module, num_classes: int) -> str:
    """Give a module of one's own a new classifier if it has one for another number of classes; one sentence on that.

    Raises ValueError where it is not clear what the classifier is.
    """
    (name, head), *others = heads(model).items()
    if not isinstance(head, nn.Linear) or others:
        return f"{type(model).__name__} as it was given"
    if head.out_features == num_classes:
        return f"{type(model).__name__} as it was given, classifier {name}"
    parent, _, last = name.rpartition(".")
    new = nn.Linear(head.in_features, num_classes, head.bias is not None).to(head.weight)
    setattr(model.get_submodule(parent), last, new)
    _from_zero(model)
    return f"{type(model).__name__} as it was given, {NEW} {name} for {num_classes} classes"


def heads(model: nn.Module) -> dict[str, nn.Module]:
    """A model's classifier: modules by name, one as a rule. timm says which; else it is the last linear layer.

    Raises ValueError for a model without one.
    """
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if names is None:
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    names = [names] if isinstance(names, str) else list(names)
    found = {name: model.get_submodule(name) for name in names}
    if not [parameter for module in found.values() for parameter in module.parameters()]:
        raise ValueError(
            f"{type(model).__name__}: it has no linear layer that could be its classifier; give one that has"
        )
    return found


def _from_zero(model: nn.Module) -> None:
    """A new classifier knows nothing: it gives every class as much."""
    for layer in _last_layers(model).values():
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def _last_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The classifier's own last layers, whose rows are classes, by name."""
    found = {}
    for name, head in heads(model).items():
        within = [(part, one) for part, one in head.named_modules() if list(one.parameters(recurse=False))]
        part, layer = within[-1]
        found[".".join(filter(None, (name, part)))] = layer
    return found


def head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """What the names of the classifier's parameters begin with."""
    return tuple(f"{name}." if name else "" for name in heads(model))


@contextlib.contextmanager
def backbone(model: nn.Module) -> Iterator[Callable[..., torch.Tensor]]:
    """What the model hands to its classifier, as a function of its input: float [B, D]; of clips maybe feature maps.

    Raises ValueError for a model with several classifiers, or one that is no linear layer.
    """
    (name, head), *others = heads(model).items()
    if others or not isinstance(head, nn.Linear | nn.Sequential):  # of clips, it may read feature maps
        raise ValueError(
            f"recipe probe wants a model with one linear classifier, and {type(model).__name__} has "
            f"{', '.join(heads(model))}; take recipe finetune with freeze=backbone"
        )
    kept = []
    hook = head.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))

    def features(*inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        model(*inputs, **named)
        return kept.pop()

    try:
        yield features
    finally:
        hook.remove()


def _called(name: str, num_classes: int) -> nn.Module:
    """``module:function`` of the user's, called."""
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)(num_classes=num_classes)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"model {name}: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"model {name}: it must return an nn.Module, got {type(made).__name__}")
    return made


def _build_timm(name: str, num_classes: int, pretrained: bool, size: int | None, rates: dict[str, float]) -> nn.Module:
    import timm

    native = card(name).size  # an unknown name ends here
    create = functools.partial(timm.create_model, name, pretrained=pretrained, num_classes=num_classes, **rates)
    try:
        if size not in (None, native):
            try:
                return create(img_size=size)
            except TypeError as error:
                if "img_size" not in str(error):
                    raise  # otherwise convolutional: any size fits
        return create()
    except TypeError as error:
        options = {"drop_rate": "dropout", "drop_path_rate": "drop_path"}
        refused = [option for rate, option in options.items() if f"'{rate}'" in str(error)]
        if not refused:
            raise
        raise ValueError(f"{name} has no {refused[0]}; leave {refused[0]} out") from None
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name}: no pretrained weights to be had from timm; pass a file ({reason})") from error


def fill(model: nn.Module, path: Path, name: str, classes: Sequence[str] | None) -> str:
    """Load a weights file into a model called ``name``; one sentence on that. See :func:`build`."""
    from safetensors.torch import load_file

    about = said(path)
    check_floats(path, about)
    reshape(model, about.get("details", {}).get(shapes.TOLD))
    state, own = load_file(path), model.state_dict()
    rows = tuple(f"{last}." if last else "" for last in _last_layers(model))
    new, words = _fit_head(state, own, rows, about.get("classes"), classes)
    wrong = sorted(
        k for k in own.keys() | state.keys() if k not in own or k not in state or own[k].shape != state[k].shape
    )
    wrong = [k for k in wrong if not k.endswith("num_batches_tracked")]
    if wrong:
        of = about.get("model", name)
        raise ValueError(
            f"{path}: not the weights of this model, {name}{f', but of {of}' if of != name else ''}; {len(wrong)} "
            f"tensors differ: {', '.join(wrong[:4])}, ...; give the model that they are of (--model)"
        )
    model.load_state_dict(state, strict=False)
    if new:
        _from_zero(model)
    return f"weights of {path.name}{words}" + ", a pruned network" * (shapes.of(model) is not None)


def reshape(model: nn.Module, told: Mapping[str, Any] | None) -> None:
    """Make a pruned network of one as it is built, whose classifier keeps its classes; see `shapes.reshape`."""
    rows = [f"{name}.{part}" for name, layer in _last_layers(model).items() for part in layer.state_dict()]
    shapes.reshape(model, told, rows)


def _fit_head(
    state: dict[str, torch.Tensor],
    own: dict[str, torch.Tensor],
    head: tuple[str, ...],
    before: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> tuple[bool, str]:
    """Bring the classifier in ``state``, which was for the classes ``before``, to ``classes``: its rows into their
    order, or ``own``'s in its place. (Whether it is new, words on that.)"""
    names = [k for k in own if k.startswith(head) and k in state]
    fits = all(state[k].shape == own[k].shape for k in names)
    if fits and (not before or not classes or list(before) == list(classes)):
        return False, ""
    if fits and sorted(before) == sorted(classes) and all(len(own[k]) == len(classes) for k in names):
        order = [list(before).index(one) for one in classes]
        state |= {k: state[k][order] for k in names}
        return False, ", its classifier brought into the order of these classes"
    state |= {k: own[k] for k in names}
    return True, f", {NEW}" + ": it was for other classes, as many" * fits


def check_floats(path: Path, about: Mapping[str, Any]) -> None:
    """Raises ValueError for a file of int8, by what :func:`said` gives of it."""
    if told := about.get("details", {}).get("int8"):
        raise ValueError(
            f"{path}: of an int8 run, whose weights are whole numbers and learn nothing; take those of {told['of']}, "
            "of which it was made"
        )


def said(path: Path) -> dict[str, Any]:
    """What a run's weights file says of itself; {} of any other. Raises ValueError for what is no such file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get("gpuaug", "{}"))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
