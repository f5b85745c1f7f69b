"""What the service answers, as pydantic models: they describe the API and check answers in tests.

The server writes plain dicts of these shapes (``bodies.encode_body`` turns them into bytes); the clients read
them into the dataclasses of ``clients.results``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ModelState = Literal["ready", "loading", "failed", "unloaded"]


class Response(BaseModel):
    """What all answers share: they may gain fields, so clients must ignore what they do not know."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ModelSummary(Response):
    """One entry of ``GET /v1/models``"""

    name: str
    version: str
    kind: str = Field(description="thick, crssm or rssm; empty where the manifest cannot be read")
    task: str | None = Field(None, description="environment id that the checkpoint was trained for")
    state: ModelState
    reason: str | None = Field(None, description="why the state is `failed`")
    backend: str | None = Field(
        None, description="what runs it: native, onnx or torch; null while it is not loaded"
    )


class ModelList(Response):
    """``GET /v1/models``"""

    models: list[ModelSummary]


class ModelDetail(ModelSummary):
    """``GET /v1/models/{name}``"""

    observation_space: dict[str, Any] | None = None
    action_space: dict[str, Any] | None = None
    planner: dict[str, Any] | None = None
    methods: list[str] = Field(
        default_factory=list,
        description="values of `planner.method` that it can act by; empty while it is not loaded",
    )
    provenance: dict[str, Any] | None = None
    versions: list[Any] = Field(default_factory=list, description="versions in the repository, newest last")


class Session(Response):
    """A session: the answer to creating, reading, resetting, forking and restoring one"""

    session_id: str
    model: str
    version: str
    step: int
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    planner: dict[str, Any]
    expires_at: str = Field(description="RFC 3339 time after which the session is gone unless used")


class SessionList(Response):
    """``GET /v1/sessions``"""

    sessions: list[Session]


class HighPlan(Response):
    """What the search over high-level actions found, from the root"""

    actions: list[int]
    durations: list[float] = Field(description="expected low-level steps of each action")
    values: list[float] = Field(description="value after each action")
    visits: list[int] = Field(default_factory=list, description="visits of the root's actions")
    subgoal: Any = Field(None, description="decoded observation that the low level steers to")


class LowPlan(Response):
    """What the low-level search found"""

    actions: list[Any]
    expected_return: float | None = None
    samples: int | None = None
    iterations: int | None = None


class LevelPlan(Response):
    """What the search of one level found: members of the high plan or of the low one, as far as the level has them"""

    level: int = Field(description="0 is the lowest, whose actions the environment takes")
    actions: list[Any]
    expected_return: float | None = None
    samples: int | None = None
    iterations: int | None = None
    durations: list[float] | None = None
    values: list[float] | None = None
    visits: list[int] | None = None
    subgoal: Any = None


class Budget(Response):
    """How much of what was asked the search did before the deadline"""

    deadline_ms: float | None = None
    iterations_done: int | None = None
    iterations_asked: int | None = None
    simulations_done: int | None = None
    simulations_asked: int | None = None


class Plan(Response):
    """Why the action was chosen"""

    method: str
    replanned: bool
    context_changed: bool
    gates_open: int
    levels: list[LevelPlan] = Field(
        default_factory=list, description="of every level that planned, the lowest first"
    )
    high: HighPlan | None = Field(None, description="level 1")
    low: LowPlan | None = Field(None, description="level 0")
    budget: Budget | None = None


class Timing(Response):
    """Where the time went, in milliseconds"""

    decode_ms: float | None = None
    queue_ms: float | None = None
    observe_ms: float | None = None
    high_plan_ms: float | None = None
    low_plan_ms: float | None = None
    encode_ms: float | None = None
    total_ms: float | None = None
    batch_size: int | None = None


class ActResponse(Response):
    """The answer to an act"""

    session_id: str
    step: int
    action: Any = Field(description="an integer for Discrete, a list (JSON) or an array (msgpack) for Box")
    replayed: bool
    plan: Plan | None = None
    timing: Timing | None = None


class ImaginedStep(Response):
    """One imagined step; high steps have the first group of fields, low steps the second"""

    high_action: int | None = None
    probability: float | None = None
    duration: float | None = None
    time: float | None = None
    subgoal: Any = None
    action: Any = None
    gates_open: int | None = None
    context_changed: bool | None = None
    reward: float | None = None
    return_: float | None = Field(None, alias="return", description="discounted reward up to this step")
    value: float | None = None
    continuation: float | None = None
    observation: Any = None


class Rollout(Response):
    """One imagined future"""

    probability: float | None = None
    return_: float | None = Field(None, alias="return")
    steps: list[ImaginedStep]


class Imagination(Response):
    """The answer to imagine"""

    level: Literal["high", "low"] | int
    rollouts: list[Rollout]


class Dream(Response):
    """A dream: the answer to creating, reading, resetting and forking one"""

    dream_id: str
    model: str
    version: str
    count: int
    step: int
    observation: list[Any] = Field(default_factory=list, description="of each environment, decoded")
    observations: Any = Field(
        None, description="the same in one array, or one for each entry of a Dict space"
    )
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    expires_at: str = Field(description="RFC 3339 time after which the dream is gone unless used")


class DreamList(Response):
    """``GET /v1/dreams``"""

    dreams: list[Dream]


class DreamStepResponse(Response):
    """The answer to a step of a dream; lists over its environments"""

    dream_id: str
    step: int
    replayed: bool
    observation: list[Any] | None = Field(None, description="decoded")
    observations: Any = Field(
        None, description="the same in one array, or one for each entry of a Dict space"
    )
    reward: list[float]
    continuation: list[float] = Field(description="probability that the episode goes on")
    terminated: list[bool]
    value: list[float | None] | None = Field(None, description="expected return from here on, by the critic")
    gates_open: list[int] | None = None
    context_changed: list[bool] | None = None


class Problem(Response):
    """RFC 9457 problem details"""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: list[dict[str, str]] | None = None
    retry_after: float | None = None
    expected_step: int | None = None
