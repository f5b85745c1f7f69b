"""The table of experiments/options.yaml: python experiments/options.py [FOLDER] [--csv FILE]

``evaluated`` is the mean return of 32 episodes at the end, ``collected`` that of the episodes collected from update 200
on, ``learning`` that of all that the agent collected, so that learning early counts.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from pathlib import Path

COLUMNS = ("evaluated", "collected", "learning")
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""97.5 % quantile of Student's distribution by the number of seeds"""


def numbers(run: Path) -> dict[str, float]:
    """What a finished run is measured by."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    collected = [(line["update"], line["collected"]["mean_return"]) for line in lines if "collected" in line]
    found = [
        [line["evaluation"]["mean_return"] for line in lines if "evaluation" in line][-1],
        statistics.mean([value for update, value in collected if update >= 200] or [math.nan]),
        statistics.mean(value for _, value in collected),
    ]
    return dict(zip(COLUMNS, found, strict=True))


def interval(values: list[float]) -> str:
    """Mean and half of its 95 % interval."""
    if not all(map(math.isfinite, values)):
        return "–"
    half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.2f} ± {half:.2f}"


def main() -> None:
    """Print the table, and write the numbers of every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/options"))
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    rows = []
    for run in sorted(given.folder.glob("*-seed*")):
        option, _, seed = run.name.rpartition("-seed")
        rows.append({"option": option, "seed": int(seed), **numbers(run)})
    print("| option | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    for option in dict.fromkeys(row["option"] for row in rows):
        of = [row for row in rows if row["option"] == option]
        print(f"| {option} | " + " | ".join(interval([row[name] for row in of]) for name in COLUMNS) + " |")
    if given.csv:
        with open(given.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, ["option", "seed", *COLUMNS], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
