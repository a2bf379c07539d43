"""Models that come from a bucket, over the wire that S3 speaks."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import boto3
import pytest

from daemon.pulling.bringing import Bringing
from daemon.pulling.folders import Folder
from daemon.pulling.offers import PullError, Refused, Unreachable
from daemon.pulling.placing import repository
from tests.daemon.pulling.folders import CONFIG, contents, stamps
from tests.daemon.pulling.servers import Bucket

MODEL = {"fraud/config.pbtxt": CONFIG, "fraud/1/model.py": "one", "fraud/1/parts/w": "w" * 10_000}


def put(objects: Mapping[str, str], name: str = "") -> str:
    """The name of the bucket that holds them now, a new one unless named."""
    client = boto3.client("s3")
    if not name:
        name = f"models-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=name)
    for key, text in objects.items():
        client.put_object(Bucket=name, Key=key, Body=text.encode())
    client.close()
    return name


def pull(url: str, root: Path) -> list[str]:
    said: list[str] = []
    with repository(root, said.append) as place:
        Bringing("fraud", Folder(url, 2), 2, place, said.append).bring()
    return said


def test_a_model_comes_and_the_next_pull_touches_nothing(bucket: Bucket, root: Path) -> None:
    name = put(MODEL | {"fraud/1/": "", "other/1/model.py": "not ours"})
    pull(f"s3://{name}/fraud", root)
    assert contents(root) == MODEL
    before = stamps(root)
    assert pull(f"s3://{name}/fraud/", root) == ["fraud: unchanged, with version 1"]
    assert stamps(root) == before


def test_a_new_version_is_seen_by_the_next_pull(bucket: Bucket, root: Path) -> None:
    name = put(MODEL)
    pull(f"s3://{name}/fraud", root)
    put({"fraud/2/model.py": "two"}, name)
    pull(f"s3://{name}/fraud", root)
    assert contents(root) == MODEL | {"fraud/2/model.py": "two"}


@pytest.mark.parametrize(
    "key",
    ["fraud/1/../../../evil", "fraud/1//evil", "fraud/1/a\\b", "fraud//etc/evil", "fraud/1/\x07"],
)
def test_a_key_that_leads_elsewhere_is_refused(key: str, bucket: Bucket, root: Path) -> None:
    name = put(MODEL | {key: "evil"})
    with pytest.raises(Refused, match="allowed: a path downwards, of plain names"):
        pull(f"s3://{name}/fraud", root)
    assert contents(root.parent) == {}


def test_a_bucket_that_is_not_there_or_not_ours_is_told(
    bucket: Bucket, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match="s3://no-such-bucket-anywhere/m"):
        pull("s3://no-such-bucket-anywhere/m", root)
    name = put({"elsewhere/1/model.py": "one"})
    with pytest.raises(Unreachable, match="nothing is there"):
        pull(f"s3://{name}/m", root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PullError, match=f"s3://{name}/m: "):
        pull(f"s3://{name}/m", root)
