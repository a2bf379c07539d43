"""The way of one request through the door, the same for every protocol.

Owns the loop: admit, send, and when Triton says that the model is absent after all, hold
the request again. Refuses to know how a request is sent.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from daemon.frontdoor.gate import LONGEST_NAME, Call, Gate
from daemon.frontdoor.refusals import Outcome, Refusal
from daemon.triton import Triton, TritonError

# What Triton says of a model that it does not serve now. Others say such things too, of
# models that they call, so the model's own name must stand beside it.
_ABSENT = ("is not found", "has no available versions", "is not at ready state")
_READY_TIMEOUT_S = 2.0
# A request is sent again and again while its model comes and goes. What a model that is ready has
# refused so often (to Envoy a full queue looks like a miss) it means.
MOST_ATTEMPTS = 16
NOT_CONNECTED = "failed to connect to all addresses"
"""What gRPC itself says when there was nobody to send to; else the request may have arrived."""


class Answer(Protocol):
    @property
    def is_miss(self) -> bool:
        """Whether Triton says that the model is not there."""
        ...


A = TypeVar("A", bound=Answer)


class NotSent(Exception):
    """Triton could not be connected to: nothing was asked of it, and asking again is safe."""


def says_absent(model: str, text: str) -> bool:
    """Whether ``text``, a refusal of Triton's, means that ``model`` is not served now."""
    return f"'{model}'" in text and any(words in text for words in _ABSENT)


@dataclass(slots=True)
class Passage:
    """One request's way in; waited_s is how long it was held."""

    gate: Gate
    triton: Triton
    call: Call
    waited_s: float = 0.0

    async def through_us(self, send: Callable[[], Awaitable[A]]) -> A:
        """Sends the request to Triton ourselves, and again after each miss. Raises Refusal."""
        attempt = 0
        while True:
            attempt += 1
            waited = await self._admit()
            try:
                with self.gate.inside(self.call, waited=waited):
                    answer = await send()
            except NotSent as error:
                if attempt >= MOST_ATTEMPTS:
                    raise Refusal(Outcome.TRITON_FAILED, str(error), 1.0) from None
            else:
                if not answer.is_miss or attempt >= MOST_ATTEMPTS or await self._lacks_version():
                    return answer
            self._miss(waited=waited)

    async def through_envoy(self, attempt: int) -> None:
        """Returns when Envoy may send its own copy. Raises Refusal.

        Envoy comes here because Triton has refused it; if we know better, Triton is asked.
        When we are stopped, it is sent round once more, to wait at our successor's door.
        """
        while True:
            try:
                waited = await self._admit()
            except Refusal as refusal:
                if refusal.outcome is Outcome.CLOSING:
                    return
                raise
            if not waited and attempt > MOST_ATTEMPTS:
                text = f"Triton refuses this although {self.call.model} is ready"
                raise Refusal(Outcome.TRITON_FAILED, text, 1.0)
            if waited or await self._is_ready():
                self.gate.released(self.call, waited=waited)
                return
            if await self._lacks_version():
                version = f"'{self.call.model}' version {self.call.version[:LONGEST_NAME]}"
                text = f"Request for unknown model: {version} is not found"
                raise Refusal(Outcome.UNKNOWN_MODEL, text)
            self._miss(waited=waited)

    async def _admit(self) -> bool:
        began_s = self.gate.now_s()
        waited = await self.gate.admit(self.call)
        if waited:
            self.waited_s += self.gate.now_s() - began_s
        return waited

    def _miss(self, *, waited: bool) -> None:
        self.gate.distrust(self.call.model, replayed=waited)
        self.call = replace(self.call, counted=self.waited_s > 0)

    async def _is_ready(self) -> bool:
        try:
            return await self.triton.is_ready(self.call.model, self.call.version, _READY_TIMEOUT_S)
        except TritonError:
            return False

    async def _lacks_version(self) -> bool:
        """The model serves, but not the version that was asked for: no load will help."""
        if not self.call.version:
            return False
        try:
            return await self.triton.is_ready(
                self.call.model, "", _READY_TIMEOUT_S
            ) and not await self.triton.is_ready(
                self.call.model, self.call.version, _READY_TIMEOUT_S
            )
        except TritonError:
            return False
