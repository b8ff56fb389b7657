"""Why a clause is not accepted, before it is known which field of the request it came from."""

from __future__ import annotations

from pgshapes.errors import RequestError


class Refusal(Exception):
    """A clause or a parameter that cannot be taken; `at` is a byte position in the user's text, None for
    none.
    """

    def __init__(self, text: str, *, at: int | None = None, field: str = "where") -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        self.field = field

    def as_request_error(self) -> RequestError:
        """The 400, in the form of http-api §3 and semantics §2.1."""
        text = self.text if self.at is None else f"At location {self.at}: {self.text}"
        return RequestError.field(self.field, text)
