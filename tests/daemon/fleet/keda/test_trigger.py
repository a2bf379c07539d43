"""What a ScaledObject's metadata may say."""

import pytest

from daemon.fleet.keda.trigger import Trigger, TriggerError, trigger

SERVER = "http://prometheus.monitoring:9090"


def test_the_scaled_objects_name_is_the_deployments_unless_told() -> None:
    bare = trigger("triton", "prod", {}, ())
    assert bare == Trigger("prod", "triton", "", 0.7, 0.01, "", "", 0.0)
    assert trigger("any", "prod", {"deployment": "triton"}, ()) == bare


def test_all_keys_are_read() -> None:
    metadata = {
        "scalerAddress": "remora-fleet.remora:9444",
        "deployment": "triton",
        "model": "resnet",
        "target": "0.5",
        "activationLoad": "0.2",
        "activationQuery": "sum(rate(x[1m]))",
        "activationThreshold": "3",
        "serverAddress": SERVER + "/",
    }
    wanted = trigger("scaled", "prod", metadata, (SERVER,))
    query = "sum(rate(x[1m]))"
    assert wanted == Trigger("prod", "triton", "resnet", 0.5, 0.2, query, SERVER, 3.0)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"activationquery": "x"}, "trigger metadata activationquery: 'x'; allowed: only the keys"),
        ({"target": "0"}, "trigger metadata target: '0'; allowed: a number from 0.001 to 1000"),
        ({"target": "nan"}, "target: 'nan'"),
        ({"activationLoad": "little"}, "activationLoad: 'little'"),
        ({"activationQuery": "x"}, "serverAddress: ''; allowed: both"),
        ({"serverAddress": SERVER}, "activationQuery: ''; allowed: both"),
        ({"deployment": "../secrets"}, "deployment: '../secrets'"),
        (
            {"activationQuery": "x", "serverAddress": "http://169.254.169.254"},
            f"serverAddress: 'http://169.254.169.254'; allowed: {SERVER}",
        ),
    ],
)
def test_what_is_wrong_is_named(metadata: dict[str, str], words: str) -> None:
    with pytest.raises(TriggerError) as caught:
        trigger("triton", "prod", metadata, (SERVER,))
    assert words in str(caught.value)


def test_no_server_may_be_asked_unless_it_is_allowed() -> None:
    metadata = {"activationQuery": "x", "serverAddress": SERVER}
    with pytest.raises(TriggerError, match="allowed: none: see --prometheus"):
        trigger("triton", "prod", metadata, ())
