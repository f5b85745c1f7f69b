"""``thick export RUN``: a training run becomes an entry of a model repository, ready to be served."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thick.arguments import Parser, folder_to_write
from thick.cli import Command

if TYPE_CHECKING:
    import gymnasium

    from thick.training.config import TrainConfig


def run(argv: list[str]) -> int:
    """Export the run that ``argv`` names; 0 if an entry was written."""
    arguments = _parser().parse_args(argv)
    from thick.envs import MissingPackageError
    from thick.export import EntryError, load_model
    from thick.manifest import MANIFEST, VerificationError
    from thick.planning.settings import planner_changes

    try:
        if arguments.onnx and (arguments.run / MANIFEST).is_file():
            return _add_to_entry(arguments)
        path = export_run(
            arguments.run,
            out=arguments.out,
            name=arguments.name,
            version=arguments.version,
            planner=planner_changes(arguments.set),
            env_id=arguments.env,
            onnx=arguments.onnx,
        )
        loaded = load_model(path)
    except (EntryError, ValueError, OSError, MissingPackageError) as error:
        print(f"thick export: {error}", file=sys.stderr)
        return 1 if isinstance(error, VerificationError) else 2
    manifest = loaded.manifest
    print(
        f"{path}: {manifest.kind} model of {manifest.task}, {manifest.weights.bytes / 1e6:.1f} MB of weights"
    )
    if manifest.provenance["results"] is None:
        measure = f"thick evaluate {shlex.quote(str(arguments.run))}"
        print(f"No results in its manifest: `{measure}` measures them; then export again.")
    if manifest.graphs:
        print(f"{len(manifest.graphs)} ONNX graphs, which agree with torch to 1e-4")
    print(f"Serve it: thick serve --models {shlex.quote(str(arguments.out))}")
    return 0


def _add_to_entry(arguments: argparse.Namespace) -> int:
    """Graphs for an entry that is there already."""
    from thick.export import EntryError
    from thick.runtimes.onnx.export import add_graphs

    if arguments.name or arguments.version or arguments.set or arguments.env:
        raise EntryError(
            f"{arguments.run} is an entry of a model repository, to which --onnx adds graphs and nothing else: leave "
            "--name, --version, --set and --env out, or export the run"
        )
    files = add_graphs(arguments.run)
    size = sum(each.bytes for each in files.values())
    print(f"{arguments.run}: {len(files)} ONNX graphs, {size / 1e3:.0f} kB, which agree with torch to 1e-4")
    return 0


def export_run(
    run: Path,
    *,
    out: Path,
    name: str | None = None,
    version: str | None = None,
    planner: dict[str, Any] | None = None,
    env_id: str | None = None,
    onnx: bool = False,
) -> Path:
    """Write the latest checkpoint of a training run as ``out/name/version``.

    Args:
        run: folder with ``config.yaml``, ``checkpoints/`` and maybe ``results.json``, from `thick train`.
        out: the model repository.
        name: None takes the one in the run's configuration.
        version: None takes the next whole number.
        planner: planner defaults that replace or join those of the run's configuration.
        env_id: how the environment is called in the manifest, where it moved since the training.
        onnx: write the graphs for the backend `onnx` too.

    Returns:
        The folder that was written.

    Raises:
        thick.manifest.EntryError: the folder holds no run, or not one of this release; or nothing can be
            written from it.
        ValueError: the model cannot plan as ``planner`` says.
    """
    from thick.configuration import to_dict
    from thick.envs import make
    from thick.export import EntryError, write_entry
    from thick.spaces import space_to_json
    from thick.training.checkpoint import load_checkpoint
    from thick.training.config import load_config

    complete: Callable[[Path], object] | None = None
    if onnx:
        from thick.runtimes.onnx.export import add_graphs

        complete = add_graphs

    path = run / "config.yaml"
    if not path.is_file():
        raise EntryError(
            f"{run} holds no training run: {path} does not exist; name the folder of a `thick train`"
        )
    try:
        config = load_config(path)
        tensors, state = load_checkpoint(run / "checkpoints")
    except (ValueError, FileNotFoundError) as error:
        raise EntryError(f"{run}: {error}") from error
    config = dataclasses.replace(config, env=env_id or config.env)
    env = make(config.env, **config.env_options)
    try:
        spaces = space_to_json(env.observation_space), space_to_json(env.action_space)
    finally:
        env.close()
    _check_planner(planner or {}, config, env.action_space)
    configuration = to_dict(config)
    for elsewhere in ("name", "description", "planner"):
        configuration.pop(elsewhere)
    return write_entry(
        out,
        name=config.name if name is None else name,
        version=version,
        kind=config.model.kind,
        task=config.env,
        observation_space=spaces[0],
        action_space=spaces[1],
        configuration=configuration,
        planner={**config.planner, **(planner or {})},
        provenance=provenance(run, config, state),
        tensors={key[6:]: tensor for key, tensor in tensors.items() if key.startswith("model.")},
        complete=complete,
    )


def _check_planner(planner: Mapping[str, Any], config: TrainConfig, action_space: gymnasium.Space) -> None:
    """ValueError where a default names a way of planning that the model has not: it would load nowhere."""
    from thick.envs.actions import ActionCodec
    from thick.planning import table
    from thick.planning.settings import PlannerSettings

    PlannerSettings().updated(planner)
    has = [table.DISCRETE if ActionCodec(action_space).discrete else table.CONTINUOUS]
    has += [table.HIGH_LEVEL] if config.model.levels else []
    has += [table.ACTOR] if config.model.behaviour != "none" else []
    for setting in ("method", "low"):
        if setting in planner:
            table.check(setting, planner[setting], has)


def provenance(run: Path, config: TrainConfig, state: dict[str, Any]) -> dict[str, Any]:
    """How a model came to be and what it was measured to do, from the files of its run.

    Args:
        run: the run's folder.
        config: its configuration.
        state: of its latest checkpoint.

    Raises:
        thick.manifest.EntryError: ``metrics.jsonl`` or ``results.json`` is damaged.
    """
    from thick.cli import installed_version

    events = _last_events(run / "metrics.jsonl", ("data", "collected", "gates", "init"))
    return {
        "description": config.description,
        "release": installed_version(),
        "command": training_command(config),
        "updates": state["update"],
        "hours": round(state["seconds"] / 3600, 3),
        # None where all steps came from a data set, which counts its own.
        "env_steps": state.get("env_steps") or None,
        "data": events.get("collected", events.get("data")),
        "gates": events.get("gates"),
        # Where the weights began, if not at random: a run's configuration, or an entry's provenance.
        "init": events.get("init"),
        "results": _results(run / "results.json"),
    }


def training_command(config: TrainConfig) -> str:
    """A short `thick train` that gives this configuration: the nearest presets, and what differs from them."""
    from thick.configuration import differences
    from thick.training.config import load_config, presets

    known = presets()
    taken: tuple[str, ...] = ()
    reached = load_config()
    rest = differences(reached, config)
    while True:
        candidates = {}
        for name in known:
            # Presets that do not go together are no candidates, nor are whole recipes of another task.
            with contextlib.suppress(ValueError):
                preset = load_config(name, base=reached)
                if "/" in name or preset.env == config.env:
                    candidates[name] = preset, differences(preset, config)
        name = min(candidates, key=lambda name: (len(candidates[name][1]), name != config.name, name))
        if taken and len(candidates[name][1]) >= len(rest):
            break
        taken, (reached, rest) = (*taken, name), candidates[name]
    words = ["thick", "train", *(word for name in taken for word in ("--preset", name))]
    for field, value in rest.items():
        words += [f"--{field}", shlex.quote(value if isinstance(value, str) else json.dumps(value))]
    return " ".join(words)


def _last_events(path: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The last content of each kind of event in a run's log."""
    from thick.export import EntryError

    events: dict[str, Any] = {}
    if not path.is_file():
        return events
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break  # the line that was being written when the run was killed
        try:
            content = json.loads(line)
        except ValueError as error:
            raise EntryError(f"{path}, line {number}: not valid JSON ({error}); remove the line") from error
        events |= {kind: content[kind] for kind in kinds if kind in content}
    return events


def _results(path: Path) -> Any:
    """What `thick evaluate` measured, without its lists of episodes; None if nothing yet."""
    from thick.export import EntryError

    if not path.is_file():
        return None
    try:
        results = json.loads(path.read_text())
        for measured in results["methods"].values():
            measured.pop("episodes", None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EntryError(
            f"{path} is no result of `thick evaluate` ({error!r}); evaluate the run again"
        ) from error
    return results


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="thick export",
        description="Write the latest checkpoint of a training run as NAME/VERSION of a model repository: "
        "the weights (model.safetensors), and next to them what they are, how to plan with them and how they "
        "were made (manifest.json). `thick serve --models DIR` serves all entries of a repository.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="folder of the training run; with --onnx also an entry NAME/VERSION, to which graphs are added",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="write the model's steps as ONNX graphs too, verified against torch on the environment: what "
        "`thick serve --backend onnx` runs without torch and without a compiler",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=folder_to_write,
        default=Path("checkpoints"),
        help="model repository (default: checkpoints)",
    )
    parser.add_argument("--name", help="name of the model (default: the one in the run's configuration)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="planner default of the entry, such as samples=200 (otherwise the run's)",
    )
    parser.add_argument(
        "--env",
        metavar="ID",
        help="what the environment is called where the model is driven (as in training)",
    )
    parser.add_argument("--version", help="version (default: one above the highest there is)")
    return parser


command = Command("export", "make a training run an entry of a model repository, to be served", run)
