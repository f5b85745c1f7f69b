"""``thick export RUN``: a training run becomes an entry of a model repository, ready to be served."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from thick.cli import Command


def run(argv: list[str]) -> int:
    """Export the run that ``argv`` names; 0 if an entry was written."""
    arguments = _parser().parse_args(argv)
    from thick.export import EntryError, load_model

    try:
        path = export_run(arguments.run, out=arguments.out, name=arguments.name, version=arguments.version)
        loaded = load_model(path)
    except (EntryError, OSError) as error:
        print(f"thick export: {error}", file=sys.stderr)
        return 1
    manifest = loaded.manifest
    print(
        f"{path}: {manifest.kind} model of {manifest.task}, {manifest.weights.bytes / 1e6:.1f} MB of weights"
    )
    if manifest.provenance["results"] is None:
        print(
            f"No results in its manifest: `thick evaluate {arguments.run}` measures them; then export again."
        )
    print(f"Serve it: thick serve --models {arguments.out}")
    return 0


def export_run(run: Path, *, out: Path, name: str | None = None, version: str | None = None) -> Path:
    """Write the latest checkpoint of a training run as ``out/name/version``.

    Args:
        run: folder with ``config.yaml``, ``checkpoints/`` and maybe ``results.json``, from `thick train`.
        out: the model repository.
        name: None takes the one in the run's configuration.
        version: None takes the next whole number.

    Returns:
        The folder that was written.

    Raises:
        thick.manifest.EntryError: the folder holds no run, or not one of this release; or nothing can be
            written from it.
    """
    from thick.cli import installed_version
    from thick.envs import make
    from thick.envs.spaces import space_to_json
    from thick.export import EntryError, write_entry
    from thick.training.checkpoint import load_checkpoint
    from thick.training.config import load_config, to_dict

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
    env = make(config.env, **config.env_options)
    try:
        spaces = space_to_json(env.observation_space), space_to_json(env.action_space)
    finally:
        env.close()
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
        planner=config.planner,
        provenance={
            "description": config.description,
            "release": installed_version(),
            "updates": state["update"],
            "hours": round(state["seconds"] / 3600, 3),
            "env_steps": state["written"],
            "results": _results(run / "results.json"),
        },
        tensors={key[6:]: tensor for key, tensor in tensors.items() if key.startswith("model.")},
    )


def _results(path: Path) -> Any:
    """What `thick evaluate` measured; None if nothing yet."""
    from thick.export import EntryError

    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise EntryError(
            f"{path}: not valid JSON ({error}); evaluate the run again, or remove the file"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thick export",
        description="Write the latest checkpoint of a training run as NAME/VERSION of a model repository: "
        "the weights (model.safetensors), and beside them what they are, how to plan with them and how they "
        "were made (manifest.json). `thick serve --models DIR` serves all entries of a repository.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the training run")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("checkpoints"),
        help="model repository (default: checkpoints)",
    )
    parser.add_argument("--name", help="name of the model (default: the one in the run's configuration)")
    parser.add_argument("--version", help="version (default: one above the highest there is)")
    return parser


command = Command("export", "make a training run an entry of a model repository, to be served", run)
