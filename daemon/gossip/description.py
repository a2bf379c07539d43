"""Writes the topics' description from the code: ``python -m daemon.gossip.description``.

Owns deploy/gossip.asyncapi.yaml, for those who write another client or an access list.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from daemon.gossip.messages import LARGEST_BYTES, VERSION, DemandHint, DrainRequest, PodState
from daemon.gossip.topics import Topics

FILE = Path(__file__).parents[2] / "deploy" / "gossip.asyncapi.yaml"

_HEAD = "# Written by `python -m daemon.gossip.description`; edit the code.\n"
_KINDS: tuple[type[BaseModel], ...] = (PodState, DemandHint, DrainRequest)
_PARAMETERS = {
    "root": "First levels of all topics, --gossip-root.",
    "pod": "A pod's name in the fleet.",
    "model": "A model's name, percent-encoded.",
}


def text() -> str:
    """The file as it should be."""
    return _HEAD + yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=96)


def document() -> dict[str, Any]:
    topics = Topics("{root}")
    pod, drain = topics.pod("{pod}"), topics.drain("{pod}")
    # The model's name is quoted in a topic, and a placeholder must not be.
    demand = topics.demand("MODEL").replace("MODEL", "{model}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Remora gossip",
            "version": str(VERSION),
            "description": (
                f"MQTT 5. Messages are JSON of at most {LARGEST_BYTES} bytes. Another version is"
                " left unread; unknown keys are left alone."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {
            "pod": _channel(pod, PodState, _described("root", "pod")),
            "demand": _channel(demand, DemandHint, _described("root", "model")),
            "drain": _channel(drain, DrainRequest, _described("root", "pod")),
        },
        "operations": {
            "tellOfPod": _operation(
                "send",
                "pod",
                "A sidecar tells of its pod: when residents change, and once a heartbeat."
                " An empty message, its last will too, takes that back.",
                retain=True,
            ),
            "hearOfPods": _operation("receive", "pod", "Each sidecar hears all.", retain=True),
            "takeHint": _operation(
                "receive",
                "demand",
                "An operator expects requests; the pods that the model's name leads to take them."
                " A retained hint is not taken by those who come later.",
                retain=False,
            ),
            "drain": _operation(
                "receive",
                "drain",
                "An operator asks a pod to leave; an empty message calls it off.",
                retain=True,
            ),
        },
        "components": {
            "messages": {
                kind.__name__: {"payload": {"$ref": f"#/components/schemas/{kind.__name__}"}}
                for kind in _KINDS
            },
            "schemas": _schemas(),
        },
    }


def _described(*parameters: str) -> dict[str, dict[str, str]]:
    return {name: {"description": _PARAMETERS[name]} for name in parameters}


def _channel(
    address: str, kind: type[BaseModel], parameters: dict[str, dict[str, str]]
) -> dict[str, Any]:
    name = kind.__name__
    return {
        "address": address,
        "parameters": parameters,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _operation(action: str, channel: str, summary: str, *, retain: bool) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": 1 if action == "send" else 0, "retain": retain}},
    }


def _schemas() -> dict[str, Any]:
    """Each kind's schema, those that they refer to beside them."""
    found: dict[str, Any] = {}
    for kind in _KINDS:
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[kind.__name__] = schema
    return found


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
