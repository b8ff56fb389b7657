"""Ends shapes for which something was raised while a change was processed: logs it once with the traceback,
removes them, and refuses their definitions.

Not here: how it is found out for which shapes (`routing.failures`). State: what was
logged last, as an end that fails is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pgshapes.errors import RequestError
from pgshapes.logs import get_logger
from pgshapes.model.quoting import display_name
from pgshapes.model.shape import ShapeDefinition
from pgshapes.owner.definition_refusals import DefinitionRefusals
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.routed_shape import RoutedShape
from pgshapes.tables.tables import Tables
from pgshapes.where.types.operation import TooExpensive

_log = get_logger(__name__)


class FailedShapes:
    """The end of failed shapes. `end` retires shapes and removes them in the background."""

    def __init__(
        self, tables: Tables, refusals: DefinitionRefusals, end: Callable[[Iterable[str], str], object]
    ) -> None:
        self._tables = tables
        self._refusals = refusals
        self._end = end
        self._reported: ShapeFailure | None = None

    def end(self, failure: ShapeFailure) -> None:
        """End the shapes of a failure. May be repeated after an error."""
        live = [shape for shape in failure.shapes if self._is_in_use(shape)]
        if live:
            if failure is not self._reported:
                self._report(live, failure)
                self._reported = failure
            for shape in live:
                self._refuse(shape, failure.error)
        reason = f"a change could not be processed: {type(failure.error).__name__}"
        if isinstance(failure.error, TooExpensive):
            reason = failure.error.reason
        self._end(failure.handles, reason)

    def _is_in_use(self, shape: RoutedShape) -> bool:
        row = self._tables.shapes.get(shape.handle)
        return row is not None and row.state.is_in_use

    def _refuse(self, shape: RoutedShape, error: Exception) -> None:
        comparable = self._tables.shapes[shape.handle].comparable
        self._refusals.note(comparable, shape.known.generation, refusal(shape.definition, error))

    @staticmethod
    def _report(shapes: list[RoutedShape], failure: ShapeFailure) -> None:
        first = shapes[0].definition
        if isinstance(failure.error, TooExpensive):
            _log.error(
                "shapes ended: their clause takes too long",
                table=display_name(first.schema, first.table),
                handle=shapes[0].handle,
                count=len(shapes),
                where=first.where,
                key=failure.key,
                reason=failure.error.reason,
                action="use a cheaper clause; the definition is refused until the table is altered",
            )
            return
        _log.error(
            "shapes ended: a change could not be processed for them",
            table=display_name(first.schema, first.table),
            handle=shapes[0].handle,
            count=len(shapes),
            where=first.where,
            key=failure.key,
            action="report this as a defect; the definition is refused until the table is altered",
            exc_info=failure.error,
        )


def refusal(definition: ShapeDefinition, error: Exception) -> RequestError:
    """The 400 for a definition whose shape could not process a change. It names no value of a row."""
    if isinstance(error, TooExpensive):
        return RequestError.field(
            "where",
            f"The shape of this definition was ended: {error.reason}. The definition is refused until the"
            " table is altered or the server restarts: use a clause that is cheaper to evaluate",
        )
    text = (
        f"A change of the table could not be processed for this definition ({type(error).__name__}), so its"
        " shape was ended. The definition is refused until the table is altered or the server restarts: use"
        " another definition, and see the log of the server"
    )
    return RequestError.field("table" if definition.where is None else "where", text)
