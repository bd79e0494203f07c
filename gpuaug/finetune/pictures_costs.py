"""What several models cost and are worth, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

from .costs import Cost
from .pictures import COLOURS, Target, drawn, plain, short

AREA = 1400  # of the largest file's disc, in square points
LEAST = 12  # of the smallest


def write_costs(target: Target, rows: Sequence[Cost], title: str = "") -> None:
    """Accuracy, with its interval of 95%, against images a second, or where they were not measured against operations;
    a disc's area is that of the weights file. ``rows``: at least one."""
    timed = all(row.images_per_second for row in rows)
    largest = max(row.nbytes for row in rows)
    with drawn(target, 8.6, 5.2, title) as figure:
        ax = figure.subplots()
        for i, row in enumerate(rows):
            x, y = (row.images_per_second if timed else (row.flops or 0) / 1e6), 100 * row.accuracy
            colour = COLOURS[i % len(COLOURS)]
            if row.interval:
                ends = [[y - 100 * row.interval[0]], [100 * row.interval[1] - y]]
                ax.errorbar([x], [y], yerr=ends, color=colour, alpha=0.45, linewidth=1.2, capsize=3)
            area = max(LEAST, AREA * row.nbytes / largest)
            ax.scatter([x], [y], s=area, color=colour, alpha=0.55, linewidths=0, label=_told(row))
        plain(ax, "", "images a second (CPU)" if timed else "MFLOPs an image", "test accuracy, %")
        ax.set_xscale("log")
        ax.margins(0.15, 0.15)
        ax.xaxis.set_major_formatter("{x:,.0f}")
        low, high = ax.get_xlim()
        told = "23456789" if high < 5 * low else "235"  # of which first digits ticks have their number
        ax.xaxis.set_minor_formatter(lambda x, place: f"{x:,.0f}" if str(int(x))[:1] in told else "")
        legend = figure.legend(frameon=False, loc="outside right upper", fontsize=8, labelspacing=1.1)
        for handle in legend.legend_handles:
            handle.set_sizes([40])


def _told(row: Cost) -> str:
    return f"{short(row.name)}\n{row.nbytes / 1e6:,.1f} MB, {(row.flops or 0) / 1e6:,.0f} MFLOPs"
