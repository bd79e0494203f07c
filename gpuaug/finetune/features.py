"""Augmented features: what the recipe probe's classifier sees in place of the same vectors in each epoch.

A draw is a function of (seed, epoch, id), as those of images are; a partner is another sample of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gpuaug import presets
from gpuaug.kernels.shared.draw import WORD
from gpuaug.kernels.torch.dialect import DRAW, ELEMENTARY
from gpuaug.messages import meant, shown
from gpuaug.transforms import beta

from .autoencoder import Autoencoder, fitted

NONE = "none"
FIRST = 16  # the first block of words that a vector's numbers are drawn of; those before decide for the whole sample


class FeatureAugment(Protocol):
    def __call__(self, x: Tensor, labels: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """(features [B, D], labels) of a batch of them, as the classifier is to see them in this epoch."""


@dataclass(frozen=True)
class Draws:
    """The draws of some samples in an epoch, by Philox.

    Attributes:
        key: of each sample [B]; see `gpuaug.kernels.shared.draw`.
    """

    key: tuple

    @classmethod
    def of(cls, seed: int, epoch: int, ids: Tensor) -> Draws:
        return cls(DRAW["row_key"](ids, epoch, 0, seed & WORD, seed >> 32))

    def words(self) -> tuple[Tensor, ...]:
        """Four of each sample, int64 [B] in [0, 2^32)."""
        return DRAW["words"](self.key, 0)

    def normal(self, n: int) -> Tensor:
        """``n`` standard normal numbers of each sample, float32 [B, n]."""
        spread = tuple(k[:, None] if isinstance(k, Tensor) else k for k in self.key)
        blocks = FIRST + torch.arange(-(-n // 2), device=self.key[0].device)
        a, b, c, d = (DRAW["unit"](word) for word in DRAW["words"](spread, blocks))
        return torch.stack((ELEMENTARY["normal"](a, b), ELEMENTARY["normal"](c, d)), 2).flatten(1)[:, :n]


class Mix:
    """Manifold mixup (Verma et al., arXiv 1806.05236) of the last features: each sample with the one before it in its
    batch, by a share of its own from Beta(alpha, alpha); its label likewise, float [B, K]."""

    def __init__(self, train: Vectors, *, alpha: float = 1.0):
        self.seed, self.classes = train.seed, train.classes
        self.beta = beta.configuration(float(alpha))
        self.words = f"mixed in pairs, by Beta({alpha:g}, {alpha:g})"

    def __call__(self, x: Tensor, labels: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        a, b, _, _ = Draws.of(self.seed, epoch, ids).words()
        share = DRAW["symmetric_beta"](a, b, self.beta)[:, None]
        soft = F.one_hot(labels, self.classes).to(x.dtype) if labels.ndim == 1 else labels
        return torch.lerp(x, x.roll(1, 0), share), torch.lerp(soft, soft.roll(1, 0), share)


class Noise:
    """Gaussian noise on every number of a vector, ``strength`` times its standard deviation within the class."""

    def __init__(self, train: Vectors, *, strength: float = 0.5):
        train.check("noise")
        self.seed, self.scale = train.seed, strength * train.spread()
        self.words = f"with Gaussian noise, {strength:g} times each class's spread"

    def __call__(self, x: Tensor, labels: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        return x + self.scale[labels] * Draws.of(self.seed, epoch, ids).normal(x.shape[1]), labels


class Generated:
    """New vectors of an autoencoder (`gpuaug.finetune.autoencoder`) in the place of a ``share`` of all, of the same
    class, others in each epoch."""

    def __init__(self, train: Vectors, *, share: float = 0.5):
        train.check("autoencoder")
        self.seed, self.share = train.seed, share
        self.model: Autoencoder = fitted(train.x, train.labels, train.means(), train.spread(), train.seed)
        self.words = (
            f"{share:.0%} of them new ones of a variational autoencoder, whose codes explain "
            f"{self.model.explained:.0%} of how those of a class differ"
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, labels: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        draws = Draws.of(self.seed, epoch, ids)
        new = DRAW["unit"](draws.words()[2]) < self.share
        codes, rest = draws.normal(self.model.codes + x.shape[1]).split((self.model.codes, x.shape[1]), 1)
        return torch.where(new[:, None], self.model.generate(codes, rest, labels), x), labels


KINDS: dict[str, Callable[..., FeatureAugment]] = {"autoencoder": Generated, "mix": Mix, "noise": Noise}
RANGES = {"autoencoder": {"share": (0.0, 1.0)}, "mix": {"alpha": beta.ALPHAS}, "noise": {"strength": (0.0, 100.0)}}


@dataclass(frozen=True)
class Vectors:
    """The training part's features.

    Attributes:
        x: float [N, D]. labels: int64 [N], or float [N, K] where a sample may have several. names: of the classes.
        seed: of the draws.
    """

    x: Tensor
    labels: Tensor
    names: tuple[str, ...]
    seed: int

    @property
    def classes(self) -> int:
        return len(self.names)

    def check(self, kind: str) -> None:
        """Raises ValueError where a class has no spread: of samples with several labels, or one sample alone."""
        if self.labels.ndim > 1:
            raise ValueError(f"feature_augment={kind} wants one class a sample, and these may have several; take mix")
        counts = torch.bincount(self.labels, minlength=self.classes)
        if counts.max() < 2:
            raise ValueError(
                f"feature_augment={kind} goes by how samples of a class differ, and each has one; take mix, or add some"
            )

    def means(self) -> Tensor:
        """Of each class, [K, D]; of one without samples that of all."""
        counts = torch.bincount(self.labels, minlength=self.classes)[:, None]
        sums = torch.zeros(self.classes, self.x.shape[1], dtype=self.x.dtype, device=self.x.device)
        sums.index_add_(0, self.labels, self.x)
        return torch.where(counts > 0, sums / counts.clamp(min=1), self.x.mean(0))

    def spread(self) -> Tensor:
        """The standard deviation of each number within each class, [K, D]; of a class of one sample that within all."""
        counts = torch.bincount(self.labels, minlength=self.classes)[:, None]
        squares = torch.zeros(self.classes, self.x.shape[1], dtype=self.x.dtype, device=self.x.device)
        squares.index_add_(0, self.labels, (self.x - self.means()[self.labels]).square())
        pooled = squares.sum(0) / (counts - 1).clamp(min=0).sum()
        return torch.where(counts > 1, squares / (counts - 1).clamp(min=1), pooled).sqrt()


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``"noise:strength=0.3"`` -> ``("noise", {"strength": 0.3})``. Raises ValueError for a name or an argument that
    there is not."""
    kind, colon, text = spec.partition(":")
    if kind not in (NONE, *KINDS):
        choices = f"choose one of {NONE}, {', '.join(KINDS)}{meant(kind, KINDS)}"
        raise ValueError(f"feature_augment: there is no {shown(kind)}; {choices}")
    known, found = RANGES.get(kind, {}), {}
    try:
        for name, value in presets.keywords_of(text) if colon else ():
            if name not in known:
                raise ValueError(f"it takes {', '.join(known) or 'no arguments'}, not {name!r}{meant(name, known)}")
            low, high = known[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {shown(value)}")
            found[name] = value
    except ValueError as error:
        raise ValueError(f"feature_augment {shown(spec)}: {error}") from None
    return kind, found


def opened(spec: str, x: Tensor, labels: Tensor, names: tuple[str, ...], seed: int) -> FeatureAugment | None:
    """What ``spec`` names, made for the training part's features; None for none. Raises ValueError for what cannot be
    of them."""
    kind, arguments = parse(spec)
    return None if kind == NONE else KINDS[kind](Vectors(x, labels, names, seed), **arguments)
