"""A kubeconfig that names a fake API server."""

from pathlib import Path

import yaml


def write_kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig.yaml"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": "of-a-test"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
