"""The reason why a clause, a parameter or a sort order is not accepted."""

from __future__ import annotations

from pgshapes.errors import RequestError


class Refusal(Exception):
    """Not accepted. `at` is a byte position in the client's text, None without one; `field` that of the
    request.
    """

    def __init__(self, text: str, *, at: int | None = None, field: str = "where") -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        self.field = field

    def as_request_error(self) -> RequestError:
        """The error of the request, with the position in its text."""
        text = self.text if self.at is None else f"At location {self.at}: {self.text}"
        return RequestError.field(self.field, text)
