"""Low-rank adapters (LoRA; Hu et al., 2021, arXiv 2106.09685) of a run's model, by peft.

The output of an adapted linear layer is W x + (alpha / rank) B A x: its weights W [out, in] stay, A [rank, in] and
B [out, rank] learn, and B begins at zero. What a run keeps as its weights is W + (alpha / rank) B A, an ordinary model.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as safetensors
from torch import Tensor, nn

from . import models, runs, unused
from .config import Config
from .screen import hushed

if TYPE_CHECKING:
    from peft import LoraModel

ALPHA = 2  # times the rank, where nothing is said
NAME, SAVED = "default", "base_model.model."  # peft's own: of the adapters, and before names in its files
READ_PAST = (nn.MultiheadAttention, nn.TransformerEncoderLayer)  # their layers' weights are read, in eval mode at least
ATTENTION = re.compile(r"(?!.*Block).*atte?n", re.IGNORECASE)  # in a module's class: Attention, BertSelfAttention


def check(config: Config) -> None:
    """Raises ValueError where adapters are asked for and the package that makes them is not there."""
    if config.lora is not None and importlib.util.find_spec("peft") is None:
        raise ValueError("lora needs the package peft: pip install 'gpuaug[lora]'")


class Adapters:
    """The adapters in a model, until :meth:`remove`.

    Attributes:
        model: what they are in. layers: names of the adapted linear layers. never: names of the parameters that do not
            learn, all but those of the adapters and of the classifier. words: what was decided.
    """

    def __init__(self, model: nn.Module, layers: list[str], config: Config, words: list[str]):
        with hushed():
            from peft import LoraConfig, LoraModel
        self.model, self.layers = model, layers
        targets = "|".join(map(re.escape, layers))
        alpha = config.lora_alpha or ALPHA * config.lora
        self.config = LoraConfig(r=config.lora, lora_alpha=alpha, target_modules=targets, bias="none")
        with hushed(), torch.random.fork_rng([]):
            torch.manual_seed(config.seed)  # a run that goes on from its beginning draws the same ones
            self.tuner: LoraModel | None = LoraModel(model, self.config, NAME)
        head, learns, every = models.head_prefixes(model), 0, 0
        self.never = set()
        for name, parameter in model.named_parameters():
            every += parameter.numel()
            if is_adapters(name) or name.startswith(head):
                learns += parameter.numel()
            else:
                self.never.add(name)
        self.words = [
            f"lora: rank {config.lora}, alpha {alpha:g}, in {len(layers)} linear layers; {learns:,} of {every:,} "
            f"parameters learn ({learns / every:.1%}), the adapters' and the classifier's",
            *words,
        ]

    def plain(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state of the model with adapters, as one of the model without: its own weights, under its own names."""
        ours = {f"{name}.base_layer": name for name in self.layers}
        found = {}
        for name, value in state.items():
            place, dot, last = name.rpartition(".")
            if not is_adapters(name):
                found[f"{ours.get(place, place)}{dot}{last}"] = value
        return found

    @torch.no_grad()
    def merged(self, model: nn.Module) -> dict[str, Tensor]:
        """The state of an ordinary model that answers as ``model`` does, the one with these adapters or an average of
        it."""
        state = self.plain(model.state_dict())
        for name in self.layers:
            state[f"{name}.weight"] = state[f"{name}.weight"] + model.get_submodule(name).get_delta_weight(NAME)
        return state

    def write(self, run: Path, model: nn.Module) -> None:
        """The adapters and the classifier of ``model`` alone, into a folder of a run's that peft reads:
        ``PeftModel.from_pretrained(model, folder)``."""
        from peft import get_peft_model_state_dict

        head = models.head_prefixes(model)
        state = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
        state |= {name: value for name, value in model.state_dict().items() if name.startswith(head)}
        state = {f"{SAVED}{name}": value.detach().cpu().contiguous().clone() for name, value in state.items()}
        heads = [name.removesuffix(".") for name in head]
        told = self.config.to_dict() | {"modules_to_save": heads, "inference_mode": True}
        told = {key: sorted(value) if isinstance(value, set) else value for key, value in told.items()}
        runs.write(run / runs.LORA / "adapter_config.json", json.dumps(told, indent=2, default=str).encode())
        runs.write(run / runs.LORA / "adapter_model.safetensors", safetensors(state, {"format": "pt"}))

    def remove(self) -> None:
        """Give the model its own layers again, as they were before the run."""
        if self.tuner is not None:
            self.tuner.unload()
            vars(self.model).pop("peft_config", None)
            self.model.requires_grad_(True)
        self.tuner = None


def words(adapters: Adapters | None) -> list[str]:
    """What was decided, for the screen and the page."""
    return adapters.words if adapters else []


def is_adapters(name: str) -> bool:
    """Whether a parameter of this name is one of an adapter."""
    return ".lora_" in name


def adapted(config: Config, model: nn.Module, name: str, forward: Callable[[], Any]) -> Adapters | None:
    """Put adapters into a model, called ``name``, where they are asked for. ``forward`` calls the model once.

    Raises ValueError for a model without layers to adapt, and for a rank that makes nothing smaller.
    """
    if config.lora is None:
        return None
    every = linear_layers(model)
    layers = called(model, every, forward)
    past = [one for one in every if one not in layers]
    if config.lora_layers == "attention":
        layers = {one: module for one, module in layers.items() if in_attention(model, one)}
    if not layers:
        what = "attention" if config.lora_layers == "attention" and every else "linear layer but its classifier"
        why = f"it has no {what}" if not past else f"it calls none of them, as {past[0]}, whose weights it reads"
        unused.refuse("lora", f"model {name}", f"adapters are of linear layers, and {why}")
    shapes = [module.weight.shape for module in layers.values()]
    most = sum(a * b for a, b in shapes) // sum(a + b for a, b in shapes)
    if config.lora > most:
        raise ValueError(
            f"lora={config.lora}: adapters of this rank have more parameters than the {len(layers)} layers of {name} "
            f"that they are for; give at most {most}, or leave it out"
        )
    kinds = sorted({one.rpartition(".")[2] for one in past})
    words = [f"lora: not in {', '.join(kinds)}, whose weights {name} reads past the layer"] if past else []
    return Adapters(model, list(layers), config, words)


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """All linear layers outside of the classifier, by name."""
    head = models.head_prefixes(model)
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {name: module for name, module in found.items() if not f"{name}.".startswith(head)}


def called(model: nn.Module, layers: dict[str, nn.Linear], forward: Callable[[], Any]) -> dict[str, nn.Linear]:
    """Those that ``forward`` calls. Of others only the weights are read, and an adapter in them would do nothing."""
    found: set[str] = set()
    hooks = [module.register_forward_hook(lambda *_, name=name: found.add(name)) for name, module in layers.items()]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    found -= {name for name in found if any(isinstance(one, READ_PAST) for one in around(model, name))}
    return {name: module for name, module in layers.items() if name in found}


def in_attention(model: nn.Module, name: str) -> bool:
    """Whether a layer lies within a module whose class is called attention."""
    return any(ATTENTION.match(type(module).__name__) for module in around(model, name))


def around(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules that a layer lies in, the model itself left out."""
    parts = name.split(".")
    return [model.get_submodule(".".join(parts[:i])) for i in range(1, len(parts))]
