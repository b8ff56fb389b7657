"""The glossary has each term once, and the place that it names exists."""

from __future__ import annotations

import re
from collections import Counter

from tests.architecture.source import PACKAGE, ROOT, SOURCE

GLOSSARY = ROOT / "docs" / "glossary.md"
ROW = re.compile(r"^\| (?P<word>[^|]+) \| (?P<meaning>[^|]+) \| ?(?P<place>[^|]*?) ?\|$", re.MULTILINE)

# The words that the design defines, and the nouns of a row's way from Postgres to a client.
WORDS = {
    *("relation", "replication slot", "publication", "replica identity", "LSN", "xid", "snapshot visibility"),
    *("shape", "comparable", "handle", "offset", "log", "chunk", "up-to-date", "must-refetch", "key", "tail"),
    *("owner", "caller", "mailbox", "creation lock", "poll wait", "admission", "readiness", "table"),
    *("message", "change", "transaction", "entry", "replicator", "epoch", "catalogue", "delta", "link"),
    *("shape cache", "shape status", "inspector", "write buffer", "flight", "barrier", "retake"),
}


def rows() -> list[re.Match[str]]:
    found = ROW.finditer(GLOSSARY.read_text(encoding="utf-8"))
    return [row for row in found if row["word"] not in ("word", "---")]


def test_the_words_of_the_design_are_there() -> None:
    assert WORDS - {row["word"] for row in rows()} == set()


def test_each_word_is_there_once() -> None:
    words = Counter(row["word"] for row in rows())
    assert [word for word, times in words.items() if times > 1] == []


def test_every_line_of_the_tables_is_a_word() -> None:
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    heads = [line for line in lines if line.startswith(("| word ", "|---"))]
    assert len(lines) - len(heads) == len(rows())


def test_things_live_where_the_glossary_says() -> None:
    places = {row["word"]: row["place"].strip("`") for row in rows() if row["place"]}
    assert {word: place for word, place in places.items() if not (SOURCE / PACKAGE / place).exists()} == {}
