"""The server process: tells when it listens, and can be stopped from another thread."""

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

PATIENCE_SECONDS = 3  # for responses in flight when the server stops


class Server(uvicorn.Server):
    """Serves `app` on sockets that are bound already.

    Args:
        ready: is called once it listens.
        patience: seconds that responses in flight are given when the server stops.
    """

    def __init__(
        self, app: ASGIApp, ready: Callable[[], object], patience: int = PATIENCE_SECONDS
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=patience,
                server_header=False,
            )
        )
        self._ready = ready

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
