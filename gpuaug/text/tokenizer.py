"""A vocabulary that is learned from the texts at hand, and the tokenizer of it: nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.errors import DataError
from ..messages import shown

PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # BERT's names, ids 0 .. 4
MARK = "▁"  # of a word's first piece
MOST_TOKENS = 512  # of a text, by default


class BPETokenizer:
    """A tokenizer of pieces of words, by the library tokenizers (extra ``text``). It has what
    :class:`gpuaug.text.Compose` reads of Hugging Face's: ``all_special_ids``, ``pad_token_id``, ``mask_token_id``, a
    length.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` with the special tokens of `SPECIAL`.
    """

    padding_side = "right"

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        ids = [tokenizer.token_to_id(token) for token in SPECIAL]
        if None in ids:
            raise ValueError(f"BPETokenizer: the tokenizer has no {SPECIAL[ids.index(None)]}")
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id, self.mask_token_id = ids
        self.all_special_ids = ids

    @classmethod
    def learn(
        cls, texts: Iterable[str], vocab_size: int = 8000, *, lowercase: bool = True, min_frequency: int = 2
    ) -> BPETokenizer:
        """Learn a vocabulary from texts by byte-pair encoding (Sennrich et al., 2016) of characters; the first piece of
        a word begins with ▁. The same texts give the same tokens, which the library's WordPiece trainer does not.

        Args:
            vocab_size: how many tokens at most, special ones among them.
            lowercase: take capitals for small letters, and accents off, as BERT's normaliser does.
            min_frequency: how often a pair of pieces must occur to become one.
        """
        library = _library()
        tokenizer, parts = library.Tokenizer(library.models.BPE(unk_token=UNK)), library.pre_tokenizers
        tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase)
        words = parts.Metaspace(replacement=MARK, prepend_scheme="always")
        tokenizer.pre_tokenizer = parts.Sequence([parts.Punctuation("isolated"), words])
        tokenizer.decoder = library.decoders.Metaspace(replacement=MARK, prepend_scheme="always")
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(SPECIAL), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        numbers = [(CLS, tokenizer.token_to_id(CLS)), (SEP, tokenizer.token_to_id(SEP))]
        tokenizer.post_processor = library.processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=numbers
        )
        return cls(tokenizer)

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def get_vocab(self) -> dict[str, int]:
        """Tokens and their ids; the first piece of a word begins with ▁."""
        return self.tokenizer.get_vocab()

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int = MOST_TOKENS
    ) -> dict[str, torch.Tensor]:
        """The tokens of texts, or of pairs, as Hugging Face's tokenizers give them: ``input_ids``, ``attention_mask``
        and, of pairs, ``token_type_ids``, int64 [B, T], padded on the right to the longest, cut at `max_length`."""
        if isinstance(texts, str):
            raise TypeError(f"BPETokenizer: texts must be a list of strings, got {shown(texts)}")
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.enable_padding(pad_id=self.pad_token_id, pad_token=PAD)
        given = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        found = self.tokenizer.encode_batch(given)
        names = {"input_ids": "ids", "attention_mask": "attention_mask"}
        names |= {} if pairs is None else {"token_type_ids": "type_ids"}
        width = len(found[0].ids) if found else 0
        return {
            name: torch.tensor([getattr(row, of) for row in found], dtype=torch.int64).reshape(len(found), width)
            for name, of in names.items()
        }

    def decode(self, ids: torch.Tensor) -> list[str]:
        """The texts of tokens [B, T], without special ones."""
        return self.tokenizer.decode_batch(ids.tolist())

    def save(self, path: str | Path) -> None:
        """Write it as a tokenizer.json of the library."""
        Path(path).write_text(self.tokenizer.to_str(pretty=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> BPETokenizer:
        """Read what `save` wrote. Raises DataError where it cannot be."""
        try:
            text = Path(path).read_text(encoding="utf-8")
            return cls(_library().Tokenizer.from_str(text))
        except ModuleNotFoundError:
            raise
        except Exception as error:  # the library raises Exception itself
            raise DataError(f"{path}: no tokenizer ({error}); give a file that BPETokenizer.save wrote") from None

    def __repr__(self) -> str:
        return f"BPETokenizer({len(self)} tokens)"

    def __getstate__(self) -> str:
        return self.tokenizer.to_str(pretty=False)

    def __setstate__(self, state: str) -> None:
        self.__init__(_library().Tokenizer.from_str(state))


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    except ModuleNotFoundError as error:
        if error.name != "tokenizers":
            raise
        told = "a vocabulary is learned by the package tokenizers, which is not installed: pip install 'gpuaug[text]'"
        raise ModuleNotFoundError(told, name="tokenizers") from None
    return tokenizers
