"""One self-contained HTML page of explained episodes; its pictures as PNG files next to it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import gymnasium

from thick.explaining import drawing
from thick.explaining.record import EpisodeRecord
from thick.files import write_atomically

PAGE = "explain.html"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #2d3038; background: #fafaf8; margin: 2em auto; max-width: 1240px;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em; }
img { max-width: 100%; display: block; margin: .6em 0; } .note { color: #666; } summary { cursor: pointer; }
td, th { padding: .1em .8em; text-align: right; } th { font-weight: 600; border-bottom: 1px solid #ccc; }
"""
LEGEND = (
    "Each strip is an episode: what was seen at each step, the action that led there, the environment's own events in "
    "blue, and an orange frame where gates opened, that is, where the context changed. Below it, one card a segment: "
    "from the state in which the segment began, where each high-level action A leads: the decoded state just before "
    "the change, what follows it, after how many steps, by which low-level action, and with what reward. p is "
    "the prior over A, q, where it is shown, the posterior given what then happened; the most probable action has a "
    "blue frame."
)


def write(
    folder: Path,
    episodes: Sequence[EpisodeRecord],
    space: gymnasium.Space,
    *,
    heading: str,
    note: str,
    names: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Write ``explain.html`` and its pictures into a folder.

    Args:
        folder: made where it is missing.
        episodes: those to show.
        space: of observations.
        heading, note: what the page says above them.
        names: of discrete actions.
        progress: called with the number of drawn episodes.

    Returns:
        The files, the page first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{escape(heading)}</h1><p class=note>{escape(note)}</p><p>{escape(LEGEND)}</p>"]
    files = [folder / PAGE]

    def show(name: str, figure: drawing.Figure, words: str) -> str:
        picture = drawing.png(figure)
        files.append(folder / name)
        write_atomically(files[-1], picture)
        data = base64.b64encode(picture).decode()
        return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'

    for index, episode in enumerate(episodes):
        words = drawing.title(episode)
        parts.append(f"<h2>{escape(words)}</h2>")
        parts.append(show(f"episode-{index}.png", drawing.strip(episode, space, names), words))
        for place, change in enumerate(episode.changes):
            words = f"segment from step {change.begin} to {change.end}"
            parts.append(
                show(f"episode-{index}-{place}.png", drawing.cards(episode, change, space, names), words)
            )
        if not episode.changes:
            parts.append("<p>No gate opened, and the episode did not end by itself: there is no segment.</p>")
        progress(index + 1)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(heading)}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    write_atomically(files[0], page.encode())
    return files
