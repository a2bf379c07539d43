"""docs/walkthrough.md, typed: ``python -m tests.manifests.walkthrough PART``.

PART is `serving` or `cluster`. Each prints its commands and what came, which is
docs/walkthrough-transcript.md; neither is a test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.manifests.alone import ALONE
from tests.manifests.walkthrough import cluster, serving

PARTS = {"serving": serving.play, "cluster": cluster.play}


def main(part: str, *where: str) -> int:
    if part == "serving" and not where:
        # Where the manifest's ports are free.
        again = [*ALONE, sys.executable, "-m", "tests.manifests.walkthrough", part, "here"]
        return subprocess.run(again, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="walkthrough-") as folder:
        PARTS[part](Path(folder))
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
