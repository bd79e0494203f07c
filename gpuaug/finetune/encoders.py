"""Models of texts: the small one of :mod:`gpuaug.text`, and encoders of Hugging Face's; each with its tokenizer."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpuaug.text import TextClassifier
from gpuaug.text.tokenizer import ROLES, Tokenizer

from . import models
from .screen import hushed

SMALL, HUB = "subwords", "hf:"
LONGEST = 512  # tokens of a text, where nothing is said
NEEDS = "it needs the package transformers, which is not installed: pip install 'gpuaug[hf]'"


class Encoder(nn.Module):
    """An encoder, the mean of its last hidden states over a text's tokens, and a linear classifier.

    Args:
        encoder: of Hugging Face's: called with input_ids and attention_mask it gives ``last_hidden_state`` [B, T, D].
        classes: how many. dropout: in front of the classifier.
    """

    pretrained_cfg = {"classifier": "head"}  # as timm's models say it

    def __init__(self, encoder: nn.Module, classes: int, dropout: float = 0.0):
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters are a layer, as timm's models say it: those of the encoder's longest list of blocks."""
        lists = [(len(m), name) for name, m in self.named_modules() if isinstance(m, nn.ModuleList)]
        blocks = re.escape(max(lists)[1]) if lists else "no blocks"
        return {"stem": r"^encoder\..*embeddings", "blocks": rf"^{blocks}\.(\d+)"}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, K] of tokens int64 [B, T] and their mask."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return self.head(self.dropout(mean))


def known(name: str) -> bool:
    """Whether :func:`build` makes a model of this name."""
    return name == SMALL or name.startswith(HUB)


def check(name: str) -> None:
    """Raises ValueError for a name that :func:`build` does not know, and for a folder that is not there."""
    if not known(name):
        raise ValueError(
            f"there is no model of texts {name!r}: {SMALL}, the small one, or {HUB}NAME_OR_FOLDER, an encoder of "
            "Hugging Face's"
        )
    place = name.removeprefix(HUB)
    if name != SMALL and place.startswith((".", "/", "~")) and not (Path(place).expanduser() / "config.json").is_file():
        raise ValueError(f"model {name}: no folder with a config.json in it")


# --- Hugging Face's ---------------------------------------------------------------------------------------------------
def library() -> Any:
    """transformers. Raises ValueError where it is not installed."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ValueError(f"model {HUB}: {NEEDS}") from None
    return transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and words, and the warnings of what it imports."""
    told = library().utils.logging
    level, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity(logging.CRITICAL)
    told.disable_progress_bar()
    try:
        with hushed():
            yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()


def fetched(name: str, get: Callable[..., Any], what: str) -> Any:
    """What ``get`` makes of a name on the hub, or of a folder, which is asked for without a network. Raises ValueError
    in one line for whatever goes wrong."""
    check(name)
    place = Path(name.removeprefix(HUB)).expanduser()
    local = place.is_dir()
    try:
        with quiet():
            return get(str(place) if local else name.removeprefix(HUB), local_files_only=local)
    except Exception as error:  # whatever the library and the files in the folder come to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {name}: {what} cannot be had ({reason})") from error


def tokenizer_of(name: str) -> tuple[Tokenizer, int]:
    """(the tokenizer of ``hf:NAME_OR_FOLDER``, the tokens that a text may have at most)."""
    found = fetched(name, library().AutoTokenizer.from_pretrained, "its tokenizer")
    if getattr(found, "backend_tokenizer", None) is None:
        raise ValueError(f"model {name}: its tokenizer is not of the library tokenizers, there is no tokenizer.json")
    names = {role: getattr(found, f"{role}_token", None) for role in ROLES}
    if names["pad"] is None:
        raise ValueError(f"model {name}: its tokenizer has no token to pad with; encoders, as BERT is one, have")
    longest = min(found.model_max_length, config_of(name).get("max_position_embeddings") or LONGEST)
    return Tokenizer(found.backend_tokenizer, {role: one for role, one in names.items() if one}), longest


def config_of(name: str) -> dict[str, Any]:
    """What an encoder says of its shape, as plain JSON."""
    return fetched(name, library().AutoConfig.from_pretrained, "its config.json").to_dict()


def encoder_of(name: str) -> nn.Module:
    """The encoder of ``hf:NAME_OR_FOLDER`` with its weights, in float32."""
    return whole(fetched(name, library().AutoModel.from_pretrained, "its weights").float())


def shaped(config: dict[str, Any]) -> nn.Module:
    """An encoder of the shape that :func:`config_of` has told, with random weights."""
    transformers = library()
    facts = {key: value for key, value in config.items() if key != "model_type"}
    with quiet():
        made = transformers.AutoConfig.for_model(config["model_type"], **facts)
        return whole(transformers.AutoModel.from_config(made).float())


def whole(encoder: nn.Module) -> nn.Module:
    """An encoder without the pooler, which is not used here: its weights would have no gradient. Raises ValueError for
    a model with a decoder."""
    if getattr(encoder.config, "is_encoder_decoder", False):
        raise ValueError(f"{type(encoder).__name__}: it has a decoder; give an encoder, as BERT is one")
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


# --- build ------------------------------------------------------------------------------------------------------------
def build(
    name: str,
    classes: tuple[str, ...],
    tokenizer: Tokenizer,
    weights: str | None = None,
    *,
    dropout: float = 0.0,
    config: dict[str, Any] | None = None,
) -> tuple[nn.Module, str]:
    """(model, one sentence on where its weights come from).

    ``weights``: the file of a run; None: an encoder's own, or of the small model random ones. ``config``: the encoder's
    shape, where its own files are not to be asked.
    Raises ValueError for a name that there is not, and for weights that are not this model's.
    """
    if config is None:
        check(name)
    if name == SMALL:
        if weights == models.PRETRAINED:
            raise ValueError(f"model {SMALL} has no published weights; leave weights out, or give {HUB}NAME_OR_FOLDER")
        if dropout:
            raise ValueError(f"model {SMALL} has no dropout; leave dropout out")
        model = TextClassifier(tokenizer.get_vocab(), len(classes), special=tokenizer.all_special_ids)
        return model, "random weights" if weights is None else models.fill(model, Path(weights), name, classes)
    if config is not None or weights not in (None, models.PRETRAINED):
        model = Encoder(shaped(config or config_of(name)), len(classes), dropout)
        return model, "" if weights is None else models.fill(model, Path(weights), name, classes)
    return Encoder(encoder_of(name), len(classes), dropout), f"weights of {name.removeprefix(HUB)}, {models.NEW}"


@torch.no_grad()
def check_logits(model: nn.Module, name: str, classes: int, tokens: int, device: torch.device) -> None:
    """Raises ValueError for a model that does not make logits [2, K] of two texts of so many tokens."""
    training = model.training
    model.eval()
    try:
        ids = torch.zeros(2, tokens, dtype=torch.int64, device=device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # whatever a model raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {name}: it takes no texts of {tokens} tokens ({reason}); give max_tokens") from error
    finally:
        model.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model {name}: it must make logits [2, {classes}] of 2 texts, and makes {got}")
