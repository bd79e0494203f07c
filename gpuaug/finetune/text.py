"""The task text: which class a text is of, or which classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gpuaug.data import DataError, Parts, Source
from gpuaug.text.reading import Texts, open_parts
from gpuaug.text.tokenizer import BPETokenizer, Tokenizer

from . import corrupted, encoders, feed, models, report, runs, sharing, text_robustness, text_samples
from .classify import Classify
from .config import AUTO, Config
from .feed import Features
from .predicting import Predicted, predict
from .recipes import Recipe
from .task import with_validation
from .tokens import Rows, TokenFeed, TokenInput

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .opening import Job

USUAL = "text_light"
VOCABULARY = 4000  # tokens, where nothing is said
TEST_FRACTION = 0.2  # of a data set without a test part
TOKENIZER = "tokenizer.json"  # in a run's folder


class Text(Classify):
    """Labels are int64 [B], or float [B, K] where a text may have several. What the model gets is a dict of input_ids
    and attention_mask, int64 [B, T]; or with the recipe probe, features [B, D]."""

    name = "text"
    noun = "text"

    # --- before the first epoch ---------------------------------------------------------------------------------------
    def has_weights(self, config: Config, model: nn.Module | None) -> bool:
        return super().has_weights(config, model) or (config.model or "").startswith(encoders.HUB)

    def of_weights(self, config: Config, given: Parts | None) -> tuple[Config, list[str]]:
        about = self._said(config) if config.model is None else None
        if about is None:
            return config, []
        return replace(config, model=about["model"]), [f"model {about['model']}: that of the weights"]

    def open_parts(self, config: Config) -> tuple[Parts, list[str]]:
        return opened(config)

    def chosen(self, config: Config, given: Parts | None, parts: Parts) -> tuple[Config, list[str]]:
        if config.model is not None:
            return config, []
        words = f"model {encoders.SMALL}: small; --model {encoders.HUB}NAME_OR_FOLDER takes an encoder with weights"
        return replace(config, model=encoders.SMALL), [words]

    def check_parts(self, parts: Parts, processes: int) -> None:
        if processes > 1 and sharing.asked_to_shard():
            raise ValueError("task=text does not go with FSDP: launch without --use_fsdp")
        feed.checked(parts, processes, self.noun)
        if not all(isinstance(one, str) for one in parts.train.items[:1]):
            raise ValueError("task=text: the items of parts= must be texts, strings")
        self.texts = parts.train.items

    def card(self, config: Config, model: nn.Module | None) -> tuple[Tokenizer, int]:
        """(the tokenizer, how many tokens a text may have)."""
        if config.augment == AUTO:
            raise ValueError(f"augment=auto is of classify; choose one of {', '.join(text_samples.PRESETS)}")
        name = config.model if model is None else encoders.SMALL
        known = {} if self.run is None else runs.Run(self.run).resolved
        if model is None and not known and config.weights is None:
            encoders.check(name)
        if name != encoders.SMALL and config.vocab_size is not None:
            raise ValueError(f"vocab_size: model {name} has its own vocabulary; leave it out")
        most, own = encoders.LONGEST, getattr(model, "tokenizer", None)
        if isinstance(own, Tokenizer):
            tokenizer = own
        elif self.run is not None and (self.run / TOKENIZER).is_file():
            tokenizer, most = tokenizer_in(self.run, known["details"]["special"]), known["size"]
        elif (about := self._said(config)) is not None:
            tokenizer, most = tokenizer_in(Path(config.weights).parent, about["details"]["special"]), about["size"]
        elif name != encoders.SMALL:
            tokenizer, most = encoders.tokenizer_of(name)
        else:
            tokenizer = BPETokenizer.learn(self.texts, config.vocab_size or VOCABULARY)
        if (config.max_tokens or 0) > most:
            raise ValueError(f"max_tokens={config.max_tokens}: model {name} takes {most}; lower it")
        return tokenizer, config.max_tokens or min(most, encoders.LONGEST)

    def _said(self, config: Config) -> dict[str, Any] | None:
        """What a run's weights say of themselves, if such are asked for. Raises ValueError for weights of no texts."""
        if config.weights in (None, models.PRETRAINED):
            return None
        about = models.said(Path(config.weights))
        if about.get("task") != self.name:
            raise ValueError(f"weights {config.weights}: they are not of a run of the task text")
        return about

    def input(self, config: Config, card: Any, parts: Parts | None, layout: torch.memory_format) -> TokenInput:
        tokenizer, longest = card
        return TokenInput(tokenizer, longest, {"seed": config.seed, "backend": config.backend})

    def described(self, known: dict[str, Any], name: str) -> str:
        counts = ", ".join(f"{n:,} {part}" for part, n in known["images"].items())
        return f"{name}: {counts} texts of {len(known['classes'])} classes"

    def usual(self, config: Config, parts: Parts | None) -> str:
        return USUAL

    def open_model(
        self, config: Config, model: nn.Module | None, parts: Parts, input: TokenInput
    ) -> tuple[nn.Module, str, str]:
        classes = parts.train.classes
        if model is not None:
            return model, type(model).__name__, models.adapt(model, len(classes))
        about = self._said(config) or ({} if self.run is None else runs.Run(self.run).resolved)
        known = {"dropout": config.dropout, "config": about.get("details", {}).get("encoder")}
        model, origin = encoders.build(config.model, classes, input.tokenizer, config.weights, **known)
        if config.model == encoders.SMALL and config.weights is None:
            model.count(**input.tokenizer(list(parts.train.items), max_length=input.longest))
            origin = "random weights, those of its parts by how many texts have them"
        return model, config.model, origin

    def check_model(
        self, model: nn.Module, name: str, parts: Parts, input: TokenInput, accelerator: Accelerator
    ) -> None:
        encoders.check_logits(model, name, len(parts.train.classes), input.longest, accelerator.device)

    def details(self, config: Config, model: nn.Module, parts: Parts) -> dict[str, Any]:
        encoder = model.encoder.config.to_dict() if isinstance(model, encoders.Encoder) else None
        return {"special": self.tokenizer.names, "encoder": encoder}

    def open_feeds(self, model: nn.Module, *shared: Any) -> tuple[list[TokenFeed | Features | None], list[str]]:
        config, recipe, parts, input, augment, accelerator, screen = shared
        self.tokenizer = input.tokenizer
        if recipe.name == "probe":
            return self._probed(model, *shared)
        return self._feeds(config, recipe, parts, input, augment, accelerator)

    def _feeds(
        self, config: Config, recipe: Recipe, parts: Parts, input: TokenInput, augment: Any, accelerator: Accelerator,
        shuffle: bool = True,
    ) -> tuple[list[TokenFeed | None], list[str]]:  # fmt: skip
        world = accelerator.num_processes
        train = feed.balanced(parts.train, config.seed) if config.balance == "sampling" else parts.train
        each = len(train) // world
        drops = shuffle and each > recipe.batch_size and bool(each % recipe.batch_size)
        shared = {"seed": config.seed, "rank": accelerator.process_index, "world": world}
        feeds, cut, longest = [], {}, 0
        for name, source in (("train", train), ("val", parts.val), ("test", parts.test)):
            if source is None:
                feeds.append(None)
                continue
            rows, learns = Rows(source.items, input.tokenizer, input.longest, accelerator.device), name == "train"
            order = {"shuffle": shuffle and learns, "drop_last": drops and learns}
            feeds.append(TokenFeed(source, rows, recipe.batch_size, augment if learns else None, **order, **shared))
            cut, longest = cut | {name: rows.cut}, max(longest, rows.ids.shape[1])
        told = [f"texts of up to {longest} tokens, in the device's memory"]
        if any(cut.values()):
            many = ", ".join(f"{n:,} {name}" for name, n in cut.items() if n)
            told[0] += f"; of {many} texts what is behind {input.longest} tokens is cut off"
        if len(train) > len(parts.train):
            told.append(f"{len(train):,} texts an epoch: those of small classes come several times, each drawn anew")
        if drops:
            told.append(f"a last batch of {each % recipe.batch_size} is left out each epoch, other texts each time")
        return feeds, told

    def _probed(
        self, model: nn.Module, config: Config, recipe: Recipe, parts: Parts, input: TokenInput, augment: Any,
        accelerator: Accelerator, screen: Any,
    ) -> tuple[list[Features | None], list[str]]:  # fmt: skip
        """Feeds of features, which the model makes of every text once."""
        feeds, told = self._feeds(config, recipe, parts, input, None, accelerator, shuffle=False)
        order = {"seed": config.seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
        found = []
        for name, texts in zip(("train", "val", "test"), feeds, strict=True):
            if texts is None:
                found.append(None)
                continue
            screen.say(f"features {len(texts.ids):,} {name} texts go through the model once")
            with models.backbone(model) as features:
                made = predict(model, texts, accelerator, "none", lambda x, features=features: features(**x))
            inputs = [value.to(accelerator.device) for value in (made.outputs, made.labels, made.ids)]
            found.append(Features(*inputs, recipe.batch_size, shuffle=name == "train", **order))
        numbers = found[0].x.shape[1]
        return found, [*told, f"features of {numbers} numbers, computed once and kept in memory; texts as they are"]

    def corrupted(self, config: Config, recipe: Recipe, parts: Parts) -> tuple[int, list[str]]:
        return corrupted.decided(config, recipe, parts, text_robustness.PASSES, self.noun)

    # --- an epoch, validation, test -----------------------------------------------------------------------------------
    def step(self, learner: nn.Module, x: Any, targets: Tensor, loss: Callable) -> tuple[Tensor, Tensor]:
        outputs = self.outputs_of(learner)(x)
        return outputs, loss(outputs, targets)

    def outputs_of(self, model: nn.Module) -> Callable:
        return lambda x: model(x) if isinstance(x, Tensor) else model(**x)

    def write_predictions(self, job: Job, predicted: Predicted) -> None:
        if job.main:
            report.store_texts(job.run, job.parts.test, predicted.ids, predicted.labels, predicted.outputs)

    def before(self, job: Job, run: runs.Run) -> None:
        runs.write(run.path(TOKENIZER), self.tokenizer.tokenizer.to_str(pretty=False).encode())
        if job.recipe.name != "probe":
            text_samples.write(run, job.augment, self.tokenizer, job.parts.train, job.input.longest, job.recipe.epochs)

    def measure(self, job: Job, run: runs.Run) -> None:
        n = job.facts["resolved"]["robustness"]
        if not n or run.path(runs.ROBUSTNESS).exists():
            return
        sharing.load(job.model, load_file(run.path(runs.WEIGHTS)))
        job.model.eval()

        @torch.no_grad()
        def answers(texts: list[str]) -> Tensor:
            rows, found = Rows(texts, self.tokenizer, job.input.longest, job.accelerator.device), []
            for places in np.array_split(np.arange(len(texts)), -(-len(texts) // job.recipe.batch_size)):
                with job.accelerator.autocast():
                    found.append(job.model(**rows.batch(places)[0]).float().cpu())
            return torch.cat(found)

        measured = text_robustness.measure(
            answers, job.parts.test, n, lambda passes: job.screen.counted(passes, "robustness")
        )
        if job.main:
            run.write_json(runs.ROBUSTNESS, measured)
        job.screen.say(f"robust   {corrupted.words(measured, self.noun)}")

    def after(self, job: Job, run: runs.Run) -> None:
        """The page makes a table of the worst mistakes, of predictions.npz."""


def tokenizer_in(folder: Path, names: dict[str, str] | None = None) -> Tokenizer:
    """The tokenizer that a run has left in a folder. Raises ValueError where there is none."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a run's weights need the tokenizer beside them")
    return Tokenizer.load(path, names)


def opened(config: Config) -> tuple[Parts, list[str]]:
    """The parts of ``config.data``, and in words where each comes from."""
    given = {"text": config.text_column, "label": config.label_column}
    columns = {kind: name for kind, name in given.items() if name is not None}
    root = Path(config.data)
    found = open_parts(root, columns=columns)
    for name, part in zip(("train", "val", "test"), found, strict=True):
        if part is not None and part.labels is None:
            raise DataError(f"{root}: the {name} part has no column of classes; name it: --label-column")
    train, val, test = (None if part is None else source_of(part) for part in found)
    told, name = [], root.resolve().stem if root.is_file() else root.resolve().name
    if test is None and val is not None:
        val, test = None, val
        told.append(f"test: the {len(test):,} texts of the one part beside train")
    elif test is None:
        train, test = train.split(TEST_FRACTION, 0, "test")
        told.append(f"test: {len(test):,} texts set aside, the same ones each time")
    parts, words = with_validation(config, Parts(name, train, val, test), "text")
    if words:
        told.append(words)
    elif val is None:
        told.append(f"validation: {len(parts.val):,} texts set aside, the same ones each time")
    if len(train.classes) < 2:
        raise DataError(f"{root}: only one class, {train.classes[0]!r}; there is nothing to tell apart")
    return parts, told


def source_of(texts: Texts) -> Source:
    """Texts as a source, whose items they are."""
    return Source(texts.texts, texts.ids, texts.labels, texts.classes)
