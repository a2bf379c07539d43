"""Every link of the documentation that stays in the repository leads somewhere."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.test_house import ROOT, kept_files

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(path for path in kept_files() if path.endswith(".md"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What a heading is reached by: lower case, dashes for spaces, and no other signs."""
    text = FENCED.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    here = ROOT / page
    lost = []
    for target, anchor in LINK.findall(FENCED.sub("", here.read_text())):
        found = here if not target else here.parent / target
        is_there = found.exists() and (not anchor or anchor in anchors(found.resolve()))
        if not is_there:
            lost.append(f"{target}#{anchor}" if anchor else target)
    assert not lost
