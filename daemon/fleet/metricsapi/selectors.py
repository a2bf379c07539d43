"""Label selectors as Kubernetes writes them in a query: parsed, and held against labels.

Owns the grammar of ``a=b,c!=d,e in (f,g),h notin (i),j,!k``. Knows nothing of pods, metrics or
HTTP. A key that is absent satisfies ``!=`` and ``notin``, as it does in Kubernetes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),]|[^ \t\r\n=!(),]+)[ \t\r\n]*")
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"(?=.{1,253}/)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*/"
_KEY = re.compile(f"(?:{_PREFIX})?{_NAME}")
_VALUE = re.compile(f"(?:{_NAME})?")
_PUNCTUATION = frozenset("=!(),") | {"==", "!="}

# The HPAs of a cluster ask with the same few selectors over and over.
_KEPT_SELECTORS = 1024


class Operator(StrEnum):
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"


_SHAPED = {
    Operator.IN: "In",
    Operator.NOT_IN: "NotIn",
    Operator.EXISTS: "Exists",
    Operator.ABSENT: "DoesNotExist",
}


class SelectorError(ValueError):
    """A selector that Kubernetes would not take either: what, where, what is allowed."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """``=`` is IN with one value and ``!=`` is NOT_IN with one; the last two have none."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.ABSENT:
                return value is None

    @property
    def is_equality(self) -> bool:
        return self.operator is Operator.IN and len(self.values) == 1

    def shape(self) -> dict[str, Any]:
        """As one of a LabelSelector's matchExpressions."""
        values = {"values": sorted(self.values)} if self.values else {}
        return {"key": self.key, "operator": _SHAPED[self.operator], **values}


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements; one without any selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        # A loop: this is asked of every pod, and `all` would cost a generator each time.
        for requirement in self.requirements:  # noqa: SIM110
            if not requirement.matches(labels):
                return False
        return True

    def keys(self) -> frozenset[str]:
        return frozenset(requirement.key for requirement in self.requirements)

    def only(self, key: str) -> frozenset[str] | None:
        """The values that ``key`` can have at most where this matches; None is any."""
        sets = [
            requirement.values
            for requirement in self.requirements
            if requirement.key == key and requirement.operator is Operator.IN
        ]
        return frozenset.intersection(*sets) if sets else None

    def shape(self) -> dict[str, Any] | None:
        """As a LabelSelector object; None where everything is selected."""
        if not self.requirements:
            return None
        equal: dict[str, str] = {}
        expressions = []
        for each in self.requirements:
            if each.is_equality and each.key not in equal:
                equal[each.key] = next(iter(each.values))
            else:
                expressions.append(each.shape())
        return {
            name: part
            for name, part in (("matchLabels", equal), ("matchExpressions", expressions))
            if part
        }


EVERYTHING = Selector()


@lru_cache(maxsize=_KEPT_SELECTORS)
def parse(text: str) -> Selector:
    """Raises SelectorError."""
    tokens = _Tokens(text)
    if tokens.at_end:
        return EVERYTHING
    requirements = [_requirement(tokens)]
    while not tokens.at_end:
        tokens.expect(",")
        requirements.append(_requirement(tokens))
    return Selector(tuple(requirements))


class _Tokens:
    """The words of a selector, and how far they have been read."""

    def __init__(self, text: str) -> None:
        self._text = text
        # Every character is part of some token, or space around one.
        self._tokens = _TOKEN.findall(text)
        self._next = 0

    @property
    def at_end(self) -> bool:
        return self._next == len(self._tokens)

    def peek(self) -> str:
        """The next token; empty at the end."""
        return "" if self.at_end else self._tokens[self._next]

    def take(self) -> str:
        token = self.peek()
        self._next += 1
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise self.wrong(f"{token!r}")
        self._next += 1

    def word(self, shape: re.Pattern[str], allowed: str) -> str:
        token = self.peek()
        if token in _PUNCTUATION or not shape.fullmatch(token):
            raise self.wrong(allowed)
        return self.take()

    def wrong(self, allowed: str) -> SelectorError:
        found = repr(self.peek()) if self.peek() else "its end"
        return SelectorError(f"selector {self._text!r}: found {found}; allowed: {allowed}")


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.peek() == "!":
        tokens.take()
        return Requirement(_key(tokens), Operator.ABSENT)
    key = _key(tokens)
    match tokens.peek():
        case "=" | "==":
            tokens.take()
            return Requirement(key, Operator.IN, frozenset((_value(tokens),)))
        case "!=":
            tokens.take()
            return Requirement(key, Operator.NOT_IN, frozenset((_value(tokens),)))
        case "in" | "notin" as operator:
            tokens.take()
            return Requirement(key, Operator(operator), _values(tokens))
        case "" | ",":
            return Requirement(key, Operator.EXISTS)
    raise tokens.wrong("=, ==, !=, in, notin, a comma or the end")


def _key(tokens: _Tokens) -> str:
    return tokens.word(_KEY, "a label's key, of at most 63 characters after its prefix")


def _value(tokens: _Tokens) -> str:
    """A value, which may be empty: then a comma, a bracket or the end comes at once."""
    if tokens.peek() in ("", ",", ")"):
        return ""
    return tokens.word(_VALUE, "a label's value, of at most 63 characters")


def _values(tokens: _Tokens) -> frozenset[str]:
    """At least one: Kubernetes reads ``()`` as the empty value."""
    tokens.expect("(")
    values = [_value(tokens)]
    while tokens.peek() == ",":
        tokens.take()
        values.append(_value(tokens))
    tokens.expect(")")
    return frozenset(values)
