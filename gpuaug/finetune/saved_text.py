"""What a run of the task text has saved, as something to work with: :class:`SavedText`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpuaug.data import DataError, Source
from gpuaug.messages import shown
from gpuaug.text.reading import ENDINGS, open_parts, read, text_of
from gpuaug.text.tokenizer import Tokenizer

from . import encoders, models, runs
from .asking import ON_CPU, ON_DEVICE, Asking, Chunk, format_of
from .config import Config
from .predicting import Predicted
from .predictions import Asked, Prediction, Predictions, csv_lines
from .saved import About, Saved
from .testing import PARTS, Alone, Data, Tested, matched, of_parts
from .text import opened, source_of, tokenizer_in
from .tokens import Rows

if TYPE_CHECKING:
    from .exporting import Exported
    from .metrics import Evaluation

FORMATS = {".csv": "csv", ".json": "json"}
LINES = ".txt"  # a text a line


class SavedText(Saved):
    """The task text's: called with tokens and their mask, int64 [B, T], it gives logits [B, K].

    Attributes as :class:`Saved`; and tokenizer: of the model's tokens, from the file beside the weights.
    """

    noun = "text"
    formats = FORMATS
    options = ("top", "threshold", "text_column")

    @staticmethod
    def by_hand(about: About) -> bool:
        return not encoders.known(about.model)

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        if given is not None:
            models.adapt(given, len(about.classes))
            models.fill(given, path, about.model, about.classes)
            return given
        tokenizer, config = tokenizer_in(path.parent, about.details["special"]), about.details["encoder"]
        return encoders.build(about.model, about.classes, tokenizer, str(path), config=config)[0]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        if self.path is None:
            raise ValueError("this model was put together without a file, beside which its tokenizer would lie")
        return tokenizer_in(self.path.parent, self.about.details["special"])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, K] of logits [B, K]: by softmax; where a text may have several labels, of each class on its own."""
        return logits.sigmoid() if self.about.several else logits.softmax(1)

    @torch.no_grad()
    def logits(self, texts: Sequence[str], batch_size: int | None = None, precision: str = "no") -> Iterator[Tensor]:
        """float32 [B, K] of so many texts at a time, in their order."""
        self.eval()
        size = batch_size or (ON_CPU if self.device.type == "cpu" else ON_DEVICE)
        for at in range(0, len(texts), size):
            rows = Rows(texts[at : at + size], self.tokenizer, self.size, self.device)
            with Alone(self.device, precision).autocast():
                yield self(**rows.all()).float()

    # --- predict ------------------------------------------------------------------------------------------------------
    def inputs(self, files: Sequence[str], texts: Sequence[str]) -> list[Any]:
        return [*map(Path, files), *texts]

    def predict(
        self,
        texts: Any,
        *,
        top: int | None = None,
        threshold: float | None = None,
        text_column: str | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> TextPredictions:
        """What the model answers for texts, in their order.

        Args:
            texts: strings, one or a list of them; a path, or a string that names a file there is: .csv, .tsv, .jsonl or
                .parquet with a column of texts, .txt with a text a line.
            top: so many answers each, the surest first; None: one. Of a model for several labels a text all that reach
                the threshold, or the surest so many of them.
            threshold: the least probability of an answer, for such a model alone; None: 0.5.
            text_column: of the files, where it has no usual name.
            batch_size: texts that the model gets at a time; None: 64, on a CPU 16.
            progress: show a bar on stderr.

        Raises:
            ValueError: arguments that cannot be; no texts; a file that cannot be read.
        """
        known = {"top": top, "threshold": threshold, "text_column": text_column, "batch_size": batch_size}
        return super().predict(texts, progress=progress, **{k: v for k, v in known.items() if v is not None})

    def asking(self) -> type[Asking]:
        return AskedTexts

    # --- evaluate -----------------------------------------------------------------------------------------------------
    def open_data(self, data: str | Path | Source, part: str | None, config: Config | None = None) -> Data:
        if part not in (None, "all", *PARTS):
            raise ValueError(f"part must be one of {', '.join(PARTS)}, all; got {shown(part)}")
        if isinstance(data, Source):
            return Data("texts", [("all", data)], None, [])
        config, path = config or Config(), Path(data)
        given = {"text": config.text_column, "label": config.label_column}
        columns = {kind: name for kind, name in given.items() if name is not None}
        if path.is_file():
            if part not in (None, "all"):
                raise DataError(f"{path}: one file has no parts; leave part out")
            return Data(path.stem, [("all", source_of(read(path, columns=columns)))], None, ["all its texts"])
        own = any(one is not None for one in open_parts(path, columns=columns)[1:])
        words = "a file of its own" if own else "which finetune sets aside: the same texts each time"
        return of_parts(opened(replace(config, data=str(path)))[0], part or "test", words, self.noun)

    def matched(self, data: Data, ignore_unknown: bool = False) -> tuple[Source, list[str]]:
        return matched(data, self.classes, self.about.several, ignore_unknown, "text")

    def tested(self, source: Source, **how: Any) -> Tested:
        from .metrics import Evaluation

        size, precision = how.get("batch_size") or ON_DEVICE, how.get("precision", "no")
        progress = how.get("progress", iter)
        batches = progress(range(0, len(source), size))
        found = [one.cpu() for _, one in zip(batches, self.logits(source.items, size, precision), strict=True)]
        made = Predicted(source.ids, source.labels, torch.cat(found))
        return Tested(Evaluation.of(made.outputs, made.labels, self.classes), made, source, [])

    def words(self, evaluation: Evaluation) -> str:
        from .screen import evaluation_words

        return evaluation_words(evaluation, self.noun)

    def robustness(
        self, source: Source, n: int, how: dict[str, Any], progress: Callable[[Iterable], Iterable] = iter
    ) -> tuple[dict[str, Any], Any]:
        from .text_robustness import measure

        def answers(texts: list[str]) -> Tensor:
            return torch.cat([one.cpu() for one in self.logits(texts, how["batch_size"], how["precision"])])

        return measure(answers, source, n, progress), None

    def leave(self, run: runs.Run, tested: Tested) -> None:
        from . import report

        found = tested.predicted
        report.store_texts(run.folder, tested.source, found.ids, found.labels, found.outputs)
        run.write_json(runs.EVALUATION, tested.evaluation.as_dict(), indent=None)

    def leave_robustness(self, run: runs.Run, measured: dict[str, Any], some: Any) -> None:
        run.write_json(runs.ROBUSTNESS, measured)

    # --- export -------------------------------------------------------------------------------------------------------
    def export(
        self, path: str | Path, format: str | None = None, *, dynamic_batch: bool = True, batch_size: int = 1
    ) -> Exported:
        """Write the model for other programs, with its tokenizer.json beside it, once it was seen to answer as this one
        does, on test texts of its run. Its inputs are input_ids and attention_mask, int64 [B, T], its output logits
        [B, K].

        Args:
            path: .pt2, .onnx or .safetensors; written whole or not at all.
            format: "torch-export", "onnx" or "safetensors"; None: by the path's ending.
            dynamic_batch: any B and T. Else B is ``batch_size`` and T the model's most. Not of safetensors.

        Raises:
            ValueError: a format that there is not; a model that cannot be exported; answers that differ.
            ModuleNotFoundError: the extra ``gpuaug[export]`` is not installed.
        """
        from .exporting_text import export

        return export(self, Path(path), format, dynamic_batch=dynamic_batch, batch_size=batch_size)

    def extra_repr(self) -> str:
        return f"{self.about.model}, {len(self.classes)} classes, up to {self.size} tokens"


# --- predictions ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class TextPrediction(Prediction):
    """What the model answers for one text; ``path`` is the text itself."""

    @property
    def text(self) -> str:
        """As it was given."""
        return self.path

    def as_row(self, columns: int) -> dict[str, Any]:
        """text, answer, probability, answer_2, probability_2 and so on to so many. None: there is no such."""
        row = super().as_row(columns)
        return {"text": row.pop("path")} | {name: value for name, value in row.items() if name != "error"}

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "answers": super().as_dict()["answers"]}


class TextPredictions(Predictions):
    """One :class:`TextPrediction` for each text, in the order given; attributes as :class:`Predictions`."""

    def counted(self) -> str:
        return f"{len(self)} texts"

    def as_csv(self) -> str:
        return "".join(csv_lines(self.made, self.columns, TextPrediction))

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write the table, whole or not at all: "csv" or "json"; None: by the path's ending."""
        return super().save(path, format_of(Path(path), format, FORMATS))


@dataclass(frozen=True)
class AskedTexts(Asked):
    """What is wanted of a model of texts, checked: see :meth:`SavedText.predict`."""

    text_column: str | None = None

    def listed(self, inputs: Any) -> tuple[Source, list[str]]:
        given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
        texts = [one for some in given for one in self._texts(some)]
        if not texts:
            raise ValueError("there are no texts; name files, or give some with --text")
        return Source(tuple(texts), torch.arange(len(texts))), texts

    def _texts(self, one: str | Path) -> list[str]:
        if not isinstance(one, str | Path):
            raise ValueError(f"texts are strings, or files of them; got {shown(one)}")
        if isinstance(one, str) and not (one.lower().endswith((*ENDINGS, LINES)) and Path(one).is_file()):
            if not one.strip():
                raise ValueError("a text is empty; leave it out")
            return [one]
        path = Path(one)
        if path.suffix.lower() == LINES and path.is_file():
            return [line for line in text_of(path).splitlines() if line.strip()]
        columns = {} if self.text_column is None else {"text": self.text_column}
        return list(read(path, columns=columns).texts)

    def stream(self, source: Source, names: Sequence[str]) -> Iterator[Chunk]:
        done = 0
        for logits in self.model.logits(source.items, self.batch_size):
            probabilities = self.model.probabilities(logits).cpu()
            texts, done = names[done : done + len(probabilities)], done + len(probabilities)
            answers = zip(texts, self.answers(probabilities), strict=True)
            yield [TextPrediction(text, some) for text, some in answers], list(probabilities.unbind())

    def gathered(self, source: Source, chunks: Iterable[Chunk]) -> TextPredictions:
        found = super().gathered(source, chunks)
        return TextPredictions(found.made, found.classes, found.probabilities, found.columns, source)

    def lines(self, chunks: Iterable[Chunk]) -> Iterator[str] | None:
        if self.several:
            return None
        return csv_lines((one for some, _ in chunks for one in some), self.columns(), TextPrediction)
