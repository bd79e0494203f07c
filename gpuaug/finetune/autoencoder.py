"""A small variational autoencoder of features, by class: what it generates has the shape that classes share.

Kingma & Welling, arXiv 1312.6114; conditional on the class as Sohn et al., NeurIPS 2015. It learns how vectors differ
from their class's mean, in units of the spread within classes, in which the decoder's variance is one: directions in
which vectors vary less than that get no code. What the codes leave is drawn beside them, so that new vectors vary as
much as those that were seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODES, HIDDEN, STEPS, BATCH, RATE, DROP = 8, 64, 300, 64, 3e-3, 0.2
LEAST = 1e-6  # a spread
DRAWN = 4096  # codes by which is judged how much they vary


class Autoencoder(nn.Module):
    """Of features [B, D] of K classes.

    Attributes:
        codes: numbers a vector is encoded in. explained: share of the variance within classes that they explain.
    """

    def __init__(self, means: Tensor, spread: Tensor, low: Tensor, high: Tensor, codes: int = CODES):
        super().__init__()
        classes, d = means.shape
        self.codes, self.explained = codes, 0.0
        for name, value in (("means", means), ("spread", spread), ("low", low), ("high", high)):
            self.register_buffer(name, value)
        self.register_buffer("rest", torch.ones(d))
        self.register_buffer("centre", torch.zeros(codes))
        self.register_buffer("factor", torch.eye(codes))
        self.encoder = nn.Sequential(nn.Linear(d + classes, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 2 * codes))
        self.decoder = nn.Sequential(nn.Linear(codes + classes, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, d))

    def encode(self, away: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """(means, logarithms of the variances) of the codes, [B, codes]; ``away``: from the class's mean, scaled."""
        return self.encoder(torch.cat((away, classes), 1)).chunk(2, 1)

    def decode(self, codes: Tensor, classes: Tensor) -> Tensor:
        """[B, D], from the class's mean, scaled."""
        return self.decoder(torch.cat((codes, classes), 1))

    def generate(self, codes: Tensor, rest: Tensor, labels: Tensor) -> Tensor:
        """New vectors [B, D] of classes int64 [B]; ``codes`` [B, codes] and ``rest`` [B, D] are standard normal."""
        classes = F.one_hot(labels, len(self.means)).to(codes.dtype)
        away = self.decode(codes @ self.factor.T + self.centre, classes) + rest * self.rest
        return (self.means[labels] + away * self.spread).clamp(self.low, self.high)


def fitted(x: Tensor, labels: Tensor, means: Tensor, spread: Tensor, seed: int) -> Autoencoder:
    """Trained on features [N, D] of int64 [N] classes; on a CPU the same bits each time. The generators of torch are
    left as they are. ``means``, ``spread``: of each class, [K, D]."""
    pooled = spread.square().mean(0).sqrt().clamp(min=LEAST)
    away = (x - means[labels]) / pooled
    classes = F.one_hot(labels, len(means)).to(x.dtype)
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        model = Autoencoder(means, pooled, x.amin(0), x.amax(0)).to(x.device)
        _train(model, away, classes)
        _settle(model, away, classes)
    return model.requires_grad_(False)


def _train(model: Autoencoder, away: Tensor, classes: Tensor) -> None:
    """Denoising: the encoder sees a part of the numbers."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        some = torch.randint(len(away), (min(BATCH, 2 * len(away)),), device=away.device)
        mean, log_variance = model.encode(F.dropout(away[some], DROP), classes[some])
        codes = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = (model.decode(codes, classes[some]) - away[some]).square().sum(1) / 2
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2
        optimizer.zero_grad(set_to_none=True)
        (error + divergence).mean().backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _settle(model: Autoencoder, away: Tensor, classes: Tensor) -> None:
    """How codes are spread where training has left them, not quite as the prior has it; and what they leave."""
    mean, log_variance = model.encode(away, classes)
    spread = mean.T.cov().reshape(model.codes, model.codes) + torch.diag(log_variance.exp().mean(0))
    model.centre.copy_(mean.mean(0))
    model.factor.copy_(torch.linalg.cholesky(spread))
    those = torch.arange(DRAWN, device=away.device) % len(away)
    drawn = torch.randn(DRAWN, model.codes, device=away.device) @ model.factor.T + model.centre
    model.rest.copy_((1 - model.decode(drawn, classes[those]).var(0)).clamp(min=0).sqrt())
    left = (model.decode(mean, classes) - away).square().sum()
    model.explained = float(1 - left / away.square().sum().clamp(min=LEAST))
