"""Tokenizers: one whose vocabulary is learned from the texts at hand, and any file of the library tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.errors import DataError
from ..messages import shown

PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # BERT's names, ids 0 .. 4
ROLES = ("pad", "unk", "cls", "sep", "mask")
USUAL = {role: (name, f"<{role}>") for role, name in zip(ROLES, SPECIAL, strict=True)}
USUAL |= {"cls": (CLS, "<cls>", "<s>"), "sep": (SEP, "<sep>", "</s>")}  # RoBERTa's
MARK = "▁"  # of a word's first piece
MOST_TOKENS = 512  # of a text, by default


class Tokenizer:
    """A tokenizer of the library tokenizers (extra ``text``). It has what :class:`gpuaug.text.Compose` reads of Hugging
    Face's: ``all_special_ids``, ``pad_token_id``, ``mask_token_id``, a length.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        names: the special tokens: "pad", which must be there, and "unk", "cls", "sep", "mask". Beside these every token
            that the file itself calls special is.
    """

    padding_side = "right"

    def __init__(self, tokenizer: Any, names: Mapping[str, str]):
        self.tokenizer, self.names = tokenizer, dict(names)
        ids = {role: tokenizer.token_to_id(name) for role, name in self.names.items()}
        if "pad" not in ids or None in ids.values():
            lacks = next((self.names[role] for role, one in ids.items() if one is None), "token to pad with")
            raise ValueError(f"{type(self).__name__}: the tokenizer has no {lacks}")
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id, self.mask_token_id = (
            ids.get(role) for role in ROLES
        )
        added = tokenizer.get_added_tokens_decoder().items()
        self.all_special_ids = sorted({one for one, token in added if token.special} | set(ids.values()))

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
        return self.encode(texts, pairs, max_length)[0]

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int = MOST_TOKENS
    ) -> tuple[dict[str, torch.Tensor], int]:
        """(what a call gives, how many texts were cut)."""
        if isinstance(texts, str):
            raise TypeError(f"{type(self).__name__}: texts must be a list of strings, got {shown(texts)}")
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.enable_padding(pad_id=self.pad_token_id, pad_token=self.names["pad"])
        given = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        found = self.tokenizer.encode_batch(given)
        names = {"input_ids": "ids", "attention_mask": "attention_mask"}
        names |= {} if pairs is None else {"token_type_ids": "type_ids"}
        width = len(found[0].ids) if found else 0
        made = {
            name: torch.tensor([getattr(row, of) for row in found], dtype=torch.int64).reshape(len(found), width)
            for name, of in names.items()
        }
        return made, sum(bool(row.overflowing) for row in found)

    def decode(self, ids: torch.Tensor) -> list[str]:
        """The texts of tokens [B, T], without special ones."""
        return self.tokenizer.decode_batch(ids.tolist())

    def save(self, path: str | Path) -> None:
        """Write it as a tokenizer.json of the library."""
        Path(path).write_text(self.tokenizer.to_str(pretty=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, names: Mapping[str, str] | None = None) -> Tokenizer:
        """Read what `save` wrote, or another tokenizer.json; ``names`` as above, None: by their usual names. Raises
        DataError where it cannot be."""
        try:
            tokenizer = _library().Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
            return cls(tokenizer, usual_names(tokenizer) if names is None else names)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # the library raises Exception itself
            raise DataError(f"{path}: no tokenizer ({error}); give a tokenizer.json") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens)"

    def __getstate__(self) -> tuple[str, dict[str, str]]:
        return self.tokenizer.to_str(pretty=False), self.names

    def __setstate__(self, state: tuple[str, dict[str, str]]) -> None:
        Tokenizer.__init__(self, _library().Tokenizer.from_str(state[0]), state[1])


class BPETokenizer(Tokenizer):
    """A tokenizer of pieces of words, by the library tokenizers (extra ``text``): see :meth:`learn`.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` with the special tokens of `SPECIAL`.
    """

    def __init__(self, tokenizer: Any, names: Mapping[str, str] | None = None):
        super().__init__(tokenizer, names or dict(zip(ROLES, SPECIAL, strict=True)))

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


def usual_names(tokenizer: Any) -> dict[str, str]:
    """The special tokens that a ``tokenizers.Tokenizer`` has by one of their usual names."""
    found = {
        role: next((n for n in names if tokenizer.token_to_id(n) is not None), None) for role, names in USUAL.items()
    }
    return {role: name for role, name in found.items() if name is not None}


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
