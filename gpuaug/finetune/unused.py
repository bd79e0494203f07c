"""Options that would change nothing beside others: they are refused, in one form of words, where they were given."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .config import Config
from .recipes import Recipe


@dataclass(frozen=True)
class Asked:
    """What a run was told.

    Attributes:
        python: names of what was given in Python beside the config: parts, model, augment, loss, metrics.
        validated: whether there is a validation part. task: the name of what is learned.
        learned: whether the model comes with weights.
    """

    config: Config
    python: Collection[str]
    recipe: Recipe
    validated: bool = True
    task: str = "classify"
    learned: bool = True


class Rule(NamedTuple):
    """``option`` has no effect ``beside`` something, for a reason where it is not plain, ``where`` this holds."""

    option: str
    beside: str
    why: str
    where: Callable[[Asked], bool]


def _python(name: str) -> Callable[[Asked], bool]:
    return lambda asked: name in asked.python


def _option(name: str, value: Any) -> Callable[[Asked], bool]:
    return lambda asked: getattr(asked.config, name) == value


def _task(name: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.task == name


def _recipe(asked: Asked) -> bool:
    return asked.recipe.name == "probe"


def _no_probe(asked: Asked) -> bool:
    return not _recipe(asked)


PROBE, FROZEN = "recipe=probe", "freeze=backbone"
DETECT, SEGMENT, TEXT, VIDEO = "task=detect", "task=segment", "task=text", "task=video"
OTHERS, OF_CLASSIFY = ("detect", "segment", "text", "video"), "it is of classify"
ADAPTED = "all but the adapters and the classifier stays as it was"
DISTILLED = ("distill_temperature", "distill_weight", "distill_features")
HEADLESS = ("segment", "detect", "video")  # their classifier has no dropout in front of it
OF_ONE = {"decoder": "segment", "masks": "segment", "copy_paste": "segment", "detector": "detect"}
OF_IMAGES = (
    "tta", "mixup", "cutmix", "copy_paste", "size", "resize", "mean", "std", "channels_last", "drop_path", "masks",
    "decoder", "detector", "resident", "cache", "workers", "max_bad", "frozen_bn",
)  # fmt: skip
OF_TEXT = ("text_column", "label_column", "max_tokens", "vocab_size")
TAKEN = ("frames", "stride", "clips_per_video")  # of clips
OF_CLIPS = (*TAKEN, "pooling")


def _other(name: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.task != name


def _motion(asked: Asked) -> bool:
    return asked.task == "video" and asked.config.data == "motion" and "parts" not in asked.python


def _of_clips(asked: Asked) -> bool:
    return str(asked.config.model).startswith("torchvision:")


ONCE = "features are computed once, of images as they are"
HEAD = "it trains the classifier alone"
backbone = _option("freeze", "backbone")

RULES = (
    # what is given in Python takes the place of options
    Rule("data", "parts=", "", _python("parts")),
    Rule("val_fraction", "parts=", "", _python("parts")),
    Rule("masks", "parts=", "their masks are classes", _python("parts")),
    Rule("model", "model=", "", _python("model")),
    Rule("weights", "model=", "", _python("model")),
    Rule("decoder", "model=", "", _python("model")),
    Rule("dropout", "model=", "", _python("model")),
    Rule("drop_path", "model=", "", _python("model")),
    Rule("augment", "augment=", "", _python("augment")),
    Rule("label_smoothing", "loss=", "", _python("loss")),
    Rule("balance=weights", "loss=", "", _python("loss")),
    # the task
    Rule("metrics=", SEGMENT, "its own are iou, dice and loss", _task("segment")),
    Rule("tta", SEGMENT, "its windows overlap instead", _task("segment")),
    *(Rule(option, f"task={task}", "", _task(task)) for task in HEADLESS for option in ("dropout", "drop_path")),
    *(
        Rule(option, f"task={task}", f"it is of {of}", _task(task))
        for option, of in OF_ONE.items() for task in ("classify", "detect", "segment", "video") if task != of
    ),
    Rule("detector", "model=", "", _python("model")),
    Rule("metrics=", DETECT, "its own are map, map50 and loss", _task("detect")),
    Rule("tta", DETECT, "", _task("detect")),
    Rule("label_smoothing", DETECT, "a detector has losses of its own", _task("detect")),
    *(Rule(option, TEXT, "it is of images", _task("text")) for option in OF_IMAGES),
    *(Rule(option, "another task than text", "", _other("text")) for option in OF_TEXT),
    *(Rule(option, "parts=", "", _python("parts")) for option in OF_TEXT[:2]),
    Rule("tta", VIDEO, "a mirror may make another class of a clip", _task("video")),
    Rule("cache", VIDEO, "clips are kept in memory, or decoded for each epoch anew", _task("video")),
    *(Rule(option, "another task than video", "", _other("video")) for option in OF_CLIPS),
    *(Rule(option, "parts=", "", lambda a: a.task == "video" and "parts" in a.python) for option in TAKEN),
    *(Rule(option, "data=motion", "its clips have as many frames as are asked for", _motion) for option in TAKEN[1:]),
    Rule("pooling", "model=", "", _python("model")),
    Rule("pooling", "a model of clips", "it is for networks of images", _of_clips),
    # recipe probe
    Rule("augment", PROBE, ONCE, _recipe),
    Rule("augment=", PROBE, ONCE, _recipe),
    Rule("mixup", PROBE, ONCE, _recipe),
    Rule("cutmix", PROBE, ONCE, _recipe),
    Rule("freeze", PROBE, HEAD, _recipe),
    Rule("head_epochs", PROBE, HEAD, _recipe),
    Rule("layer_decay", PROBE, HEAD, _recipe),
    Rule("frozen_bn", PROBE, HEAD, _recipe),
    Rule("dropout", PROBE, HEAD, _recipe),
    Rule("drop_path", PROBE, HEAD, _recipe),
    Rule("feature_augment", "another task than classify", "", _other("classify")),
    Rule("feature_augment", "another recipe than probe", "of it features are computed once", _no_probe),
    # who learns
    Rule("layer_decay", FROZEN, "only the classifier learns", backbone),
    Rule("head_epochs", FROZEN, "only the classifier learns", backbone),
    Rule("frozen_bn", FROZEN, "its batch norms keep their statistics", backbone),
    # adapters
    *(Rule("lora", f"task={task}", "it is of classify and text", _task(task)) for task in HEADLESS),
    Rule("lora", PROBE, HEAD, _recipe),
    Rule("lora", "random weights", "there is nothing to adapt, give weights", lambda asked: not asked.learned),
    Rule("freeze", "lora", ADAPTED, lambda asked: asked.config.lora is not None),
    Rule("frozen_bn", "lora", ADAPTED, lambda asked: asked.config.lora is not None),
    *(Rule(option, "no lora", "", _option("lora", None)) for option in ("lora_alpha", "lora_layers")),
    # who teaches
    *(Rule("teacher", f"task={task}", OF_CLASSIFY, _task(task)) for task in OTHERS),
    Rule("teacher", PROBE, ONCE, _recipe),
    *(Rule(option, "no teacher", "", lambda asked: not asked.config.teacher) for option in DISTILLED),
    # averages
    Rule("swa", "ema", "one average is kept", lambda asked: asked.config.ema > 0),
    *(Rule("swa", f"task={task}", OF_CLASSIFY, _task(task)) for task in OTHERS),
    # how long, and how fast
    Rule(
        "warmup_epochs", "schedule=onecycle", "it has a warm-up of its own",
        lambda asked: asked.recipe.schedule == "onecycle",
    ),
    Rule(
        "plateau_patience", "another schedule than plateau", "", lambda asked: asked.recipe.schedule != "plateau"
    ),
    Rule(
        "patience", "as many epochs or fewer", "",
        lambda asked: (asked.config.patience or 0) >= asked.recipe.epochs,
    ),
    # validation
    Rule("best", "no validation part", "the last weights are kept", lambda asked: not asked.validated),
    # checkpoints
    Rule("keep_done", "keep=0", "", _option("keep", 0)),
)  # fmt: skip


def check(asked: Asked) -> None:
    """Raises ValueError for the first of RULES that holds of an option that was given."""
    for option, beside, why, where in RULES:
        if was_given(option, asked) and where(asked):
            refuse(option, beside, why)


def check_model(config: Config, model: nn.Module, name: str) -> None:
    """As :func:`check`, of what the model is."""
    if config.frozen_bn and not any(isinstance(module, _BatchNorm) for module in model.modules()):
        refuse("frozen_bn", f"model {name}", "it has no batch norm")


def check_feeds(config: Config, in_memory: bool) -> None:
    """As :func:`check`, of how images are fed: whether all lie in memory."""
    if config.cache is not None and in_memory:
        refuse("cache", "resident images", "they are decoded once; resident=False streams them")


def check_steps(config: Config, steps: int) -> None:
    """As :func:`check`, of the steps of an epoch."""
    if steps and config.checkpoint_steps >= steps:
        refuse("checkpoint_steps", f"{steps} steps an epoch", "a checkpoint is written after each epoch")


def refuse(option: str, beside: str, why: str = "") -> None:
    """Raises ValueError, in the form of words of this module."""
    raise ValueError(f"{option} has no effect with {beside}{f' ({why})' if why else ''}: leave it out")


def was_given(option: str, asked: Asked) -> bool:
    """Whether an option differs from its default, and from what means "none"; "name=value": whether it has this value;
    "name=": whether it was given in Python."""
    name, equals, value = option.partition("=")
    if equals and not value:
        return name in asked.python
    given = getattr(asked.config, name)
    if value:
        return given == value
    return given != DEFAULTS[name] and not (name in NOTHING and given == NOTHING[name])


DEFAULTS = {field.name: field.default for field in fields(Config)}
NOTHING = {
    "augment": "none", "mixup": 0, "cutmix": 0, "copy_paste": 0, "label_smoothing": 0, "warmup_epochs": 0,
    "head_epochs": 0, "layer_decay": 1, "val_fraction": 0,
}  # fmt: skip
