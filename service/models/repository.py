"""The model repository: what lies in the folder, what of it is loaded, and which version a new session
gets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import structlog

from service.engine.engine import Engine
from service.models.hosted import Hosted
from service.models.warmup import prepare
from service.operations.metrics import Metrics
from service.protocol.errors import ProblemError, invalid, suggest
from thick.entries import aliases, versions
from thick.manifest import MANIFEST, NAME, EntryError
from thick.runtimes.backends import AUTO, open_runtime
from thick.runtimes.protocol import BackendError, Runtime

log = structlog.get_logger("thick.models")


def scan(folder: Path) -> dict[str, list[str]]:
    """Names in a repository, each with its versions, oldest first."""
    try:
        names = sorted(
            child.name for child in folder.iterdir() if child.is_dir() and NAME.fullmatch(child.name)
        )
    except OSError:  # not there, or not to be read
        return {}
    return {name: found for name in names if (found := versions(folder, name))}


def out_of_reach(folder: Path) -> list[str]:
    """Entries ``NAME/VERSION`` that nobody can ask for: one of their folders is called as no name or version may be."""
    found = [path.parent.relative_to(folder) for path in sorted(folder.glob("*/*/manifest.json"))]
    return [
        str(entry)
        for entry in found
        if not any(part.startswith(".") for part in entry.parts)
        and not all(NAME.fullmatch(part) for part in entry.parts)
    ]


def unreadable(folder: Path) -> list[str]:
    """Folders of models that this process may not look into."""
    names = (child for child in sorted(folder.glob("*")) if NAME.fullmatch(child.name))
    return [child.name for child in names if child.is_dir() and not os.access(child, os.R_OK | os.X_OK)]


def where_models_are(folder: Path) -> str:
    """Advice on a repository without a model: it may be that a model, or a version of one, was taken for it."""
    parent = folder.resolve().parent
    if (folder / MANIFEST).is_file():
        return f"this is one version of a model; a repository holds NAME/VERSION: --models {parent.parent}"
    if any(folder.glob(f"*/{MANIFEST}")):
        return f"this is one model; a repository holds NAME/VERSION: --models {parent}"
    return "`thick export RUN` writes one"


def describe_repository(folder: Path) -> list[dict[str, Any]]:
    """Everything in a repository, without loading anything; ``unloaded`` means that it can be read."""
    rows = []
    for name, found in scan(folder).items():
        for version in found:
            hosted = Hosted(name, version, folder / name / version)
            rows.append(hosted.detail(found))
    return rows


class ModelRepository:
    """All versions of all models of a folder. Lives on the event loop; loading runs off it."""

    def __init__(
        self,
        folder: Path,
        *,
        engine: Engine,
        metrics: Metrics,
        backend: str = AUTO,
        device: str = "cpu",
        precision: str = "auto",
        load: Literal["all", "latest"] = "all",
        opener: Callable[..., Runtime] = open_runtime,
    ) -> None:
        self.folder = folder
        self._engine = engine
        self._metrics = metrics
        self._options = {"backend": backend, "device": device, "precision": precision}
        self._load = load
        self._opener = opener
        self._models: dict[str, dict[str, Hosted]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._pending = 0
        self._scanned = False
        self._one_at_a_time = asyncio.Lock()

    # -- reading -----------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether everything that should be loaded is; a broken model does not hold the others up."""
        if self.starting:
            return False
        every = self.all()
        return not every or any(hosted.state == "ready" for hosted in every)

    @property
    def starting(self) -> bool:
        """Whether the models of the start are not known or not loaded yet."""
        return not self._scanned or self._pending > 0

    def all(self) -> list[Hosted]:
        """Every version of every model, by name."""
        return [hosted for found in self._models.values() for hosted in found.values()]

    def versions(self, name: str) -> list[str]:
        """Versions of a model, oldest first."""
        return list(self._models.get(name, {}))

    def get(self, name: str, version: str | None = None) -> Hosted:
        """One version, by its name or an alias; without ``version`` the newest that is ready, or the newest if none
        is.

        Raises:
            ProblemError: ``model_not_found``, naming what there is.
        """
        found = self._models.get(name)
        if not found:
            hint = suggest(name, self._models) if self._models else "the repository is empty"
            raise ProblemError("model_not_found", f"model {name!r}: there is none; {hint}")
        if version is None:
            newest_first = list(reversed(found.values()))
            return next((each for each in newest_first if each.state == "ready"), newest_first[0])
        aliases = self._aliases.get(name, {})
        version = aliases.get(version, version)
        if version not in found:
            known = ", ".join([*found, *(f"{alias} (alias of {of})" for alias, of in aliases.items())])
            raise ProblemError(
                "model_not_found", f"model {name!r} has no version {version!r}; it has {known}"
            )
        return found[version]

    def detail(self, hosted: Hosted) -> dict[str, Any]:
        """The answer to ``GET /v1/models/{name}``."""
        return {
            **hosted.detail(list(self._models[hosted.name]), threads=self._engine.threads_of(hosted)),
            "aliases": self._aliases.get(hosted.name, {}),
        }

    def loading(self) -> list[Hosted]:
        """Versions that are being loaded, or wait for that."""
        return [hosted for hosted in self.all() if hosted.state == "loading"]

    def failed(self) -> list[Hosted]:
        """Versions that could not be loaded."""
        return [hosted for hosted in self.all() if hosted.state == "failed"]

    def for_new_session(self, name: str, version: str | None = None) -> Hosted:
        """The version that a new session gets.

        Raises:
            ProblemError: ``model_not_found``, or ``model_not_ready`` with the reason.
        """
        hosted = self.get(name, version)
        if hosted.state != "ready":
            reason = f" ({hosted.reason})" if hosted.reason else ""
            raise ProblemError(
                "model_not_ready",
                f"model {name!r} version {hosted.version!r} is {hosted.state}{reason}",
                retry_after=1.0 if hosted.state == "loading" else 30.0,
                state=hosted.state,
            )
        return hosted

    def only(self, others: str) -> str:
        """The model of a request that names none, where there is no choice.

        Args:
            others: what could have named it, too.

        Raises:
            ProblemError: ``invalid_request``.
        """
        names = sorted({hosted.name for hosted in self.all()})
        if len(names) == 1:
            return names[0]
        raise invalid("model", f"is missing, and so is {others}; models here: {', '.join(names) or 'none'}")

    def for_session(self, name: str, version: str) -> Hosted:
        """The version that a live session stays on.

        Raises:
            ProblemError: ``model_not_ready`` where it is not loaded (any more).
        """
        hosted = self._models.get(name, {}).get(version)
        if hosted is None or not hosted.loaded:
            state = hosted.state if hosted else "gone from the repository"
            raise ProblemError(
                "model_not_ready", f"it began with model {name!r} version {version!r}, which is {state}"
            )
        return hosted

    # -- changing ----------------------------------------------------------------------------------------

    async def start(self, needed: set[tuple[str, str]]) -> None:
        """Scan and load: by the setting, and every version that live sessions and dreams need."""
        new = self._scan()
        wanted = [
            h for h in new if self._load == "all" or self._is_newest(h) or (h.name, h.version) in needed
        ]
        for hosted in wanted:
            if hosted.state == "unloaded":
                hosted.state = "loading"
                self._pending += 1
        self._scanned = True
        for entry in out_of_reach(self.folder):
            log.warning("an entry is left out", entry=entry, advice=f"rename it: names match {NAME.pattern}")
        for name in unreadable(self.folder):
            log.warning("a folder is left out", folder=name, reason="it may not be read", advice="chmod a+rX")
        if not new:
            log.warning("no models", folder=str(self.folder), advice=where_models_are(self.folder))
        for hosted in [h for h in wanted if h.state == "loading"]:
            await self._load_one(hosted)
            self._pending -= 1

    async def refresh(self) -> None:
        """Look for new models and versions, and load the newest of each that is new."""
        for hosted in self._scan():
            if hosted.state == "unloaded" and self._is_newest(hosted):
                hosted.state = "loading"
                await self._load_one(hosted)

    async def load(self, name: str, version: str | None = None) -> Hosted:
        """Load a version (the newest in the folder by default); it takes the new sessions from then on.

        Raises:
            ProblemError: ``model_not_found``; ``conflict`` with the reason if it cannot be loaded.
        """
        self._scan()
        found = self._models.get(name) or {}
        hosted = self.get(name, version if version is not None else (list(found)[-1] if found else None))
        if hosted.state == "failed" or (hosted.state == "unloaded" and not hosted.loaded):
            fresh = Hosted(name, hosted.version, hosted.path)  # the folder may have been mended meanwhile
            fresh.sessions = hosted.sessions
            found[hosted.version] = hosted = fresh
        if hosted.state == "unloaded" and hosted.loaded:
            hosted.state = "ready"
            self._metrics.model_loaded.labels(hosted.name, hosted.version).set(1)
        elif hosted.state == "unloaded":
            hosted.state = "loading"
            await self._load_one(hosted)
        if hosted.state == "failed":
            raise ProblemError(
                "conflict", f"model {name!r} version {hosted.version!r} failed: {hosted.reason}"
            )
        return hosted

    def unload(self, name: str, version: str | None = None) -> list[Hosted]:
        """Take no new sessions on a version (all by default); its memory is free once its last session ends.

        Raises:
            ProblemError: ``model_not_found``.
        """
        chosen = list(self._models.get(name, {}).values()) if version is None else [self.get(name, version)]
        if not chosen:
            self.get(name)
        for hosted in chosen:
            if hosted.state == "ready":
                hosted.state, hosted.reason = "unloaded", None
                self._metrics.model_loaded.labels(hosted.name, hosted.version).set(0)
                log.info(
                    "model unloaded", model=hosted.name, version=hosted.version, sessions=hosted.sessions
                )
                self._free_if_unused(hosted)
        return chosen

    def session_began(self, hosted: Hosted) -> None:
        """Count a live session."""
        hosted.sessions += 1

    def session_ended(self, hosted: Hosted) -> None:
        """A session is gone; the last one of an unloaded version frees it."""
        hosted.sessions -= 1
        self._free_if_unused(hosted)

    def _free_if_unused(self, hosted: Hosted) -> None:
        if hosted.state == "unloaded" and hosted.sessions <= 0 and hosted.loaded:
            hosted.free()
            self._engine.forget(hosted)
            log.info("model freed", model=hosted.name, version=hosted.version)

    def _is_newest(self, hosted: Hosted) -> bool:
        return list(self._models[hosted.name])[-1] == hosted.version

    def _scan(self) -> list[Hosted]:
        """Take up what is new in the folder; what is known stays. Aliases are what the folder says now."""
        new = []
        for name, found in scan(self.folder).items():
            self._aliases[name] = aliases(self.folder, name)
            known = self._models.get(name, {})
            for version in found:
                if version not in known:
                    hosted = known[version] = Hosted(name, version, self.folder / name / version)
                    new.append(hosted)
                    if hosted.state == "failed":
                        log.error("model failed", model=name, version=version, reason=hosted.reason)
            order = {version: place for place, version in enumerate(found)}
            self._models[name] = dict(sorted(known.items(), key=lambda item: order.get(item[0], -1)))
        return new

    def _twin(self, hosted: Hosted) -> Runtime | None:
        """The runtime of the same entry, where that is served under another name already."""
        path = hosted.path.resolve()
        twins = (each for each in self.all() if each is not hosted and each.loaded)
        return next((each.runtime for each in twins if each.path.resolve() == path), None)

    async def _load_one(self, hosted: Hosted) -> None:
        """Read, build and warm up one version, in state ``loading``; ends ``ready`` or ``failed``."""
        async with self._one_at_a_time:
            began = time.perf_counter()
            try:
                runtime = self._twin(hosted)
                if runtime is None:
                    runtime = await asyncio.to_thread(self._opener, hosted.path, **self._options)
                await prepare(hosted, runtime, self._engine)
            except Exception as error:
                hosted.free()
                hosted.state, hosted.reason = "failed", f"{type(error).__name__}: {error}"
                if isinstance(error, EntryError | BackendError):
                    hosted.reason = str(error)
                    log.error("model failed", model=hosted.name, version=hosted.version, reason=hosted.reason)
                else:
                    log.exception("model failed", model=hosted.name, version=hosted.version)
                return
            hosted.state, hosted.reason = "ready", None
            self._metrics.model_loaded.labels(hosted.name, hosted.version).set(1)
            log.info(
                "model ready",
                model=hosted.name,
                version=hosted.version,
                kind=hosted.manifest.kind if hosted.manifest else "",
                backend=runtime.info.backend,
                seconds=round(time.perf_counter() - began, 2),
            )
