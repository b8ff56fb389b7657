"""The commands that `pgshapes dev` prints can be pasted into a shell."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

from pgshapes.cli import dev_guide
from pgshapes.cli.dev_guide import guide, node_snippet
from pgshapes.client import Position

URL = "http://127.0.0.1:3000"
TEXT = guide(URL, "postgresql://postgres:x@127.0.0.1:5432/postgres", Position("H", "5_0"))


def test_curl_lines_are_quoted() -> None:
    lines = [shlex.split(line) for line in TEXT.splitlines() if line.strip().startswith("curl")]
    assert lines == [
        ["curl", "-i", f"{URL}/v1/shape?table=items&offset=-1"],
        ["curl", "-i", f"{URL}/v1/shape?table=items&handle=H&offset=5_0&live=true"],
    ]


def test_the_python_snippet_is_python() -> None:
    snippet = TEXT.split("<<'END'\n", 1)[1].split("\nEND\n", 1)[0]
    ast.parse(snippet)
    assert URL in snippet


def test_the_node_snippet_runs_the_script_of_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / dev_guide.FOLLOW_SCRIPT
    (script.parent / "node_modules" / dev_guide.CLIENT_PACKAGE).mkdir(parents=True)
    monkeypatch.setattr(dev_guide, "_checkout", lambda: tmp_path)
    words = shlex.split(node_snippet(URL))
    assert words[-3:] == [str(script), URL, "items"]


def test_the_node_snippet_elsewhere_installs_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dev_guide, "_checkout", lambda: tmp_path)
    assert node_snippet(URL).startswith("npm install @electric-sql/client && node --input-type=module")


def test_the_script_named_by_the_guide_exists() -> None:
    assert (Path(__file__).resolve().parents[3] / dev_guide.FOLLOW_SCRIPT).is_file()
