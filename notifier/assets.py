"""The JavaScript client, as pages import it: built files under an address that has the protocol's version in it."""

from importlib import resources
from pathlib import Path
from typing import Any, Final

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

CLIENT_PATH: Final = "/client/v1"
HEADERS: Final = {
    "Cache-Control": "public, max-age=3600",
    "Cross-Origin-Resource-Policy": "cross-origin",  # A page of another origin may import it, also an isolated one.
    "X-Content-Type-Options": "nosniff",
}


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 - as Starlette's
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def client_files() -> ASGIApp:
    """What to mount at CLIENT_PATH."""
    directory = Path(str(resources.files("notifier.clients").joinpath("web", "v1")))
    return GZipMiddleware(_Files(directory=directory), minimum_size=500, compresslevel=9)
