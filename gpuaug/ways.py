"""The ways that a pipeline may go, as they are lowered: what is drawn for a sample, and what then acts on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from .kernels.shared import plan
from .tree import Canvases, Choice, Entry, Track, tracked


class Ways:
    """The part of `lowering.Lowering` that makes gates and choices."""

    def gate(
        self,
        draw: str | None,
        configuration: Sequence[float],
        column: str,
        *,
        permutes: int = 0,
        counts: bool = False,
        shared: bool = False,
    ) -> Entry:
        """Draw a number that later slots stand behind; returns the gate for `behind`.

        Args:
            draw: None is 0, or what is put into the table by hand.
            permutes: it numbers a permutation of so many.
            counts: slots want it greater than their own number, not equal to it.
            shared: it is drawn once for the samples that share their draws, see `blend`.
        """
        words = dict(trait=-1 if counts else permutes, shared=int(shared))
        return self._entry(plan.KIND_GATE, 0, (), draw, configuration, (column,), **words)

    def layers(self) -> Entry:
        """A gate that draws nothing: its number is the layer of its output that a row is, 0 the output's own."""
        return self._entry(plan.KIND_GATE, 0, (), None, (), (), trait=plan.LAYER)

    @contextmanager
    def behind(self, gate: Entry, number: int) -> Iterator[None]:
        """What is lowered inside acts on the samples whose gate drew `number`; the others skip it."""
        before, kind = self._canvases, self._kind()
        with self._way(gate, number) as (way, track):
            yield
        self.nodes.append(Choice(gate, ((number, tuple(way)),)))
        self._join(before, [(before, []), (self._canvases, track)])
        self._same_kind([kind, self._kind()])

    @contextmanager
    def _way(self, gate: Entry, number: int, position: int = 0) -> Iterator[tuple[list[Entry | Choice], Track]]:
        """A sequence and a track of its own behind a gate."""
        saved = self.nodes, self.track, self._gate, self._want
        self.nodes, self.track, self._gate = [], [], gate.number
        self._want = number * 16 + position if gate.trait > 0 else number
        try:
            yield self.nodes, self.track
        finally:
            self.nodes, self.track, self._gate, self._want = saved

    def _join(self, before: Canvases, ways: Sequence[tuple[Canvases, Track]], reorders: bool = False) -> None:
        """Go on behind ways, of which each row takes one, with the canvases at their ends."""
        op = self._op

        def join(canvases: Canvases, ends: Iterable[Canvases]) -> Canvases:
            after = frozenset().union(*ends)
            if reorders and after != canvases:
                raise ValueError(
                    f"{op}: cannot reorder transforms that change the image size; put them outside of RandomOrder"
                )
            return after

        self._canvases = join(before, [end for end, _ in ways])
        tracks = [track for _, track in ways]
        if any(tracks):
            self.track.append(lambda canvases: join(canvases, (tracked(track, canvases) for track in tracks)))

    @contextmanager
    def accept(self, p: float, shared: bool = False) -> Iterator[None]:
        """What is lowered inside acts on a sample with probability `p`; `shared` as `gate`."""
        if p >= 1.0:
            yield
            return
        with self.behind(self.gate("draw_accept", (p,), "applied", shared=shared), 1):
            yield

    def of_layers(self, children: Sequence[Callable[[], None]]) -> None:
        """Lower for each layer of an output one of `children`, by its number."""
        self._choice(self.layers(), children)

    def either(self, p: float, this: Callable[[], None], that: Callable[[], None], shared: bool = False) -> None:
        """Lower `this` with probability p, else `that`; `shared` as `gate`."""
        if p >= 1.0:
            this()
        else:
            self._choice(self.gate("draw_accept", (p,), "applied", shared=shared), [that, this])

    def branches(
        self,
        children: Sequence[Callable[[], None]],
        p: Sequence[float] | None,
        shared: bool = False,
        column: str = "choice",
    ) -> None:
        """Lower one of `children` for each sample, with probabilities `p`; `shared`, `column` as `gate`."""
        self._choice(self.chosen(len(children), p, shared, column), children)

    def chosen(self, n: int, p: Sequence[float] | None, shared: bool = False, column: str = "choice") -> Entry:
        """The gate of `branches`."""
        if p is None:
            return self.gate("draw_integer", (n,), column, shared=shared)
        if n > 12:
            raise self.fail(f"p may be given for at most 12 transforms, got {n}")
        ascending = [math.fsum(p[: k + 1]) / math.fsum(p) for k in range(n - 1)]
        return self.gate("draw_weighted", ascending + [2.0] * (12 - n), column, shared=shared)

    def shuffled(self, children: Sequence[Callable[[], None]]) -> None:
        """Lower all `children`, in an order drawn for each sample."""
        gate = self.order(len(children))
        for position in range(len(children)):
            self._choice(gate, children, position)

    def order(self, n: int) -> Entry:
        """The gate of `shuffled`."""
        if n > 10:
            raise self.fail(f"at most 10 transforms can be reordered, got {n}")
        return self.gate("draw_integer", (math.factorial(n),), "order", permutes=n)

    def _choice(self, gate: Entry, children: Sequence[Callable[[], None]], position: int = 0) -> None:
        """Lower children of which a row takes one; they share slots."""
        canvases, kind, slot, blend = self._canvases, self._kind(), self._slot, self._blend
        ways, kinds, ends, blends = [], [], [], []
        for number, lower_child in enumerate(children):
            self._canvases, (self.dtype, self.channels), self._slot, self._blend = canvases, kind, slot, blend
            with self._way(gate, number, position) as (way, track):
                lower_child()
            ways.append((number, tuple(way)))
            ends.append((self._canvases, track))
            kinds.append((self._kind(), self._slot))
            blends.append(self._blend)
        self.nodes.append(Choice(gate, tuple(ways), position))
        self._slot, self._blend = max(slot for _, slot in kinds), next(filter(None, blends), "")
        self._same_kind([kind for kind, _ in kinds])
        self._join(canvases, ends, reorders=gate.trait > 0)

    def _kind(self) -> tuple[torch.dtype, int]:
        return self.dtype, self.channels

    def _same_kind(self, kinds: Sequence[tuple[torch.dtype, int]]) -> None:
        if len({dtype for dtype, _ in kinds}) > 1:
            names = " or ".join(sorted({str(dtype) for dtype, _ in kinds}))
            raise self.fail(f"images would be {names}, depending on the draw; put ToDtype outside of the random choice")
        if len({channels for _, channels in kinds}) > 1:
            counts = " or ".join(sorted({str(channels) for _, channels in kinds}))
            raise self.fail(
                f"images would have {counts} channels, depending on the draw; "
                "use RandomGrayscale, or put Grayscale outside of the random choice"
            )
