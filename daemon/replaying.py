"""How a divergence reads in a terminal."""

from datetime import UTC, datetime

from policies.actions import Action, Hold, Load
from policies.replay import Divergence


def told(divergence: Divergence) -> str:
    """The tick, what was decided then, and what is decided now."""
    tick, plan = divergence.tick, divergence.plan
    at = datetime.fromtimestamp(tick.snapshot.now_s, UTC).isoformat(timespec="milliseconds")
    head = f"tick {divergence.number} at {at}: {divergence.what} differ"
    then = _lines("then", tuple(tick.actions), tuple(tick.holds))
    now = _lines("now", plan.actions, plan.holds)
    if divergence.what == "history":
        names = sorted(
            name
            for name in {*tick.next_history.models, *plan.history.models}
            if tick.next_history.models.get(name) != plan.history.models.get(name)
        )
        return f"{head}: {', '.join(names) or 'totals'}"
    return "\n".join([head, *then, *now])


def _lines(when: str, actions: tuple[Action, ...], holds: tuple[Hold, ...]) -> list[str]:
    told = [f"  {when}: {_action(action)}" for action in actions]
    told += [f"  {when}: hold {hold.subject} ({hold.reason}) {hold.detail}" for hold in holds]
    return told or [f"  {when}: nothing"]


def _action(action: Action) -> str:
    if isinstance(action, Load):
        return f"load {action.model} ({action.reason})"
    return f"unload {action.model} ({action.reason})"
