"""A client of the Shape HTTP API: `ShapeStream` for the messages, `Shape` for the current rows.

async with Shape(ShapeStream("http://localhost:3000", "items")) as shape:
    rows = await shape.up_to_date()
"""

from pgshapes.client.messages import Batch, ChangeMessage, ControlMessage, Message, Position
from pgshapes.client.query import Query
from pgshapes.client.shape import Rows, Shape, apply_change, fetch_rows
from pgshapes.client.shape_stream import Backoff, ShapeStream, StreamOptions, open_http

__all__ = [
    "Backoff",
    "Batch",
    "ChangeMessage",
    "ControlMessage",
    "Message",
    "Position",
    "Query",
    "Rows",
    "Shape",
    "ShapeStream",
    "StreamOptions",
    "apply_change",
    "fetch_rows",
    "open_http",
]
