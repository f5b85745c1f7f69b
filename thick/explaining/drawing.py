"""Strips of episodes and cards of segments, as matplotlib figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import gymnasium
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from thick.envs.pictures import picture
from thick.explaining.record import Change, EpisodeRecord, Prediction

matplotlib.rcParams["svg.hashsalt"] = "explain"

COLUMNS = 12
"""frames of a line of a strip"""
OPEN, EVENT, PAPER = "#e8730c", "#2f6bd7", "#fafaf8"


def strip(record: EpisodeRecord, space: gymnasium.Space, names: Sequence[str] | None = None) -> Figure:
    """A whole episode: what was seen, with a frame around steps on which a gate opened, and the gates below.

    Args:
        record: the episode.
        space: of observations.
        names: of discrete actions.
    """
    count = len(record.observations)
    lines = -(-count // COLUMNS)
    figure = Figure(figsize=(1.25 * COLUMNS, 2.05 * lines + 0.55), facecolor=PAPER)
    grid = figure.add_gridspec(
        2 * lines, COLUMNS, height_ratios=[1.0, 0.3] * lines, hspace=0.45, wspace=0.08,
        left=0.05, right=0.995, top=1 - 0.62 / (2.05 * lines + 0.55), bottom=0.1 / lines,
    )  # fmt: skip
    figure.suptitle(title(record), x=0.05, ha="left", fontsize=12)
    for step in range(count):
        line, column = divmod(step, COLUMNS)
        axes = figure.add_subplot(grid[2 * line, column])
        _image(axes, shown(record, step, space))
        label = f"{step}" if step == 0 else f"{step} {action_text(record.actions[step], names)}"
        axes.set_title(label, fontsize=7, pad=2)
        below = ", ".join(record.events[step])
        if record.rewards[step]:
            below = f"{below} r {record.rewards[step]:.2f}".strip()
        axes.set_xlabel(below, fontsize=7, color=EVENT, labelpad=1)
        if step in record.opened:
            _frame(axes, OPEN)
    gates = np.array(record.gates, bool)
    gates[0] = False
    for line in range(lines):
        axes = figure.add_subplot(grid[2 * line + 1, :])
        part = gates[line * COLUMNS : (line + 1) * COLUMNS]
        filled = np.zeros((COLUMNS, gates.shape[1]))
        filled[: len(part)] = part
        axes.imshow(filled.T, aspect="auto", cmap="Oranges", vmin=0, vmax=1.2, interpolation="nearest")
        axes.set_xticks(np.arange(COLUMNS + 1) - 0.5, [""] * (COLUMNS + 1))
        axes.set_yticks([])
        axes.set_ylabel("gates", fontsize=7)
        axes.grid(axis="x", color="0.85", linewidth=0.6)
        axes.tick_params(length=0)
    return figure


def cards(
    record: EpisodeRecord, change: Change, space: gymnasium.Space, names: Sequence[str] | None = None
) -> Figure:
    """A segment: what was, and what each high-level action would have led to.

    Args:
        record: the episode.
        change: the segment.
        space, names: as :func:`strip`.
    """
    count = len(change.predictions)
    figure = Figure(figsize=(1.75 * (count + 1) + 0.4, 4.8), facecolor=PAPER)
    grid = figure.add_gridspec(
        2, count + 1, left=0.045, right=0.99, top=0.83, bottom=0.195, hspace=0.12, wspace=0.25
    )
    what = "gates opened" if change.opened else "the episode ended"
    events = ", ".join(record.events[change.end])
    figure.suptitle(
        f"steps {change.begin} to {change.end}: {what}" + f" ({events})" * bool(events),
        x=0.045, ha="left", fontsize=11, y=0.975,
    )  # fmt: skip
    truth = [record.observations[change.end - 1], record.observations[change.end]]
    for row, (label, observation) in enumerate(zip(("before", "after"), truth, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        _image(axes, picture(observation, space))
        axes.set_ylabel(label, fontsize=9)
        if not row:
            axes.set_title("what happened", fontsize=9, fontweight="bold", pad=4)
    facts = [f"{change.end - change.begin} steps", f"by {action_text(record.actions[change.end], names)}"]
    facts.append(f"reward {record.rewards[change.end]:.2f}")
    figure.text(_middle(grid, 0), 0.175, "\n".join(facts), ha="center", va="top", fontsize=8)
    for column, prediction in enumerate(change.predictions, 1):
        for row, observation in enumerate((prediction.before, prediction.after)):
            axes = figure.add_subplot(grid[row, column])
            _image(axes, picture(observation, space))
            if prediction is change.likely:
                _frame(axes, EVENT)
            if not row:
                axes.set_title(_chances(prediction), fontsize=8, pad=4)
        figure.text(
            _middle(grid, column), 0.175, "\n".join(facts_of(prediction, names)), ha="center", va="top", fontsize=8
        )  # fmt: skip
    return figure


def facts_of(prediction: Prediction, names: Sequence[str] | None) -> list[str]:
    """What is said of a predicted jump, line by line."""
    ends = 1 - prediction.continuation
    return [
        f"{prediction.elapsed:.1f} steps",
        *([] if prediction.low_action is None else [f"by {action_text(prediction.low_action, names)}"]),
        f"reward {prediction.segment:z.2f}, then {prediction.reward:z.2f}",
        f"ends with {ends:.0%}",
    ]


def title(record: EpisodeRecord) -> str:
    """Of an episode."""
    outcome = {True: "success", False: "no success", None: "ended" if record.ended else "cut"}[record.success]
    opened = len(record.opened)
    return (
        f"seed {record.seed}: {len(record.observations) - 1} steps, return {sum(record.rewards):.2f}, {outcome}; "
        f"gates opened on {opened} of them (orange)"
    )


def action_text(action: Any, names: Sequence[str] | None) -> str:
    """``forward``, ``action 3``, ``[0.2 -1.0]``"""
    if np.ndim(action) == 0:
        index = int(action)
        return names[index] if names is not None and index < len(names) else f"action {index}"
    return "[" + " ".join(f"{value:.1f}" for value in np.ravel(action)[:4]) + "]"


def png(figure: Figure, *, dpi: int = 100) -> bytes:
    """The figure's picture; the same bytes from the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png", metadata={"Software": None}, facecolor=PAPER)
    return buffer.getvalue()


def shown(record: EpisodeRecord, step: int, space: gymnasium.Space) -> np.ndarray:
    """The frame that the environment rendered, or the observation as a picture."""
    frame = record.frames[step]
    return picture(record.observations[step], space) if frame is None else frame


def _chances(prediction: Prediction) -> str:
    text = f"A = {prediction.action}\np {prediction.prior:.2f}"
    return text if prediction.posterior is None else f"{text}   q {prediction.posterior:.2f}"


def _middle(grid: Any, column: int) -> float:
    left, right = grid.get_grid_positions(grid.figure)[2:]
    return float(left[column] + right[column]) / 2


def _image(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("0.8")


def _frame(axes: Any, colour: str) -> None:
    for side in axes.spines.values():
        side.set_color(colour)
        side.set_linewidth(3)
