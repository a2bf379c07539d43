"""Topics, and their description for those who write other clients."""

import pytest
import yaml

from daemon.gossip import description
from daemon.gossip.messages import DemandHint, DrainRequest, PodState
from daemon.gossip.topics import Topics

TOPICS = Topics("a/b")


def test_each_topic_is_understood_by_who_hears_it() -> None:
    assert TOPICS.pod_of(TOPICS.pod("web-0")) == "web-0"
    for model in ("resnet", "a/b", "with space", "+", "#", "ü", "100%"):
        topic = TOPICS.demand(model)
        assert TOPICS.model_of(topic) == model
        assert topic.count("/") == 3
        assert not set(topic) & set("+#")


@pytest.mark.parametrize(
    "topic", ["a/b/pods", "a/b/pods/", "a/b/pods/x/y", "a/c/pods/x", "a/b/pods/-x", "a/b/demand/x"]
)
def test_other_topics_are_no_pods(topic: str) -> None:
    assert TOPICS.pod_of(topic) is None


def test_the_description_says_what_the_code_does() -> None:
    assert description.FILE.read_text("utf-8") == description.text(), (
        "run: python -m daemon.gossip.description"
    )


def test_the_described_channels_are_the_topics_that_are_used() -> None:
    written = yaml.safe_load(description.FILE.read_text("utf-8"))
    addresses = {
        name: channel["address"].format(root="a/b", pod="web-0", model="resnet")
        for name, channel in written["channels"].items()
    }
    assert addresses == {
        "pod": TOPICS.pod("web-0"),
        "demand": TOPICS.demand("resnet"),
        "drain": TOPICS.drain("web-0"),
    }


def test_the_described_messages_have_the_keys_that_are_read() -> None:
    schemas = yaml.safe_load(description.FILE.read_text("utf-8"))["components"]["schemas"]
    for kind in (PodState, DemandHint, DrainRequest):
        assert schemas[kind.__name__]["properties"].keys() == kind.model_fields.keys()
