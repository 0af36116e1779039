"""JSON over HTTP with retries and one-line errors."""

import time
from collections.abc import Mapping
from typing import Any, Self

import httpx2

from foundling.base.config import ConfigError

AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))  # transient statuses
TRIES = 5
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds; each wait is twice the one before
_SHOWN = 200  # characters of a server's message that an error quotes


class HttpError(Exception):
    """A server refuses, fails or cannot be reached; `status` is that of its response, if any."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One server; a request that fails transiently is sent again after a wait.

    Args:
        token: sent as `Authorization: Bearer`, and never shown.
        timeout: seconds without a byte.
        first_wait: seconds before the second try.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 120.0,
        tries: int = TRIES,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f'"{url}": not the address of a server; begin it with http://.')
        self.url = url.rstrip("/")
        self._tries, self._first_wait = tries, first_wait
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx2.Client(headers=headers, timeout=timeout)
            httpx2.URL(self.url)
        except (httpx2.InvalidURL, UnicodeEncodeError):
            raise ConfigError(
                f'"{url}": not a valid address, or the token cannot be sent; check both.'
            ) from None

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str) -> dict[str, Any]:
        return self._call("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to `body`.

        Raises:
            HttpError: it refuses, cannot be reached, or answers no JSON object.
        """
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        url = self.url + path
        for tried in range(1, self._tries + 1):
            wait = min(self._first_wait * 2 ** (tried - 1), LONGEST_WAIT)
            try:
                response = self._http.request(method, url, json=body)
            except httpx2.TransportError as error:
                if tried == self._tries:
                    what = str(error) or type(error).__name__
                    raise HttpError(
                        f"{url}: no answer in {tried} tries ({what}); is the server running?"
                    ) from None
                time.sleep(wait)
                continue
            except (httpx2.InvalidURL, httpx2.RequestError) as error:
                raise HttpError(f"{url}: cannot be requested: {error}") from None
            if response.status_code in AGAIN and tried < self._tries:
                time.sleep(max(wait, _asked_wait(response)))
                continue
            return _content(url, response)
        raise AssertionError("the last try returns or raises")


def _asked_wait(response: httpx2.Response) -> float:
    """Seconds of the Retry-After header; 0 where it holds a date or is missing."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT) if text.isdecimal() else 0.0


def _content(url: str, response: httpx2.Response) -> dict[str, Any]:
    status = response.status_code
    if not response.is_success:
        said = " ".join(_words(response).split())[:_SHOWN]
        hint = {
            401: "; is the key or token right?",
            403: "; is the key or token right?",
            404: "; is the address right?",
        }.get(status, ".")
        raise HttpError(f"{url}: refused ({status}): {said or 'no message'}{hint}", status)
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        said = " ".join(response.text.split())[:_SHOWN]
        raise HttpError(f"{url}: answered no JSON object but {said!r}; is the address right?")
    return found


def _words(response: httpx2.Response) -> str:
    """The message of a refusal: FastAPI's detail, OpenAI's error, or the whole body."""
    try:
        found = response.json()
    except ValueError:
        return response.text
    if isinstance(found, dict):
        error = found.get("error", found.get("detail", found))
        message = error.get("message", error) if isinstance(error, dict) else error
        return str(message)
    return response.text
