"""The same models behind LitServe, with its batching and its fast queue.

    python benchmarks/serving/litserve_app.py --models DIR --port P

LitServe has no sessions: its worker process keeps them in memory. There is no check of the input, no
exactly-once, no store; what those cost the service is part of the comparison. With several workers each has a table of
its own, and a session is in whichever got its request: as quick as it can be, and wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

try:
    import litserve
except ModuleNotFoundError as error:
    sys.exit(f"{Path(__file__).name}: {error}; it is compared where it is installed: pip install litserve")

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.serving.forms import array, plain
from benchmarks.serving.recurrent import Policies


class Planner(litserve.LitAPI):
    """Observation in, action out."""

    def __init__(self, repository: Path, threads: int, *, max_batch: int, wait_s: float) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=wait_s)
        self._repository, self._threads = repository, threads

    def setup(self, device: str) -> None:
        self._policies = Policies(self._repository, self._threads)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        # Without an annotation LitServe hands over the parsed JSON, without a check by pydantic.
        return {**request, "observation": array(request["observation"])}

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, inputs: list[dict[str, Any]]) -> list[Any]:
        return self._policies.act(inputs)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"action": plain(output)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--batch-wait-ms", type=float, default=1.0)
    parser.add_argument("--slow-queue", action="store_true", help="without LitServe's fast_queue")
    parser.add_argument(
        "--workers", type=int, default=1, help="that run models, and as many that answer HTTP"
    )
    given = parser.parse_args()
    planner = Planner(
        given.models, given.threads, max_batch=given.max_batch, wait_s=given.batch_wait_ms / 1e3
    )
    server = litserve.LitServer(
        planner,
        accelerator="cpu",
        workers_per_device=given.workers,
        fast_queue=not given.slow_queue,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=given.port,
        num_api_servers=given.workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
