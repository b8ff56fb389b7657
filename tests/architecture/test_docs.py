"""The pages name things that exist: links, files, tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.architecture.source import PACKAGE, ROOT, SOURCE

LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
TEST = re.compile(r"`(tests/[\w/.]+?)(?:::(\w+))?`")
FILE = re.compile(r"`([a-z_]+(?:/[a-z_]+)*\.py)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def pages() -> list[Path]:
    beside_docs = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*beside_docs, *sorted((ROOT / "docs").rglob("*.md"))]


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}#{anchor}"
        for page in pages()
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8"))
        if not _leads_somewhere((page.parent / target).resolve() if target else page, anchor)
    ]
    assert broken == []


def _leads_somewhere(target: Path, anchor: str) -> bool:
    if not anchor:
        return target.exists()
    return target.is_file() and anchor in map(_anchor, HEADING.findall(target.read_text(encoding="utf-8")))


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_tests_that_are_named_exist() -> None:
    missing = [
        f"{page.relative_to(ROOT)}: {path}::{name}"
        for page in pages()
        for path, name in TEST.findall(page.read_text(encoding="utf-8"))
        if not _has(ROOT / path, name)
    ]
    assert missing == []


def _has(path: Path, name: str) -> bool:
    return path.exists() and (not name or f"def {name}(" in path.read_text(encoding="utf-8"))


def test_modules_that_are_named_exist() -> None:
    modules = {str(path.relative_to(SOURCE / PACKAGE)) for path in (SOURCE / PACKAGE).rglob("*.py")}
    known = modules | {module.rpartition("/")[2] for module in modules}
    missing = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages()
        for name in FILE.findall(page.read_text(encoding="utf-8"))
        if name not in known and not (ROOT / name).exists()
    }
    assert missing == set()


def test_anchors_are_made_as_they_are_shown() -> None:
    assert _anchor("Delivered, registered, invisible") == "delivered-registered-invisible"
    assert _anchor("A creation's way") == "a-creations-way"
