"""The session store fails: Redis goes and comes back, its answers are lost, files are damaged, the disk is
full."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from clients.errors import BusyError, NotFoundError, ServiceError
from clients.session import Session
from service.core import Clock
from service.protocol import media
from service.protocol.errors import ProblemError
from tests.faults.proxy import BadNetwork
from tests.faults.stores import RedisServer, SQLiteKept
from tests.faults.support import PATIENT, Server, observation
from tests.faults.truth import Episode, differences
from tests.service.support import running

QUICK = {"method": "policy"}


def acting(session: Session, episode: Episode, steps: int) -> None:
    """Acts of a session, noted in its episode."""
    for _ in range(steps):
        body = {"observation": observation(episode.seed, len(episode.actions))}
        decision = session.decide(**body, include=())
        assert decision.step == len(episode.actions)
        episode.asked.append({**body, "include": []})
        episode.actions.append(decision.action)


def begun(client: Any, seed: int, steps: int = 0) -> tuple[Session, Episode]:
    """A session, and what it was asked so far."""
    session = client.session("arm", seed=seed, planner=QUICK)
    episode = Episode("arm", seed, QUICK)
    acting(session, episode, steps)
    return session, episode


def refusal(response: httpx.Response) -> dict[str, Any]:
    """The problem of an answer that says: the store cannot be used, nothing has changed, come again."""
    problem: dict[str, Any] = response.json()
    assert response.status_code == 503 and problem["code"] == "store_unavailable", problem
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["content-type"] == media.PROBLEM_JSON
    return problem


# -- Redis ---------------------------------------------------------------------------------------------------


def test_redis_gone_and_back_is_reported_as_busy_and_loses_nothing(small: Path, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis, Server(small, tmp_path, store=redis.url) as server:
        with server.client() as client, server.http() as http:
            session, episode = begun(client, 1, 3)
            idle, quiet = begun(client, 2, 2)
            redis.kill()
            act = {"observation": observation(1, 3).tolist(), "step": 3, "include": []}
            for verb, path, body in (
                ("POST", f"/v1/sessions/{session.id}/act", act),
                ("POST", "/v1/sessions", {"model": "arm"}),
                ("POST", f"/v1/sessions/{session.id}/reset", None),
                ("POST", f"/v1/sessions/{session.id}/fork", None),
                ("DELETE", f"/v1/sessions/{session.id}", None),
                ("GET", f"/v1/sessions/{session.id}", None),
                ("GET", "/v1/sessions", None),
            ):
                refusal(http.request(verb, path, json=body))
            assert http.get("/health/live").status_code == http.get("/v1/models").status_code == 200
            redis.start()
            acting(session, episode, 2)
            acting(idle, quiet, 2)
            assert session.refresh().step == 5

            redis.freeze()  # it accepts, and says nothing
            began = time.monotonic()
            refusal(http.post(f"/v1/sessions/{session.id}/act", json={**act, "step": 5}))
            took = time.monotonic() - began
            began = time.monotonic()
            hurried = {**act, "step": 5, "planner": {"deadline_ms": 100}}
            refusal(http.post(f"/v1/sessions/{session.id}/act", json=hurried))
            assert time.monotonic() - began < took / 2, "a deadline bounds the wait for the store too"
            assert http.get("/health/live").status_code == 200
            redis.thaw()
            patient = server.client(retries=PATIENT)
            with patient:
                acting(patient.attach(session.id), episode, 2)
        assert "Traceback" not in server.logged
    assert not differences(small, [episode, quiet])


def test_an_answer_of_redis_that_is_lost_does_not_make_a_write_somebody_else_s(
    small: Path, tmp_path: Path
) -> None:
    with RedisServer(tmp_path) as redis, BadNetwork(redis.url) as network:
        with Server(small, tmp_path, store=f"{network.url}/0") as server, server.client() as client:
            session, episode = begun(client, 1, 2)
            for after in (0, 1, 0, 1):  # the answer to the question for the revision, or to the write
                network.lose_answers(1, after=after)
                acting(session, episode, 1)
            network.lose_answers(1, after=1)
            session.reset()
            network.lose_answers(1)
            other, quiet = begun(client, 2, 1)
            assert network.lost == 6
            again = Episode(episode.model, episode.seed, episode.planner)
            acting(session, again, 2)
            assert {info.session_id for info in client.sessions()} == {session.id, other.id}
        assert "Traceback" not in server.logged
    assert not differences(small, [episode, again, quiet])


def test_another_replica_takes_over_where_the_killed_one_stopped(small: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with RedisServer(tmp_path) as redis:
        one, two = (Server(small, folder, store=redis.url) for folder in folders)
        with one, two, one.client() as near, two.client() as far:
            session, episode = begun(near, 1, 2)
            elsewhere = far.attach(session.id)
            for _ in range(3):  # both in turn
                for each in (elsewhere, session):
                    assert each.refresh().step == len(episode.actions)
                    acting(each, episode, 1)
                    for replica in (near, far):
                        assert [info.step for info in replica.sessions()] == [len(episode.actions)]
            slots = [server.stats()["models"][0]["slots"] for server in (one, two)]
            assert max(slots) == 2, "the fresh state, and one for the session"
            one.kill()
            last = repeat(elsewhere, episode)
            assert last.replayed and np.array_equal(last.action, episode.actions[-1])
            acting(elsewhere, episode, 2)
    assert not differences(small, [episode])


@pytest.mark.parametrize("how", ["closed", pytest.param("silent", marks=pytest.mark.slow)])
def test_a_replica_that_is_cut_off_from_redis_answers_nothing_and_comes_back_to_what_others_did_meanwhile(
    how: str, small: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with RedisServer(tmp_path) as redis, BadNetwork(redis.url) as network:
        one = Server(small, folders[0], store=f"{network.url}/0")
        two = Server(small, folders[1], store=redis.url)
        with one, two, one.client() as near, two.client() as far, one.http() as http:
            session, episode = begun(near, 1, 3)  # its state is in the memory of both
            elsewhere = far.attach(session.id)
            acting(elsewhere, episode, 2)
            session.refresh()
            acting(session, episode, 1)
            network.part(how)
            act = {"observation": observation(1, 6).tolist(), "step": 6, "include": []}
            refusal(http.post(f"/v1/sessions/{session.id}/act", json=act))
            old = {"observation": observation(1, 5).tolist(), "step": 5, "include": []}
            refusal(http.post(f"/v1/sessions/{session.id}/act", json=old))  # even what it has answered before
            refusal(http.get(f"/v1/sessions/{session.id}"))
            elsewhere.refresh()
            acting(elsewhere, episode, 2)
            network.join()
            patient = one.client(retries=PATIENT)
            with patient:
                back = patient.attach(session.id)
                assert back.step == len(episode.actions) == 8
                last = repeat(back, episode)
                assert last.replayed and np.array_equal(last.action, episode.actions[-1])
                acting(back, episode, 2)
            acting(far.attach(session.id), episode, 1)
        assert "Traceback" not in one.logged + two.logged
    assert not differences(small, [episode])


# -- damaged files -------------------------------------------------------------------------------------------


def test_a_damaged_session_file_costs_the_sessions_in_its_damaged_parts_alone(
    small: Path, tmp_path: Path
) -> None:
    kept = SQLiteKept(tmp_path)
    with Server(small, tmp_path, store=kept.url) as server:
        with server.client() as client:
            sessions = [begun(client, seed, 2) for seed in range(12)]
            flipped = sessions[-1][0]
            state = flipped.belief()
        assert server.stop() == 0
        flip_a_bit(kept.path, state)  # a database still, but not what was written
        damage(kept.path, page=kept.path.stat().st_size // PAGE // 2)
        server.start()
        with server.client() as client:
            whole = [pair for pair in sessions if still_there(client, pair[0])]
            for session, episode in whole:
                acting(client.attach(session.id), episode, 1)
            assert {info.session_id for info in client.sessions()} == {session.id for session, _ in whole}
            acting(*begun(client, 99), 1)
        assert flipped.id not in [session.id for session, _ in whole]
        assert 6 <= len(whole) <= len(sessions) - 2
        assert list(tmp_path.glob("sessions.sqlite.damaged-*")), "what was damaged is kept for whoever asks"
        assert "the session file was damaged" in server.logged and "Traceback" not in server.logged
    assert not differences(small, [episode for _, episode in whole])


def still_there(client: Any, session: Session) -> bool:
    """Whether a session can be used."""
    try:
        client.attach(session.id).belief()
    except NotFoundError:
        return False
    return True


async def test_a_file_that_is_no_database_is_put_aside(small: Path, tmp_path: Path) -> None:
    kept = SQLiteKept(tmp_path)
    kept.path.write_bytes(b"this is no database" * 1000)
    async with running(small, store=kept.url) as service:
        made = await service.lifecycle.create({"model": "arm"})
        await service.act(made["session_id"], {"observation": observation(1)}, Clock())
    (aside,) = tmp_path.glob("sessions.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert list(await asyncio.to_thread(kept.heads)) == [made["session_id"]]


async def test_a_flipped_bit_costs_one_session_and_no_other(small: Path, tmp_path: Path) -> None:
    kept = SQLiteKept(tmp_path)
    async with running(small, store=kept.url) as service:
        hit, spared = [await service.lifecycle.create({"model": "arm"}) for _ in range(2)]
        for each in (hit, spared):
            await service.act(each["session_id"], {"observation": observation(each["seed"])}, Clock())
        state = await service.lifecycle.export(hit["session_id"])
    flip_a_bit(kept.path, state)
    async with running(small, store=kept.url) as service:
        with pytest.raises(ProblemError, match="lost its state"):
            await service.act(hit["session_id"], {"observation": observation(2)}, Clock())
        answer = await service.act(spared["session_id"], {"observation": observation(2)}, Clock())
        assert answer["step"] == 1
        listed = await service.lifecycle.listed()
        assert [each["session_id"] for each in listed["sessions"]] == [spared["session_id"]]


PAGE = 4096


def damage(path: Path, *, page: int) -> None:
    """Overwrite one page of a database."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(np.random.default_rng(0).bytes(PAGE))


def flip_a_bit(path: Path, state: bytes) -> None:
    """Change one bit of a state that a file holds."""
    content = bytearray(path.read_bytes())
    pieces = (state[at : at + 32] for at in range(len(state) // 2, len(state), 32))
    piece = next(each for each in pieces if content.count(each) == 1 and len(set(each)) > 8)
    content[content.index(piece) + 16] ^= 4
    path.write_bytes(content)


# -- full disk -----------------------------------------------------------------------------------------------


@contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """A file system of four megabytes at ``folder``."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True, capture_output=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def ways_to_be_full() -> list[str]:
    """A limit on the size of the process's files always works; a file system of our own where we may mount one."""
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    may_mount = shutil.which("unshare") and subprocess.run(probe, capture_output=True).returncode == 0
    return ["file size limit", *(["full file system"] if may_mount else [])]


@pytest.mark.parametrize("way", ways_to_be_full())
def test_a_full_disk_is_reported_as_busy_and_nothing_is_lost_once_there_is_room(
    small: Path, tmp_path: Path, way: str
) -> None:
    with room(way, tmp_path) as (folder, fill):
        kept = SQLiteKept(folder)
        with Server(small, tmp_path, store=kept.url, access_log="false") as server:
            with server.client() as client, server.http() as http:
                session, episode = begun(client, 1, 3)
                fill(server, True)
                full = until_full(session, episode)
                assert full.code == "store_unavailable" and full.retry_after
                refusal(http.post("/v1/sessions", json={"model": "arm"}))
                assert session.refresh().step == len(episode.actions)
                again = repeat(session, episode)
                assert again.replayed, "what was answered is still known"
                assert http.get("/health/ready").status_code == 200
                fill(server, False)
                acting(session, episode, 3)
            server.kill()
            server.start()
            with server.client() as client:
                acting(client.attach(session.id), episode, 1)
            assert "Traceback" not in server.logged
    assert not differences(small, [episode])


@contextmanager
def room(way: str, tmp_path: Path) -> Iterator[tuple[Path, Callable[[Server, bool], None]]]:
    """A folder for the store, and how to make it full or empty again for a server."""
    if way == "file size limit":

        def limit(server: Server, full: bool) -> None:
            wal = tmp_path / "sessions.sqlite-wal"
            most = max(wal.stat().st_size, server.log.stat().st_size) if full else -1
            server.figures().rlimit(psutil.RLIMIT_FSIZE, (most, -1))

        yield tmp_path, limit
        return
    with small_file_system(tmp_path / "small") as folder:
        ballast = folder / "ballast"

        def fill(server: Server, full: bool) -> None:
            if not full:
                ballast.unlink()
                return
            with ballast.open("wb", buffering=0) as file:
                while file.write(bytes(PAGE)):
                    if shutil.disk_usage(folder).free < PAGE:
                        return

        yield folder, fill


def until_full(session: Session, episode: Episode) -> ServiceError:
    """Act until the disk is full: a store may have a little room left in what it has."""
    for _ in range(400):
        try:
            acting(session, episode, 1)
        except BusyError as error:
            return error
    raise AssertionError("the disk is never full")


def repeat(session: Session, episode: Episode) -> Any:
    """Ask for the last answer again."""
    session.step = len(episode.actions) - 1
    return session.decide(**{**episode.asked[-1], "include": ()})
