"""Replicas that come and go and nodes that die, while sessions act: no step is lost, repeated or different."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from clients.http_client import PlanningClient
from tests.faults.support import PATIENT, Server
from tests.service.support import observe

pytest.importorskip("ray.serve", reason="no Ray: pip install -e '.[cluster]'")

import ray
from ray import serve
from ray.cluster_utils import Cluster as Nodes
from ray.serve.config import HTTPOptions

from clients.demo import free_ports
from service.cluster.deployment import application_of
from tests.cluster.conftest import Cluster
from tests.faults.stores import RedisServer

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

SESSIONS = 64


class Crowd:
    """Sessions that act, each in a thread of its own, until they are told to stop.

    Args:
        url: of the service.
    """

    def __init__(self, url: str) -> None:
        self.actions: list[list[bytes]] = [[] for _ in range(SESSIONS)]
        self.failures: list[BaseException] = []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._play, args=(seed,)) for seed in range(SESSIONS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(300)

    def _play(self, seed: int) -> None:
        try:
            with (
                PlanningClient(self._url, retries=PATIENT) as client,
                client.session("arm", seed=seed) as session,
            ):
                while not self._stop.wait(0.2):
                    step = len(self.actions[seed])
                    decision = session.decide(observe("arm", 1000 * seed + step), include=())
                    assert decision.step == step
                    self.actions[seed].append(np.asarray(decision.action).tobytes())
        except BaseException as error:
            self.failures.append(error)

    def goes_on(self, within_s: float = 120) -> None:
        """Every session has acted again."""
        before = [len(each) for each in self.actions]
        until = time.monotonic() + within_s
        while not all(len(now) > then + 1 for now, then in zip(self.actions, before, strict=True)):
            assert time.monotonic() < until and not self.failures, self.failures
            time.sleep(0.2)

    def check(self, repository: Path, folder: Path) -> None:
        """The same sessions on one undisturbed service do the same."""
        assert not self.failures, self.failures
        with Server(repository, folder) as alone, alone.client() as client:
            for seed, actions in enumerate(self.actions):
                with client.session("arm", seed=seed) as session:
                    for step, action in enumerate(actions):
                        again = session.act(observe("arm", 1000 * seed + step))
                        assert np.asarray(again).tobytes() == action, (seed, step)


def wait_for(condition: Callable[[], bool], within_s: float = 180) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.fixture
def nodes(repository: Path, tmp_path: Path) -> Iterator[tuple[Nodes, Cluster]]:
    """A head without replicas, two nodes with room for two each, and the service with one replica on them."""
    (port,) = free_ports(1)
    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    with RedisServer(tmp_path) as redis:
        try:
            for _ in range(2):
                made.add_node(num_cpus=2)
            ray.init(address=made.address, log_to_driver=False)
            serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host="127.0.0.1", port=port))
            serve.run(
                application_of({"models": repository, "threads": 1, "store": redis.url, "replicas": "1"}),
                name="thick",
            )
            cluster = Cluster(f"http://127.0.0.1:{port}", "", redis, tmp_path / "none")
            wait_for(lambda: cluster.ready(1))
            yield made, cluster
        finally:
            with contextlib.suppress(ray.exceptions.RayError):  # of a proxy that was still starting
                serve.shutdown()
            ray.shutdown()
            made.shutdown()


def test_a_node_that_dies_and_replicas_that_come_and_go_lose_no_step(
    nodes: tuple[Nodes, Cluster], repository: Path, tmp_path: Path
) -> None:
    made, cluster = nodes
    values = {"models": repository, "threads": 1, "store": cluster.redis.url}
    with Crowd(cluster.url) as crowd:
        crowd.goes_on()
        serve.run(application_of({**values, "replicas": "3"}), name="thick")
        wait_for(lambda: cluster.ready(3))
        crowd.goes_on()
        made.remove_node(made.list_all_nodes()[-1], allow_graceful=False)  # with one replica or two
        crowd.goes_on()
        serve.run(application_of({**values, "replicas": "1"}), name="thick")
        wait_for(lambda: cluster.ready(1))
        crowd.goes_on()
    (tmp_path / "alone").mkdir()
    crowd.check(repository, tmp_path / "alone")
    assert sum(map(len, crowd.actions)) > 10 * SESSIONS
