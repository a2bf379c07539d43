"""How often a pod of a fleet speaks: the more pods listen to each other, the more rarely each.

Owns those times. Every pod hears every other, so what each hears grows with the fleet, and what
all hear with its square. Refuses to know what is said and how it is sent (`daemon.gossip`, or a
simulated broker).
"""

from dataclasses import dataclass

MOST_HEARD_PER_S = 30.0
"""Messages a second that a sidecar may be told, on average, however large its fleet is."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a pod speaks.

    change_s: the shortest time between two messages. drift_s: how often figures that have moved
    are told. heartbeat_s: how often something is said in any case. expiry_s: the silence after
    which a pod is taken for dead; three heartbeats, and some for a slow broker.
    """

    change_s: float = 1.0
    drift_s: float = 15.0
    heartbeat_s: float = 60.0
    expiry_s: float = 190.0

    def gap_s(self, pods: int) -> float:
        """The shortest time between two messages of one pod, in a fleet of ``pods``.

        If every one of them spoke so often, each would be told `MOST_HEARD_PER_S`. Who has been
        silent for longer is not kept waiting: what the fleet learns late is the second change
        within the gap. Never longer than a heartbeat, or the living would be taken for dead.
        """
        return min(self.heartbeat_s, max(self.change_s, pods / MOST_HEARD_PER_S))
