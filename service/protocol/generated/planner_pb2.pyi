from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Array(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("encoding", "data")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    encoding: str
    data: bytes
    def __init__(self, encoding: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("array", "image", "dict", "discrete")
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DICT_FIELD_NUMBER: _ClassVar[int]
    DISCRETE_FIELD_NUMBER: _ClassVar[int]
    array: Array
    image: Image
    dict: ObservationDict
    discrete: int
    def __init__(self, array: _Optional[_Union[Array, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., dict: _Optional[_Union[ObservationDict, _Mapping]] = ..., discrete: _Optional[int] = ...) -> None: ...

class ObservationDict(_message.Message):
    __slots__ = ("entries",)
    class EntriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Observation
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Observation, _Mapping]] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.MessageMap[str, Observation]
    def __init__(self, entries: _Optional[_Mapping[str, Observation]] = ...) -> None: ...

class Action(_message.Message):
    __slots__ = ("discrete", "array")
    DISCRETE_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    discrete: int
    array: Array
    def __init__(self, discrete: _Optional[int] = ..., array: _Optional[_Union[Array, _Mapping]] = ...) -> None: ...

class Space(_message.Message):
    __slots__ = ("box", "discrete", "multi_discrete", "dict")
    BOX_FIELD_NUMBER: _ClassVar[int]
    DISCRETE_FIELD_NUMBER: _ClassVar[int]
    MULTI_DISCRETE_FIELD_NUMBER: _ClassVar[int]
    DICT_FIELD_NUMBER: _ClassVar[int]
    box: BoxSpace
    discrete: DiscreteSpace
    multi_discrete: MultiDiscreteSpace
    dict: DictSpace
    def __init__(self, box: _Optional[_Union[BoxSpace, _Mapping]] = ..., discrete: _Optional[_Union[DiscreteSpace, _Mapping]] = ..., multi_discrete: _Optional[_Union[MultiDiscreteSpace, _Mapping]] = ..., dict: _Optional[_Union[DictSpace, _Mapping]] = ...) -> None: ...

class BoxSpace(_message.Message):
    __slots__ = ("shape", "dtype", "low", "high")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    low: _containers.RepeatedScalarFieldContainer[float]
    high: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., low: _Optional[_Iterable[float]] = ..., high: _Optional[_Iterable[float]] = ...) -> None: ...

class DiscreteSpace(_message.Message):
    __slots__ = ("n", "start")
    N_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    n: int
    start: int
    def __init__(self, n: _Optional[int] = ..., start: _Optional[int] = ...) -> None: ...

class MultiDiscreteSpace(_message.Message):
    __slots__ = ("nvec", "start", "shape")
    NVEC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    nvec: _containers.RepeatedScalarFieldContainer[int]
    start: _containers.RepeatedScalarFieldContainer[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nvec: _Optional[_Iterable[int]] = ..., start: _Optional[_Iterable[int]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class DictSpace(_message.Message):
    __slots__ = ("spaces",)
    class SpacesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Space
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...
    SPACES_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.MessageMap[str, Space]
    def __init__(self, spaces: _Optional[_Mapping[str, Space]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "kind", "task", "state", "reason", "observation_space", "action_space", "planner", "provenance", "versions", "other")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    kind: str
    task: str
    state: str
    reason: str
    observation_space: Space
    action_space: Space
    planner: _struct_pb2.Struct
    provenance: _struct_pb2.Struct
    versions: _struct_pb2.ListValue
    other: _struct_pb2.Struct
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., kind: _Optional[str] = ..., task: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., observation_space: _Optional[_Union[Space, _Mapping]] = ..., action_space: _Optional[_Union[Space, _Mapping]] = ..., planner: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., provenance: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., versions: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class PlannerSettings(_message.Message):
    __slots__ = ("method", "low", "high", "samples", "iterations", "elites", "horizon", "simulations", "depth", "kappa", "temperature", "seed", "deadline_ms", "other")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    ELITES_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    SIMULATIONS_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    KAPPA_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    method: str
    low: str
    high: str
    samples: int
    iterations: int
    elites: int
    horizon: int
    simulations: int
    depth: int
    kappa: float
    temperature: float
    seed: int
    deadline_ms: float
    other: _struct_pb2.Struct
    def __init__(self, method: _Optional[str] = ..., low: _Optional[str] = ..., high: _Optional[str] = ..., samples: _Optional[int] = ..., iterations: _Optional[int] = ..., elites: _Optional[int] = ..., horizon: _Optional[int] = ..., simulations: _Optional[int] = ..., depth: _Optional[int] = ..., kappa: _Optional[float] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ..., deadline_ms: _Optional[float] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("model", "version", "seed", "planner", "ttl_s")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    seed: int
    planner: PlannerSettings
    ttl_s: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., seed: _Optional[int] = ..., planner: _Optional[_Union[PlannerSettings, _Mapping]] = ..., ttl_s: _Optional[float] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "model", "version", "step", "observation_space", "action_space", "planner", "expires_at", "other")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    version: str
    step: int
    observation_space: Space
    action_space: Space
    planner: _struct_pb2.Struct
    expires_at: str
    other: _struct_pb2.Struct
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., step: _Optional[int] = ..., observation_space: _Optional[_Union[Space, _Mapping]] = ..., action_space: _Optional[_Union[Space, _Mapping]] = ..., planner: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., expires_at: _Optional[str] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "other")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    other: _struct_pb2.Struct
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ForkSessionRequest(_message.Message):
    __slots__ = ("session_id", "seed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seed: int
    def __init__(self, session_id: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class ExportBeliefRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class Belief(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class RestoreSessionRequest(_message.Message):
    __slots__ = ("belief",)
    BELIEF_FIELD_NUMBER: _ClassVar[int]
    belief: bytes
    def __init__(self, belief: _Optional[bytes] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class ActRequest(_message.Message):
    __slots__ = ("session_id", "model", "version", "seed", "ttl_s", "observation", "step", "reward", "is_first", "executed_action", "planner", "include", "traceparent", "tracestate")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    IS_FIRST_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_ACTION_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    version: str
    seed: int
    ttl_s: float
    observation: Observation
    step: int
    reward: float
    is_first: bool
    executed_action: Action
    planner: PlannerSettings
    include: Names
    traceparent: str
    tracestate: str
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., seed: _Optional[int] = ..., ttl_s: _Optional[float] = ..., observation: _Optional[_Union[Observation, _Mapping]] = ..., step: _Optional[int] = ..., reward: _Optional[float] = ..., is_first: _Optional[bool] = ..., executed_action: _Optional[_Union[Action, _Mapping]] = ..., planner: _Optional[_Union[PlannerSettings, _Mapping]] = ..., include: _Optional[_Union[Names, _Mapping]] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class ActResponse(_message.Message):
    __slots__ = ("session_id", "step", "action", "replayed", "plan", "timing", "other")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    step: int
    action: Action
    replayed: bool
    plan: Plan
    timing: Timing
    other: _struct_pb2.Struct
    def __init__(self, session_id: _Optional[str] = ..., step: _Optional[int] = ..., action: _Optional[_Union[Action, _Mapping]] = ..., replayed: _Optional[bool] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("method", "replanned", "context_changed", "gates_open", "high", "low", "budget", "levels", "other")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REPLANNED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_CHANGED_FIELD_NUMBER: _ClassVar[int]
    GATES_OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    method: str
    replanned: bool
    context_changed: bool
    gates_open: int
    high: HighPlan
    low: LowPlan
    budget: Budget
    levels: _containers.RepeatedCompositeFieldContainer[LevelPlan]
    other: _struct_pb2.Struct
    def __init__(self, method: _Optional[str] = ..., replanned: _Optional[bool] = ..., context_changed: _Optional[bool] = ..., gates_open: _Optional[int] = ..., high: _Optional[_Union[HighPlan, _Mapping]] = ..., low: _Optional[_Union[LowPlan, _Mapping]] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., levels: _Optional[_Iterable[_Union[LevelPlan, _Mapping]]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class LevelPlan(_message.Message):
    __slots__ = ("level", "actions", "expected_return", "samples", "iterations", "durations", "values", "visits", "subgoal", "other")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RETURN_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VISITS_FIELD_NUMBER: _ClassVar[int]
    SUBGOAL_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    level: int
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    expected_return: float
    samples: int
    iterations: int
    durations: _containers.RepeatedScalarFieldContainer[float]
    values: _containers.RepeatedScalarFieldContainer[float]
    visits: _containers.RepeatedScalarFieldContainer[int]
    subgoal: Observation
    other: _struct_pb2.Struct
    def __init__(self, level: _Optional[int] = ..., actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., expected_return: _Optional[float] = ..., samples: _Optional[int] = ..., iterations: _Optional[int] = ..., durations: _Optional[_Iterable[float]] = ..., values: _Optional[_Iterable[float]] = ..., visits: _Optional[_Iterable[int]] = ..., subgoal: _Optional[_Union[Observation, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class HighPlan(_message.Message):
    __slots__ = ("actions", "durations", "values", "visits", "subgoal", "other")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VISITS_FIELD_NUMBER: _ClassVar[int]
    SUBGOAL_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedScalarFieldContainer[int]
    durations: _containers.RepeatedScalarFieldContainer[float]
    values: _containers.RepeatedScalarFieldContainer[float]
    visits: _containers.RepeatedScalarFieldContainer[int]
    subgoal: Observation
    other: _struct_pb2.Struct
    def __init__(self, actions: _Optional[_Iterable[int]] = ..., durations: _Optional[_Iterable[float]] = ..., values: _Optional[_Iterable[float]] = ..., visits: _Optional[_Iterable[int]] = ..., subgoal: _Optional[_Union[Observation, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class LowPlan(_message.Message):
    __slots__ = ("actions", "expected_return", "samples", "iterations", "other")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RETURN_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    expected_return: float
    samples: int
    iterations: int
    other: _struct_pb2.Struct
    def __init__(self, actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., expected_return: _Optional[float] = ..., samples: _Optional[int] = ..., iterations: _Optional[int] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("deadline_ms", "iterations_done", "iterations_asked", "simulations_done", "simulations_asked", "other")
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_DONE_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_ASKED_FIELD_NUMBER: _ClassVar[int]
    SIMULATIONS_DONE_FIELD_NUMBER: _ClassVar[int]
    SIMULATIONS_ASKED_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    deadline_ms: float
    iterations_done: int
    iterations_asked: int
    simulations_done: int
    simulations_asked: int
    other: _struct_pb2.Struct
    def __init__(self, deadline_ms: _Optional[float] = ..., iterations_done: _Optional[int] = ..., iterations_asked: _Optional[int] = ..., simulations_done: _Optional[int] = ..., simulations_asked: _Optional[int] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode_ms", "queue_ms", "observe_ms", "high_plan_ms", "low_plan_ms", "encode_ms", "total_ms", "batch_size", "other")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_MS_FIELD_NUMBER: _ClassVar[int]
    HIGH_PLAN_MS_FIELD_NUMBER: _ClassVar[int]
    LOW_PLAN_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    queue_ms: float
    observe_ms: float
    high_plan_ms: float
    low_plan_ms: float
    encode_ms: float
    total_ms: float
    batch_size: int
    other: _struct_pb2.Struct
    def __init__(self, decode_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., observe_ms: _Optional[float] = ..., high_plan_ms: _Optional[float] = ..., low_plan_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., batch_size: _Optional[int] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ImagineRequest(_message.Message):
    __slots__ = ("session_id", "model", "version", "observation", "level", "horizon", "rollouts", "actions", "policy", "include", "image", "planner", "seed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    version: str
    observation: Observation
    level: str
    horizon: int
    rollouts: int
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    policy: str
    include: Names
    image: str
    planner: PlannerSettings
    seed: int
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., observation: _Optional[_Union[Observation, _Mapping]] = ..., level: _Optional[str] = ..., horizon: _Optional[int] = ..., rollouts: _Optional[int] = ..., actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., policy: _Optional[str] = ..., include: _Optional[_Union[Names, _Mapping]] = ..., image: _Optional[str] = ..., planner: _Optional[_Union[PlannerSettings, _Mapping]] = ..., seed: _Optional[int] = ...) -> None: ...

class ImaginedStep(_message.Message):
    __slots__ = ("high_action", "probability", "duration", "time", "subgoal", "action", "gates_open", "context_changed", "reward", "value", "continuation", "observation", "other")
    HIGH_ACTION_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SUBGOAL_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    GATES_OPEN_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_CHANGED_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    RETURN_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    high_action: int
    probability: float
    duration: float
    time: float
    subgoal: Observation
    action: Action
    gates_open: int
    context_changed: bool
    reward: float
    value: float
    continuation: float
    observation: Observation
    other: _struct_pb2.Struct
    def __init__(self, high_action: _Optional[int] = ..., probability: _Optional[float] = ..., duration: _Optional[float] = ..., time: _Optional[float] = ..., subgoal: _Optional[_Union[Observation, _Mapping]] = ..., action: _Optional[_Union[Action, _Mapping]] = ..., gates_open: _Optional[int] = ..., context_changed: _Optional[bool] = ..., reward: _Optional[float] = ..., value: _Optional[float] = ..., continuation: _Optional[float] = ..., observation: _Optional[_Union[Observation, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., **kwargs) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("probability", "steps", "other")
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    RETURN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    probability: float
    steps: _containers.RepeatedCompositeFieldContainer[ImaginedStep]
    other: _struct_pb2.Struct
    def __init__(self, probability: _Optional[float] = ..., steps: _Optional[_Iterable[_Union[ImaginedStep, _Mapping]]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., **kwargs) -> None: ...

class ImagineResponse(_message.Message):
    __slots__ = ("level", "rollouts", "other")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    level: str
    rollouts: _containers.RepeatedCompositeFieldContainer[Rollout]
    other: _struct_pb2.Struct
    def __init__(self, level: _Optional[str] = ..., rollouts: _Optional[_Iterable[_Union[Rollout, _Mapping]]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ImagineEvent(_message.Message):
    __slots__ = ("step", "end")
    STEP_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    step: StepEvent
    end: ImagineResponse
    def __init__(self, step: _Optional[_Union[StepEvent, _Mapping]] = ..., end: _Optional[_Union[ImagineResponse, _Mapping]] = ...) -> None: ...

class StepEvent(_message.Message):
    __slots__ = ("rollout", "index", "step")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    rollout: int
    index: int
    step: ImaginedStep
    def __init__(self, rollout: _Optional[int] = ..., index: _Optional[int] = ..., step: _Optional[_Union[ImaginedStep, _Mapping]] = ...) -> None: ...

class DreamRequest(_message.Message):
    __slots__ = ("model", "version", "count", "seed", "sample", "observation", "session_id", "dream_id", "ttl_s", "include")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    count: int
    seed: int
    sample: bool
    observation: Observation
    session_id: str
    dream_id: str
    ttl_s: float
    include: Names
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., sample: _Optional[bool] = ..., observation: _Optional[_Union[Observation, _Mapping]] = ..., session_id: _Optional[str] = ..., dream_id: _Optional[str] = ..., ttl_s: _Optional[float] = ..., include: _Optional[_Union[Names, _Mapping]] = ...) -> None: ...

class DreamResponse(_message.Message):
    __slots__ = ("dream_id", "model", "version", "count", "step", "observation", "observation_space", "action_space", "expires_at", "observations", "other")
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    model: str
    version: str
    count: int
    step: int
    observation: _containers.RepeatedCompositeFieldContainer[Observation]
    observation_space: Space
    action_space: Space
    expires_at: str
    observations: Observation
    other: _struct_pb2.Struct
    def __init__(self, dream_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., count: _Optional[int] = ..., step: _Optional[int] = ..., observation: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ..., observation_space: _Optional[_Union[Space, _Mapping]] = ..., action_space: _Optional[_Union[Space, _Mapping]] = ..., expires_at: _Optional[str] = ..., observations: _Optional[_Union[Observation, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class DreamStepRequest(_message.Message):
    __slots__ = ("dream_id", "actions", "step", "include", "autoreset", "image", "begin")
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    AUTORESET_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    step: int
    include: Names
    autoreset: bool
    image: str
    begin: Indices
    def __init__(self, dream_id: _Optional[str] = ..., actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., step: _Optional[int] = ..., include: _Optional[_Union[Names, _Mapping]] = ..., autoreset: _Optional[bool] = ..., image: _Optional[str] = ..., begin: _Optional[_Union[Indices, _Mapping]] = ...) -> None: ...

class DreamStepResponse(_message.Message):
    __slots__ = ("dream_id", "step", "replayed", "observation", "reward", "continuation", "terminated", "value", "gates_open", "context_changed", "observations", "other")
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GATES_OPEN_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_CHANGED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    step: int
    replayed: bool
    observation: _containers.RepeatedCompositeFieldContainer[Observation]
    reward: _containers.RepeatedScalarFieldContainer[float]
    continuation: _containers.RepeatedScalarFieldContainer[float]
    terminated: _containers.RepeatedScalarFieldContainer[bool]
    value: _containers.RepeatedScalarFieldContainer[float]
    gates_open: _containers.RepeatedScalarFieldContainer[int]
    context_changed: _containers.RepeatedScalarFieldContainer[bool]
    observations: Observation
    other: _struct_pb2.Struct
    def __init__(self, dream_id: _Optional[str] = ..., step: _Optional[int] = ..., replayed: _Optional[bool] = ..., observation: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ..., reward: _Optional[_Iterable[float]] = ..., continuation: _Optional[_Iterable[float]] = ..., terminated: _Optional[_Iterable[bool]] = ..., value: _Optional[_Iterable[float]] = ..., gates_open: _Optional[_Iterable[int]] = ..., context_changed: _Optional[_Iterable[bool]] = ..., observations: _Optional[_Union[Observation, _Mapping]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class GetDreamRequest(_message.Message):
    __slots__ = ("dream_id",)
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    def __init__(self, dream_id: _Optional[str] = ...) -> None: ...

class ListDreamsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDreamsResponse(_message.Message):
    __slots__ = ("dreams", "other")
    DREAMS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    dreams: _containers.RepeatedCompositeFieldContainer[DreamResponse]
    other: _struct_pb2.Struct
    def __init__(self, dreams: _Optional[_Iterable[_Union[DreamResponse, _Mapping]]] = ..., other: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Indices(_message.Message):
    __slots__ = ("indices",)
    INDICES_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, indices: _Optional[_Iterable[int]] = ...) -> None: ...

class ResetDreamRequest(_message.Message):
    __slots__ = ("dream_id", "indices", "seed", "include")
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    indices: Indices
    seed: int
    include: Names
    def __init__(self, dream_id: _Optional[str] = ..., indices: _Optional[_Union[Indices, _Mapping]] = ..., seed: _Optional[int] = ..., include: _Optional[_Union[Names, _Mapping]] = ...) -> None: ...

class ForkDreamRequest(_message.Message):
    __slots__ = ("dream_id", "seed")
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    seed: int
    def __init__(self, dream_id: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class DeleteDreamRequest(_message.Message):
    __slots__ = ("dream_id",)
    DREAM_ID_FIELD_NUMBER: _ClassVar[int]
    dream_id: str
    def __init__(self, dream_id: _Optional[str] = ...) -> None: ...

class DeleteDreamResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
