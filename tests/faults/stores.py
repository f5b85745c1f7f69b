"""Session stores outside the server under test: a real ``redis-server``, and files as ``kill -9`` left them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from clients.demo import free_ports, tail
from service.stores.redis import RedisStore
from service.stores.sqlite import SQLiteStore
from tests.faults.support import until
from tests.faults.truth import read_store


class RedisServer:
    """A ``redis-server`` that keeps every write; it can be killed and started again. A context manager."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        """Start a process and wait until it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: as root, apt-get install redis-server"
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        log = self._folder / "redis.log"
        with log.open("ab") as sink:
            self._process = subprocess.Popen([program, *flags], stdout=sink, stderr=subprocess.STDOUT)
        until(self._answers, what=f"redis-server does not start:\n{tail(log)}")
        return self

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> Any:
        """Asks the server itself."""
        return redis.Redis(port=self.port)

    def kill(self) -> None:
        """``kill -9``"""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(30)

    def freeze(self) -> None:
        """It accepts connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class SQLiteKept:
    """An SQLite store whose server is dead."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sessions.sqlite"
        self.url = f"sqlite:///{self.path}"

    def heads(self) -> dict[str, dict[str, Any]]:
        """What is in the file; read from a copy, so that the next server finds it as the last one left it."""
        copy = self.path.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for part in self.path.parent.glob(self.path.name + "*"):
            shutil.copy(part, copy)
        return asyncio.run(read_store(SQLiteStore(copy / self.path.name)))


class RedisKept:
    """A Redis whose client is dead."""

    def __init__(self, server: RedisServer) -> None:
        self.url = server.url

    def heads(self) -> dict[str, dict[str, Any]]:
        """What is in it."""
        return asyncio.run(read_store(RedisStore(self.url)))
