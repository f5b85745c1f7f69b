"""What a client may ask: one pydantic model for each request of the contract.

``parse(CreateSession, tree)`` turns a decoded body into one of them, or raises a :class:`ProblemError` with
an entry for every wrong field; an unknown field is answered with the nearest right one. Observations and
actions stay as they arrived (their check needs the model's spaces: ``values.decode_observation``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from service.protocol.errors import (
    MAX_ERRORS,
    FieldError,
    invalid,
    invalid_fields,
    show,
    suggest,
)
from service.protocol.limits import DEFAULT_LIMITS, Limits
from thick.nearest import MAX_COMPARED

MAX_SEED = 2**63 - 1
MAX_PARTS = 64
"""entries of ``include``, each of which may be named more than once"""

Number = (
    Annotated[StrictFloat, Field(ge=-1e30, le=1e30)] | Annotated[StrictInt, Field(ge=-(10**30), le=10**30)]
)
Positive = Annotated[StrictFloat, Field(gt=0, le=1e30)] | Annotated[StrictInt, Field(gt=0, le=10**30)]
Count = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
StepCount = Annotated[StrictInt, Field(ge=0, le=MAX_SEED)]
Seed = Annotated[StrictInt, Field(ge=0, le=MAX_SEED)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]
PlanMethod = Literal["hierarchical", "flat", "policy"]
LowSearch = Literal["cem", "icem", "mppi", "categorical-cem", "mcts", "policy-rollouts"]
HighSearch = Literal["mcts", "gumbel", "tree", "prior", "random"]


def _level(value: Any) -> Any:
    """A level as it is named here: 0 and 1 have names. gRPC carries a level's number as text."""
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,2}", value) else value
    if type(number) is int and 0 <= number <= MAX_LEVEL:
        return LEVEL_NAMES[number] if number < len(LEVEL_NAMES) else number
    if value not in LEVEL_NAMES:
        raise ValueError(f"expected 'high', 'low' or the number of a level from 0, got {show(value)}")
    return value


MAX_LEVEL = 99
LEVEL_NAMES = ("low", "high")
"""names of the lowest levels of a hierarchy; further ones have their number alone"""
_Level = Literal["high", "low"] | Annotated[int, Field(ge=0, le=MAX_LEVEL)]
Level = Annotated[str | int, BeforeValidator(_level, json_schema_input_type=_Level)]
ImagePolicy = Literal["plan", "prior", "actor", "all"]
ImageForm = Literal["png", "webp", "raw"]
ActPart = Literal["plan", "timing"]
StepPart = Literal["observation", "reward", "value", "gates"]

DreamPart = Literal["observation", "observations", "picture", "value", "gates"]
DreamView = Literal["observation", "observations", "picture"]
_OBSERVATIONS = "`observation`: one for each environment; `observations`: all of them in one array; "
_OBSERVATIONS += "`picture`: each as people look at it, a PNG"

ACT_PARTS: tuple[ActPart, ...] = ("plan", "timing")
STEP_PARTS: tuple[StepPart, ...] = ("observation", "reward", "value", "gates")


class Request(BaseModel):
    """What all requests share: unknown fields are errors, and numbers must be finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Planner(Request):
    """Overrides of the checkpoint's planner settings; what is left out stays as it is.

    Further fields are passed on: the planner knows them, or names the nearest one that it knows.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    method: PlanMethod | None = Field(None, description="how to plan")
    low: LowSearch | None = Field(None, description="the low-level search")
    high: HighSearch | None = Field(None, description="the high-level search")
    samples: Count | None = Field(None, description="candidates an iteration")
    iterations: Count | None = Field(None, description="iterations of the low-level search")
    elites: Count | None = Field(None, description="candidates kept an iteration")
    horizon: Count | None = Field(None, description="low-level steps planned ahead")
    simulations: Count | None = Field(None, description="simulations of the high-level search")
    depth: Count | None = Field(None, description="high-level steps searched ahead")
    kappa: Number | None = Field(None, description="weight of the distance to the subgoal")
    temperature: Number | None = Field(None, description="softness of the choice among candidates")
    seed: Seed | None = Field(None, description="seed of the search, in place of the session's")
    deadline_ms: Positive | None = Field(
        None,
        description="bound on the whole request, in milliseconds; null in an act lifts the bound of its session",
    )

    ponder: StrictBool | None = Field(
        None,
        description="plan ahead between acts, while nobody else has work; what an act gets then depends on time",
    )
    ponder_ms: Positive | None = Field(
        None, description="bound on that, in milliseconds between two acts (100)"
    )

    @property
    def lifts_deadline(self) -> bool:
        """Whether it was sent as null: no bound, also where the session has one."""
        return self.deadline_ms is None and "deadline_ms" in self.model_fields_set

    def settings(self) -> dict[str, Any]:
        """Settings of the search itself: fields that were sent and are not null."""
        sent = self.model_dump(exclude_none=True, exclude={"deadline_ms", "ponder", "ponder_ms"})
        return {key: value for key, value in sent.items() if value is not None}


class ChooseVersion(Request):
    """``POST /v1/models/{name}/load`` and ``unload``: nothing, or a version"""

    version: Name | None = Field(None, description="of the model; the newest by default")


class CreateSession(Request):
    """``POST /v1/sessions``"""

    model: Name = Field(description="name of the checkpoint")
    version: Name | None = Field(None, description="its version; the newest by default")
    seed: Seed | None = Field(None, description="seed of the session's randomness; drawn by default")
    planner: Planner | None = Field(None, description="overrides for all acts of the session")
    ttl_s: Positive | None = Field(None, description="seconds without use after which the session expires")


class Fork(Request):
    """``POST /v1/sessions/{id}/fork``"""

    seed: Seed | None = Field(None, description="seed of the fork; the original's by default")


class Reset(Request):
    """``POST /v1/sessions/{id}/reset``: nothing, or an empty object"""


class Act(Request):
    """``POST /v1/sessions/{id}/act``"""

    observation: Any = Field(description="one array, or an object of arrays where the space is a Dict")
    step: StepCount | None = Field(
        None, description="acts since the reset, from 0; the server counts where it is left out"
    )
    reward: Number = Field(0.0, description="reward that came with the observation")
    is_first: StrictBool = Field(False, description="whether the observation starts an episode")
    executed_action: Any = Field(None, description="what was really done last, where not the last answer")
    planner: Planner | None = Field(None, description="overrides for this act")
    include: tuple[ActPart, ...] = Field(ACT_PARTS, description="which parts the answer shall have")


class ActOnce(Act):
    """``POST /v1/act``: with ``session_id``, or with ``model`` to create the session"""

    model: Name | None = Field(None, description="name of the checkpoint")
    version: Name | None = Field(None, description="its version; the newest by default")
    session_id: Name | None = Field(None, description="the session, once there is one")
    seed: Seed | None = Field(None, description="seed of a session that is created")
    ttl_s: Positive | None = Field(None, description="as in `POST /v1/sessions`")


class Imagine(Request):
    """``POST /v1/sessions/{id}/imagine``"""

    level: Level = Field(
        "high", description="which level imagines: low (0), high (1), or the number of a further one"
    )
    horizon: Count = Field(3, description="steps of that level")
    rollouts: Count = Field(1, description="how many futures; with policy `all` the level decides")
    actions: list[Any] | None = Field(None, description="the first actions, in place of the policy's")
    policy: ImagePolicy = Field("plan", description="who acts; `all` expands every high-level action once")
    include: tuple[StepPart, ...] = Field(STEP_PARTS, description="which parts a step shall have")
    image: ImageForm = Field("raw", description="how decoded pictures travel")
    planner: Planner | None = Field(None, description="overrides for planning in the imagination")
    seed: Seed | None = Field(None, description="seed of the imagination, in place of the session's")


class ImagineDream(Imagine):
    """``POST /v1/dreams/{id}/imagine``"""

    index: StepCount = Field(0, description="of the environment from which to imagine")


class ImagineOnce(Imagine):
    """``POST /v1/imagine``: with ``model`` and ``observation``"""

    model: Name = Field(description="name of the checkpoint")
    version: Name | None = Field(None, description="its version; the newest by default")
    observation: Any = Field(description="the observation to imagine from")


class CreateDream(Request):
    """``POST /v1/dreams``: from an observation, a session, another dream, or the model's own start"""

    model: Name | None = Field(None, description="name of the checkpoint; a session or a dream says it too")
    version: Name | None = Field(None, description="its version; the newest by default")
    count: Count = Field(1, description="environments; by default 1, or as many as the dream has")
    seed: Seed | None = Field(None, description="seed of what is drawn; drawn itself by default")
    sample: StrictBool = Field(True, description="draw what comes; otherwise the most likely comes")
    observation: Any = Field(None, description="what every environment begins with")
    session_id: Name | None = Field(None, description="the session whose belief they begin with")
    dream_id: Name | None = Field(None, description="the dream from whose present they begin")
    ttl_s: Positive | None = Field(None, description="seconds without use after which the dream expires")
    include: tuple[DreamView, ...] = Field(("observation",), description=_OBSERVATIONS)


class DreamStep(Request):
    """``POST /v1/dreams/{id}/step``"""

    actions: Any = Field(description="one for each environment: a list, or one array of all of them")
    step: StepCount | None = Field(
        None, description="steps since the reset, from 0; the server counts where it is left out"
    )
    include: tuple[DreamPart, ...] = Field(
        ("observation",), description=f"which parts the answer shall have; {_OBSERVATIONS}"
    )
    autoreset: StrictBool = Field(
        False, description="environments that have terminated begin anew in place of their action"
    )
    begin: tuple[StepCount, ...] = Field((), description="further environments that do so")
    image: ImageForm = Field("raw", description="how decoded pictures travel")


class ResetDream(Request):
    """``POST /v1/dreams/{id}/reset``: nothing, or which environments"""

    indices: list[StepCount] | None = Field(None, description="environments; all by default, and step 0")
    seed: Seed | None = Field(None, description="seed of the dream from now on")
    include: tuple[DreamView, ...] = Field(("observation",), description=_OBSERVATIONS)


class Film(Request):
    """``POST /v1/film``"""

    frames: list[Any] = Field(description="pictures of one size, such as the `picture` of a dream's steps")
    ms: Annotated[StrictInt, Field(ge=20, le=10_000)] = Field(300, description="how long each is shown")


_PLANNING = (Act, CreateSession, Imagine)
"""requests that may override planner settings"""

AnyRequest = TypeVar("AnyRequest", bound=Request)


def parse(kind: type[AnyRequest], tree: Any, *, path: str = "") -> AnyRequest:
    """The request that a decoded body holds.

    Raises:
        ProblemError: ``invalid_request`` with an entry for every wrong field.
    """
    if type(tree) is not dict and not isinstance(tree, Mapping):
        raise invalid(path or "body", f"expected an object, got {show(tree)}")
    _check_sizes(kind, tree, path)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise invalid_fields(_field_errors(kind, error, path)) from error


def _check_sizes(kind: type[Request], tree: Mapping[str, Any], path: str) -> None:
    """Pydantic looks at every entry and reports every wrong one: only what has a sensible size goes there."""
    most = DEFAULT_LIMITS.object_keys
    for name, value in (("", tree), ("planner", tree.get("planner"))):
        if value is not None and isinstance(value, Mapping) and len(value) > most:
            where = _join(path, [name] if name else [])
            raise invalid(where, f"an object has at most {most} keys, this one {len(value)}")
    parts = tree.get("include")
    if isinstance(parts, (list, tuple)) and len(parts) > MAX_PARTS:
        where = _join(path, ["include"])
        raise invalid(where, f"at most {MAX_PARTS} entries, got {len(parts)}; each part need be named once")


def check_limits(request: Request, limits: Limits = DEFAULT_LIMITS) -> None:
    """Refuses what asks for more work than the server's bounds allow.

    Raises:
        ProblemError: ``invalid_request`` naming the fields and the bounds.
    """
    if type(request) is Act and request.planner is None:
        return  # nothing in it is bounded, as in nearly all requests
    if type(request) is ActOnce and request.planner is None and request.ttl_s is None:
        return
    errors = list[FieldError]()

    def bound(path: str, value: Any, most: float) -> None:
        if isinstance(value, (int, float)) and value > most:
            errors.append(FieldError(path, f"at most {most:g} here, got {show(value)}"))

    planner = request.planner if isinstance(request, _PLANNING) else None
    if planner is not None:
        bound("planner.horizon", planner.horizon, limits.horizon)
        bound("planner.depth", planner.depth, limits.horizon)
        bound("planner.samples", planner.samples, limits.samples)
        bound("planner.elites", planner.elites, limits.samples)
        bound("planner.iterations", planner.iterations, limits.iterations)
        bound("planner.simulations", planner.simulations, limits.simulations)
        bound("planner.ponder_ms", planner.ponder_ms, limits.ponder_ms)
    if isinstance(request, Imagine):
        bound("horizon", request.horizon, limits.horizon)
        bound("rollouts", request.rollouts, limits.rollouts)
        if not errors and request.horizon * request.rollouts > limits.imagined_steps:
            bound("rollouts", request.horizon * request.rollouts, limits.imagined_steps)
        given = len(request.actions or ())
        if given > max(limits.horizon, limits.rollouts):
            most = f"{limits.horizon} actions, or a list for each of {limits.rollouts} rollouts"
            errors.append(FieldError("actions", f"at most {most}; got {given}"))
    if isinstance(request, CreateDream):
        bound("count", request.count, limits.dreams)
        names = ("observation", "session_id", "dream_id")
        starts = [name for name in names if getattr(request, name) is not None]
        if len(starts) > 1:
            errors.append(
                FieldError(starts[1], f"a dream begins from one thing, and {starts[0]} is given too")
            )
    if isinstance(request, (CreateSession, ActOnce, CreateDream)):
        bound("ttl_s", request.ttl_s, limits.ttl_s)
    if errors:
        raise invalid_fields(errors)


def _field_errors(kind: type[Request], error: ValidationError, path: str) -> list[FieldError]:
    listed = list[FieldError]()
    seen = set[str]()
    for item in error.errors(include_url=False):
        location = list(item["loc"])
        if item["type"] != "extra_forbidden" and _is_branch(location[-1]):
            location.pop()
        where = _join(path, location)
        if where in seen and item["type"] != "extra_forbidden":
            continue  # the other branch of a union
        seen.add(where)
        listed.append(FieldError(where, _message(kind, item, location)))
        if len(listed) == MAX_ERRORS:
            break
    return listed


def _is_branch(part: Any) -> bool:
    """Pydantic puts the branch of a union (``int``, ``constrained-float``) into an error's location."""
    return isinstance(part, str) and (part in ("int", "float") or part.startswith("constrained"))


def _message(kind: type[Request], item: Any, location: list[Any]) -> str:
    sort = item["type"]
    if sort == "extra_forbidden":
        names = kind.model_fields if len(location) == 1 else Planner.model_fields
        return f"unknown field; {suggest(str(location[-1]), names)}"
    if sort == "missing":
        return "is missing"
    got = show(item.get("input"))
    if sort == "literal_error":
        return f"expected {item['ctx']['expected']}, got {got}"
    if sort in ("string_too_short", "string_too_long"):
        least, most = item["ctx"].get("min_length"), item["ctx"].get("max_length")
        wanted = f"at least {least}" if sort == "string_too_short" else f"at most {most}"
        return f"expected text of {wanted} characters, got {len(item['input'])}"
    expected = {
        "int_type": "an integer", "float_type": "a number", "bool_type": "true or false",
        "string_type": "text", "list_type": "a list", "tuple_type": "a list", "model_type": "an object",
        "model_attributes_type": "an object", "dict_type": "an object", "finite_number": "a finite number",
        "int_from_float": "an integer",
    }.get(sort)  # fmt: skip
    if expected:
        return f"expected {expected}, got {got}"
    message = str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return f"expected {message}, got {got}" if str(item["msg"]).startswith("Input should be ") else message


def _join(path: str, location: list[Any]) -> str:
    text = path
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = str(part)[:MAX_COMPARED]
            text += f".{shown}" if text else shown
    return text or "body"
