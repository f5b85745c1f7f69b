"""The command-line flag with an environment's options, the same in every command that makes one."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.])[A-Za-z_][\w./-]*')
_CONSTANTS = ("true", "false", "null")


def read_options(text: str) -> dict[str, Any]:
    """Options from JSON, in which words need no quotes: ``{split: train, length: 5}``.

    Raises:
        ValueError: it is something else.
    """
    quoted = _WORD.sub(lambda found: _quoted(found[0]), text)
    value = None
    for form in (text, quoted):
        try:
            value = json.loads(form)
            break
        except ValueError:
            continue
    if not isinstance(value, dict):
        raise ValueError(f"expected options by name, such as '{{split: train}}', got {text!r}")
    return value


def _quoted(word: str) -> str:
    return word if word.startswith('"') or word in _CONSTANTS else json.dumps(word)


def add_env_options(parser: argparse.ArgumentParser) -> None:
    """``--env_options``: a dict, None where it is not given."""
    parser.add_argument(
        "--env_options",
        "--env-options",
        type=_argument,
        metavar="OPTIONS",
        help="options of the environment, such as '{split: test}' (see docs/environments.md)",
    )


def _argument(text: str) -> dict[str, Any]:
    try:
        return read_options(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
