"""What a client is told when something is wrong, in the shape that its library reads."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from foundling.base.config import ConfigError
from foundling.generation.request import QueueFull

logger = logging.getLogger(__name__)

ANTHROPIC = "/v1/messages"
"""Below this path errors have Anthropic's shape, elsewhere OpenAI's."""
CLOSED = 499
"""The status in the log of a request whose client went away."""
RETRY_SECONDS = 1
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_KINDS = {**_KINDS, 404: "not_found_error", 413: "request_too_large"}
_ANTHROPIC_KINDS |= {408: "timeout_error", 503: "overloaded_error"}


class ApiError(Exception):
    """A request that cannot be served; the message is for the client.

    Args:
        param: the field that is at fault.
        code: for programs, such as "model_not_found".
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client has closed the connection: nobody waits for the answer."""


def too_busy(message: str, status: int = 429) -> ApiError:
    """An error after which the client may try again."""
    return ApiError(status, message, headers={"Retry-After": str(RETRY_SECONDS)})


def api_error(error: Exception) -> ApiError:
    """Any error as what the client is told; of a defect it is told nothing."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ConfigError):
        return ApiError(400, str(error), param=_param(str(error)))
    if isinstance(error, QueueFull):
        return too_busy(str(error))
    if isinstance(error, RequestValidationError):
        return _malformed(error)
    if isinstance(error, RecursionError):
        return ApiError(400, "The body is nested too deeply.")
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return ApiError(error.status_code, _sentence(str(error.detail)), headers=headers)
    return ApiError(500, "The server failed at this request; its log says why.")


def error_body(error: ApiError, path: str) -> dict[str, Any]:
    """The JSON of an error, as clients of this path read it."""
    default = "api_error" if error.status >= 500 else "invalid_request_error"
    if path.startswith(ANTHROPIC):
        kind = _ANTHROPIC_KINDS.get(error.status, default)
        return {"type": "error", "error": {"type": kind, "message": error.message}}
    kind = _KINDS.get(error.status, default.replace("api_error", "server_error"))
    values = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return {"error": values}


def error_response(error: ApiError, path: str) -> JSONResponse:
    return JSONResponse(error_body(error, path), error.status, error.headers)


_KNOWN = (ApiError, ConfigError, QueueFull, RequestValidationError, HTTPException, RecursionError)


def add_handlers(app: FastAPI) -> None:
    """Answer every error in the shape of its path."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return error_response(api_error(error), request.url.path)

    async def gone(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(None, CLOSED)

    for kind in (*_KNOWN, Exception):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(ClientGone, gone)


def _malformed(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON.")
    if first["loc"] == ("body",) and first["type"] != "value_error":
        message = "The body must be a JSON object, sent with Content-Type: application/json."
        return ApiError(400, message)
    place = ""
    for part in first["loc"][1:]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    message = f"{place or 'The body'}: {message[0].lower()}{message[1:]}."
    return ApiError(400, message, param=place or None)


def _param(message: str) -> str | None:
    """The setting that a ConfigError of the form `name = value: ...` is about."""
    name, equals, _ = message.partition(" = ")
    return name if equals and name.isidentifier() else None


def _sentence(detail: str) -> str:
    """`Not Found` and the like, as Starlette says them, as a sentence."""
    if detail == HTTPStatus.NOT_FOUND.phrase:
        return "There is nothing at this path; the interfaces are below /v1."
    known = {status.phrase for status in HTTPStatus}
    return f"{detail}." if detail in known else detail
