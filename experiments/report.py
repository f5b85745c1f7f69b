"""Prints the tables and figures of docs/results.md again, from the committed CSV alone (`make results`).

    python experiments/report.py            # writes docs/results.md and docs/images/{horizon,policies}.{png,svg}
    python experiments/report.py --check    # says whether the page is what the CSV gives

What was not run is not in the CSV, and so not on the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.figures import Cell, draw_horizon, draw_policies  # noqa: E402
from thick.statistics import wilson  # noqa: E402

PAGE = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"
RESULTS = ROOT / "experiments" / "results"
NAMES = {
    "planet": "RSSM",
    "thick-planet": "THICK",
    "dreamer": "Dreamer",
    "crssm-dreamer": "C-RSSM Dreamer",
    "thick-dreamer": "THICK Dreamer",
}
"""of models, by what trains them"""
ORDER = (
    "random", "flat", "flat-x10", "flat-long", "low-mcts", "hierarchical", "ending", "small-kappa",
    "no-arrival-credit", "no-inserted-action", "no-redraw", "papers", "prior-subgoals", "random-subgoals",
    "ending-random", "flat-no-actor", "flat-bare", "ending-bare",
    "ending-random-bare", "flat-drawn", "hierarchical-drawn",
    "ending-drawn", "ending-random-drawn", "rollouts", "rollouts-ending", "rollouts-random", "policy", "policy-sampled",
)  # fmt: skip


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where the page differs"
    )
    options = parser.parse_args()
    names = ("horizon", "horizon-drawn", "policies", "online", "actions", "corridor-agent")
    rows, drawn, policies, online, actions, bundled = map(read, names)
    text = PAGE.read_text()
    anywhere = [row for row in rows if starts_anywhere(row)]
    first_room = [row for row in rows if not starts_anywhere(row)]
    blocks = {
        "horizon": horizon_table(first_room),
        "horizon-anywhere": horizon_table(anywhere),
        "horizon-runs": runs_table(rows),
        "horizon-drawn": horizon_table(drawn),
        "horizon-drawn-runs": runs_table(drawn),
        "policies": horizon_table(policies),
        "policies-runs": runs_table(policies),
        "online": horizon_table(online),
        "online-runs": runs_table(online),
        "corridor-agent": steps_table(bundled),
        "corridor-agent-runs": runs_table(bundled),
        "actions": actions_table(actions),
    }
    wanted = text
    for name, block in blocks.items():
        wanted = replaced(wanted, name, block)
    if options.check:
        if wanted != text:
            print("docs/results.md is not what the CSV gives: make results", file=sys.stderr)
        return int(wanted != text)
    PAGE.write_text(wanted)
    panels = {"starts in the first room": cells(first_room), "starts anywhere": cells(anywhere)}
    draw_horizon(panels, IMAGES / "horizon")
    draw_policies(cells(policies), IMAGES / "policies")
    print("\n\n".join(blocks.values()))
    return 0


def read(name: str) -> list[dict[str, str]]:
    """The rows of a CSV of experiments/results."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def replaced(text: str, name: str, block: str) -> str:
    """The page with what stands between the marks of a block replaced.

    Raises:
        ValueError: the marks are missing.
    """
    begin, end = f"<!-- printed: {name} -->\n", f"<!-- end: {name} -->"
    head, found, rest = text.partition(begin)
    _, also, tail = rest.partition(end)
    if not found or not also:
        raise ValueError(f"docs/results.md: no block {begin.strip()} … {end}")
    return f"{head}{begin}\n{block}\n\n{end}{tail}"


def cells(rows: list[dict[str, str]]) -> dict[tuple[str, str], dict[int, Cell]]:
    """By (learner, planner) and number of doors. Random play needs no model and counts once."""
    found: dict[tuple[str, str], dict[int, Cell]] = defaultdict(dict)
    for row in rows:
        learner = "" if row["planner"] == "random" else NAMES[row["learner"]]
        doors = int(row["task"].partition("corridor-")[2].partition("+")[0])
        steps = [int(step) for step in row["steps"].split()]
        old = found[learner, row["planner"]].get(doors, Cell(0, 0, {}, [], []))
        if not learner and old.episodes:
            continue
        seed = old.seeds.get(row["seed"], (0, 0))
        successes, episodes = sum(step > 0 for step in steps), len(steps)
        found[learner, row["planner"]][doors] = Cell(
            old.successes + successes,
            old.episodes + episodes,
            {**old.seeds, row["seed"]: (seed[0] + successes, seed[1] + episodes)},
            old.steps + [step for step in steps if step > 0],
            [*old.milliseconds, float(row["ms_per_step"])],
        )
    return dict(sorted(found.items(), key=lambda item: (ORDER.index(item[0][1]), item[0][0])))


def starts_anywhere(row: dict[str, str]) -> bool:
    """Whether its episodes began anywhere along the corridor, doors opened and keys taken accordingly."""
    return bool(json.loads(row["env_options"]).get("exploring_starts", False))


def horizon_table(rows: list[dict[str, str]]) -> str:
    """Success by doors, pooled over seeds, with Wilson intervals."""
    found = cells(rows)
    doors = sorted({number for of in found.values() for number in of})
    imagined = {row["planner"]: row["imagined_steps"] for row in rows}
    lines = [
        "| Model | Planner | imagined steps an act | "
        + " | ".join(f"N = {number}" for number in doors)
        + " |",
        "|---" * (3 + len(doors)) + "|",
    ]
    for (learner, planner), of in found.items():
        shown = [_rate(of[number]) if number in of else "" for number in doors]
        lines.append(
            f"| {learner or '–'} | `{planner}` | {int(imagined[planner]):,} | " + " | ".join(shown) + " |"
        )
    return "\n".join(lines)


def steps_table(rows: list[dict[str, str]]) -> str:
    """Success of one model by doors, with Wilson intervals, and the mean steps of the episodes that succeeded."""
    found = cells(rows)
    doors = sorted({number for of in found.values() for number in of})
    heads = "".join(f" N = {number} | steps |" for number in doors)
    lines = [f"| Planner | ms a step |{heads}", "|---" * (2 + 2 * len(doors)) + "|"]
    for (_, planner), of in found.items():
        taken = [ms for cell in of.values() for ms in cell.milliseconds]
        line = f"| `{planner}` | {sum(taken) / len(taken):.1f} |"
        for number in doors:
            steps = of[number].steps if number in of else []
            shown = (
                _rate(of[number]) if number in of else "",
                f"{sum(steps) / len(steps):.1f}" if steps else "",
            )
            line += f" {shown[0]} | {shown[1]} |"
        lines.append(line)
    return "\n".join(lines)


def actions_table(rows: list[dict[str, str]]) -> str:
    """What the actions of high levels say of how segments end, and how right they are."""
    lines = [
        "| run | segments | information, nats | of shuffled events, mean (95 %) | of at most | actions used "
        "| steps off, by the posterior's action | by the prior's | always their mean | bias |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        n = {name: float(value) for name, value in row.items() if name != "run"}
        lines.append(
            f"| {row['run']} | {n['segments']:.0f} | {n['information']:.3f} | {n['shuffled_mean']:.3f} "
            f"({n['shuffled_95']:.3f}) | {n['events_entropy']:.2f} | {n['actions_used']:.1f} of 5 "
            f"| {n['elapsed_error']:.1f} | {n['elapsed_by_prior_error']:.1f} | {n['elapsed_mean_error']:.1f} "
            f"| {n['elapsed_bias']:+.1f} |"
        )
    return "\n".join(lines)


def _rate(cell: Cell) -> str:
    low, high = wilson(cell.successes, cell.episodes)
    text = f"{100 * low:.0f}–{100 * high:.0f}; n = {cell.episodes}"
    if len(cell.seeds) > 1:
        text += f", seeds: {', '.join(f'{100 * good / of:.0f}' for good, of in cell.seeds.values())}"
    return f"{100 * cell.successes / cell.episodes:.0f} % ({text})"


def runs_table(rows: list[dict[str, str]]) -> str:
    """The runs behind the rows."""
    columns = ("seed", "updates", "parameters", "processor")
    commits: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        if row["planner"] != "random":
            configuration = f"`{row['configuration']}` ({row['digest']})"
            run = (NAMES[row["learner"]], configuration, *(row[name] for name in columns))
            commits[run].add(row["commit"])
    lines = [
        "| Model | configuration | seed | updates | weights | evaluated at commit | processor |",
        "|---" * 7 + "|",
    ]
    for run, at in sorted(commits.items()):
        name, configuration, seed, updates, weights, processor = run
        cells = (
            name,
            configuration,
            seed,
            f"{int(updates):,}",
            f"{int(weights):,}",
            ", ".join(sorted(at)),
            processor,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
