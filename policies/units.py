"""Which models come and go together: ensembles with their steps, callers with their callees.

Owns the dependency graph of one snapshot. Refuses to know about memory and worth.
A circle, which a repository on disk may hold though Triton would refuse it, is walked once.
"""

from collections.abc import Mapping

from policies.policy import Policy
from policies.snapshot import Model


class Units:
    """Members and callers of every model of one snapshot."""

    def __init__(self, policy: Policy, models: Mapping[str, Model]) -> None:
        self._steps = {name: model.steps for name, model in models.items() if model.steps}
        callers = models if policy.has_calls else ()
        self._calls = {name: calls for name in callers if (calls := policy.calls(name))}
        self._callers: dict[str, list[str]] = {}
        for name in sorted({*self._steps, *self._calls}):
            for member in self._direct(name):
                self._callers.setdefault(member, []).append(name)

    def members(self, root: str) -> tuple[str, ...]:
        """``root`` and all it needs, each once, whatever is needed before what needs it."""
        if root not in self._steps and root not in self._calls:
            return (root,)
        ordered: list[str] = []
        self._walk(root, set(), ordered)
        return tuple(ordered)

    def callers(self, member: str) -> tuple[str, ...]:
        """Every model that needs ``member``, however far up, but not in a circle with it."""
        if member not in self._callers:
            return ()
        above: dict[str, None] = {}
        open_names = [member]
        while open_names:
            for caller in self._callers.get(open_names.pop(), ()):
                if caller not in above:
                    above[caller] = None
                    open_names.append(caller)
        below = set(self.members(member))
        return tuple(name for name in above if name not in below)

    def callees_first(self, root: str) -> tuple[str, ...]:
        """Members to load by hand before ``root``; Triton brings steps with their ensemble."""
        members = self.members(root)
        steps = {step for name in members for step in self._steps.get(name, ())}
        return tuple(name for name in members if name != root and name not in steps)

    def steps(self, name: str) -> tuple[str, ...]:
        return self._steps.get(name, ())

    def _direct(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._steps.get(name, ()), *self._calls.get(name, ()))))

    def _walk(self, name: str, seen: set[str], ordered: list[str]) -> None:
        # Deep chains would exhaust the stack of a recursive walk, and the plan is total.
        stack = [(name, iter(self._direct(name)))]
        seen.add(name)
        while stack:
            current, members = stack[-1]
            member = next((m for m in members if m not in seen), None)
            if member is None:
                ordered.append(current)
                stack.pop()
            else:
                seen.add(member)
                stack.append((member, iter(self._direct(member))))
