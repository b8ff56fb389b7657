"""Finds secrets on the command line, and hides them from other users and from our own messages."""

from __future__ import annotations

from collections.abc import Sequence

from pgshapes.config import settings
from pgshapes.redaction import redaction


def hide_secret_arguments(arguments: Sequence[str]) -> None:
    """Overwrite the secrets in the command line of this process, and keep them out of its texts."""
    found = secret_arguments(arguments)
    if found:
        # Imported late, because most commands have no secrets and do not need the server.
        from pgshapes.server.environment import hide_arguments

        hide_arguments(found)
        redaction.hide(found)


def secret_arguments(arguments: Sequence[str]) -> list[str]:
    """The values of options that are secret, and URLs with a password wherever they stand."""
    flags = {setting.flag for setting in settings() if setting.is_secret}
    found = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, equals, value = argument.partition("=")
        if before in flags or ("://" in argument and "@" in argument and not argument.startswith("-")):
            found.append(argument)
        elif equals and option in flags:
            found.append(value)
    return found
