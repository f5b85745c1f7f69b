"""The figures of docs/results.md; the same bytes from the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from thick.statistics import wilson

DRAWN = (
    "random",
    "flat",
    "flat-x10",
    "hierarchical",
    "ending",
    "small-kappa",
    "random-subgoals",
    "ending-random",
)
"""planners of the figure, as far as they were run"""


class Cell(NamedTuple):
    """Episodes of one planner at one number of doors, over the seeds of training."""

    successes: int
    episodes: int
    seeds: dict[str, tuple[int, int]]
    """successes and episodes by seed"""
    steps: list[int]
    """of the successful episodes"""
    milliseconds: list[float]


def draw_horizon(panels: dict[str, dict[tuple[str, str], dict[int, Cell]]], path: Path) -> None:
    """Success against the number of doors, PNG and SVG; the same bytes from the same numbers."""
    pyplot = _pyplot("horizon")
    figure, places = pyplot.subplots(1, len(panels), figsize=(9, 3.6), sharey=True, squeeze=False)
    for axes, (title, found) in zip(places[0], panels.items(), strict=True):
        _panel(axes, found)
        axes.set(title=title, xlabel="locked doors in series (N)", ylim=(-0.02, 1.02))
    places[0][0].set_ylabel("success within the limit")
    known = {
        label: line
        for axes in places[0]
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        known.values(), known.keys(), fontsize=8, loc="center left", bbox_to_anchor=(0.8, 0.5), frameon=False
    )
    figure.tight_layout(rect=(0, 0, 0.8, 1))
    _save(figure, path)


def _panel(axes: Any, found: dict[tuple[str, str], dict[int, Cell]]) -> None:
    shift = -0.1
    for (learner, planner), of in found.items():
        if planner not in DRAWN:
            continue
        doors = sorted(of)
        rates = [of[number].successes / of[number].episodes for number in doors]
        bounds = [wilson(of[number].successes, of[number].episodes) for number in doors]
        errors = [
            [rate - low for rate, (low, _) in zip(rates, bounds, strict=True)],
            [high - rate for rate, (_, high) in zip(rates, bounds, strict=True)],
        ]
        colour = "0.6" if planner == "random" else f"C{DRAWN.index(planner)}"
        axes.errorbar(
            [number + shift for number in doors], rates, errors, capsize=2, marker="o", markersize=4, color=colour,
            linestyle={"": ":", "RSSM": "--"}.get(learner, "-"), label=f"{learner} {planner}".strip(),
        )  # fmt: skip
        shift += 0.04
    axes.set_xticks(sorted({number for of in found.values() for number in of}))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_policies(found: dict[tuple[str, str], dict[int, Cell]], path: Path) -> None:
    """Success of each model by each planner that all seeds were run with: a dot a seed, a line at their mean."""
    pyplot = _pyplot("policies")
    models = sorted({model for model, _ in found})
    doors = sorted({number for of in found.values() for number in of})
    most = max(len(cell.seeds) for of in found.values() for cell in of.values())
    whole = {key: of for key, of in found.items() if len(of[doors[0]].seeds) == most}
    planners = list(dict.fromkeys(planner for _, planner in whole))
    figure, places = pyplot.subplots(1, len(doors), figsize=(9, 0.5 + 0.42 * len(planners)), sharey=True)
    for axes, number in zip(places, doors, strict=True):
        for (model, planner), of in whole.items():
            if number not in of:
                continue
            place = planners.index(planner) + 0.24 * (models.index(model) - (len(models) - 1) / 2)
            rates = [good / count for good, count in of[number].seeds.values()]
            colour = f"C{models.index(model)}"
            label = model if planner == planners[0] else None
            axes.plot(rates, [place] * len(rates), "o", markersize=4, alpha=0.6, color=colour, label=label)
            axes.plot([sum(rates) / len(rates)] * 2, [place - 0.1, place + 0.1], linewidth=2, color=colour)
        axes.set(title=f"{number} locked door{'s' * (number > 1)}", xlabel="success", xlim=(-0.02, 1.02))
        axes.set_yticks(range(len(planners)), planners)
        axes.grid(axis="x", alpha=0.3)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    places[0].invert_yaxis()
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="center left", bbox_to_anchor=(0.82, 0.5), frameon=False)
    figure.tight_layout(rect=(0, 0, 0.82, 1))
    _save(figure, path)


def _pyplot(salt: str) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = salt
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    """As PNG and SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=130, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    _pyplot("").close(figure)
