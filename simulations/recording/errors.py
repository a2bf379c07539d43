"""What may go wrong while traffic is recorded.

RecordError
├── BadSpec           an argument that cannot be used; nothing was asked of the server
├── NotInstalled      what records is an extra, and is not there
├── TargetTaken       the target, or what is left beside it, belongs to other arguments
├── Unreachable       no answer, or none that a Prometheus would give, after all retries
├── Unauthorised      the server wants other credentials
├── BadQuery          Prometheus refuses the query, and says why
├── TooLarge          Prometheus finds even the smallest piece of the range too much
└── NothingFound      the query matches nothing in the range
"""


class RecordError(Exception):
    """Any of these. The message is for the person who asked, and holds no credentials."""


class BadSpec(RecordError):
    """An argument that cannot be used: which, what it says, what is allowed."""


class NotInstalled(RecordError):
    """A library of the extra is missing."""


class TargetTaken(RecordError):
    """The target holds something else, or somebody else is at it."""


class Unreachable(RecordError):
    """No answer, or none that a Prometheus would give."""


class Unauthorised(RecordError):
    """The server refuses whoever asks."""


class BadQuery(RecordError):
    """Prometheus refuses the query; the message is its own."""


class TooLarge(RecordError):
    """More samples or points than Prometheus gives at once."""


class NothingFound(RecordError):
    """The query matches nothing; the message names what resembles it."""
