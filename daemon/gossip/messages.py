"""What pods and operators say to each other: checked, versioned, bounded, compact.

Owns the form of messages, in both directions. Refuses to know who sent one and whether it is
news. Ages travel in place of times, so that no pod's clock is believed by another.
"""

from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VERSION = 1
LARGEST_BYTES = 64 * 1024
"""The largest message that we send or read; the broker is asked to keep larger ones from us."""
MOST_RESIDENTS = 512
MOST_LEARNED = 256
MOST_DEVICES = 64
LONGEST_NAME = 256

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Bytes = Annotated[int, Field(ge=0, le=2**60)]
Hourly = Annotated[int, Field(ge=1, le=2**60)]
Age = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


Why = Literal["too_large", "version", "malformed", "topic", "unknown_model"]


class Refused(ValueError):
    """A message that cannot be used: ``why`` is one word for a counter."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why


class _Message(BaseModel):
    """Keys that we do not know are left alone: a later Remora of the same version may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    version: Annotated[int, Field(ge=0)] = VERSION


class LearnedModel(NamedTuple):
    """What one load of a model took, as a pod has measured it; a list of four in a message.

    footprint_bytes: on each device it lives on; None before it was measured. on_host: that device
    is the host's memory. file_bytes: what its files weigh, by which other files are told from ours;
    None where they cannot be seen. Their times differ between copies and say nothing.
    """

    footprint_bytes: Bytes | None
    load_s: Seconds | None
    on_host: bool
    file_bytes: Bytes | None


class PodState(_Message):
    """What a pod tells of itself, retained by the broker; everything is as of its latest tick.

    run: drawn anew at each start of the sidecar. sequence: grows with each message of a run.
    residents: models that can serve, and for how many seconds they have been able to.
    load: offered work in pods; None while unknown.
    headroom: bytes by device that models could still take; unknown ones are left out.
    learned: what the pod has learned of models, those that are resident first.
    leaving: it takes no new work, and will be gone soon.
    place: what routers know the pod by; without it the pod's name.
    asked: requests per hour, down to a power of two, of residents that are asked for of late.
    """

    run: Annotated[str, Field(min_length=1, max_length=32)]
    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    load: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    headroom: Annotated[dict[Name, Bytes], Field(max_length=MOST_DEVICES)] = {}
    leaving: bool = False
    residents: Annotated[dict[Name, Age], Field(max_length=MOST_RESIDENTS)] = {}
    learned: Annotated[dict[Name, LearnedModel], Field(max_length=MOST_LEARNED)] = {}
    place: Name | None = None
    asked: Annotated[dict[Name, Hourly], Field(max_length=MOST_RESIDENTS)] = {}


class DemandHint(_Message):
    """An operator expects requests for a model.

    count: how many. pods: how many pods should take them; which ones follows from their names.
    """

    count: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    pods: Annotated[int, Field(ge=1, le=100_000)] = 1


class DrainRequest(_Message):
    """An operator asks a pod to leave."""


M = TypeVar("M", bound="_Message")

_CUT_FIRST = ("learned", "asked", "residents")
_VERSIONED = TypeAdapter(_Message)


def encoded(message: _Message) -> bytes:
    """The message in as few bytes as JSON allows; what is at its default is left out.

    A state that would be too large leaves out what was learned, the last first, then what is asked
    for, and then residents: what peers do not know that we hold, they may hold as well.
    """
    content = _dumped(message)
    while len(content) > LARGEST_BYTES and isinstance(message, PodState):
        cut = next(part for part in _CUT_FIRST if getattr(message, part) or part == _CUT_FIRST[-1])
        rows = list(getattr(message, cut).items())
        message = message.model_copy(update={cut: dict(rows[: len(rows) // 2])})
        content = _dumped(message)
    return content


def _dumped(message: _Message) -> bytes:
    said = message.model_dump_json(exclude_defaults=True, exclude={"version"})
    rest = said[1:-1]
    return f'{{"version":{message.version}{"," if rest else ""}{rest}}}'.encode()


def decoded(kind: type[M], payload: bytes) -> M:
    """Reads one message. Raises Refused."""
    if len(payload) > LARGEST_BYTES:
        raise Refused("too_large", f"{len(payload)} bytes; allowed: {LARGEST_BYTES}")
    try:
        message = kind.model_validate_json(payload)
    except ValidationError as error:
        raise _refused(error, payload) from None
    if message.version != VERSION:
        raise Refused("version", f"{message.version}; we know {VERSION}")
    return message


def _refused(error: ValidationError, payload: bytes) -> Refused:
    """A message of another version need not look like ours, and is told from one that is wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))[:LONGEST_NAME]
    try:
        version = _VERSIONED.validate_json(payload).version
    except ValidationError:
        version = VERSION
    if version != VERSION:
        return Refused("version", f"{version}; we know {VERSION}")
    return Refused("malformed", f"{where}: {first['msg']}" if where else first["msg"])
