"""The application to mount in a server or a framework: `create_app`.

Owner and callers run in the event loop of the process that opens the application's lifespan, so exactly one
process per database may do so; a second one fails to start with an error that says why.
"""

from __future__ import annotations

from dataclasses import replace

from pgshapes.config import Settings
from pgshapes.http_api.settings import Authorize
from pgshapes.logs import get_logger
from pgshapes.server.application import Application
from pgshapes.wiring import single_process_application

_log = get_logger(__name__)

__all__ = ["Application", "Authorize", "Settings", "create_app"]


def create_app(settings: Settings, *, authorize: Authorize | None = None) -> Application:
    """An ASGI 3 application that serves the Shape HTTP API at `/v1/shape` below its mount point.

    Nothing is opened before its lifespan: run it with `uvicorn --lifespan on`, or give `app.lifespan` to the
    framework that it is mounted in. `settings.workers`, `host` and `port` are not used. A server that
    is stopping has to call the application's `stop_holding()`, or to limit its wait for requests
    (`uvicorn --timeout-graceful-shutdown 2`), because held requests last for up to `long_poll_timeout`.

    `authorize` decides on each request to `/v1/shape`, instead of the secret: it is awaited with the ASGI
    scope and the requested definition (None for a DELETE by handle alone) and returns whether the request may
    be answered; otherwise it gets 403. The decision may depend on the client, so responses then are
    `no-cache`: caches must revalidate each time.
    """
    return single_process_application(
        replace(settings, workers=0), authorize=authorize, on_failure=_log_failure
    )


def _log_failure(error: BaseException) -> None:
    _log.error(
        "replicator stopped; shapes are not served until the application is restarted", error=str(error)
    )
