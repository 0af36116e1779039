"""Files below a URL: on an object store (`s3://bucket/folder`), or wherever fsspec reaches."""

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from foundling.base.config import ConfigError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def is_url(place: object) -> bool:
    """Whether a place is given by a URL rather than a path."""
    return "://" in str(place)


def _as_os_error(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """What the libraries raise, each its own errors, as OSError."""

    @wraps(function)
    def guarded(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return function(*arguments, **options)
        except Exception as error:
            place = arguments[0]
            raise OSError(f"{place}: {type(error).__name__}: {error}") from error

    return guarded


class ObjectStore:
    """The files below a URL, by names relative to it.

    An object appears whole or not at all; of several, nothing is promised.

    Raises:
        ConfigError: nothing installed opens such a URL.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        options = {"auto_mkdir": True} if url.startswith(("file://", "local://")) else {}
        try:
            self._files, root = url_to_fs(url, use_listings_cache=False, **options)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"{url}: {error}; `pip install foundling[s3]` for s3://.") from None
        self.url, self._root = url.rstrip("/"), str(root).rstrip("/")

    def __str__(self) -> str:
        return self.url

    @_as_os_error
    def sizes(self, below: str = "") -> dict[str, int]:
        """The bytes of each file at or below a folder, by name."""
        self._files.invalidate_cache()
        place = f"{self._root}/{below}".rstrip("/")
        try:
            found: dict[str, Any] = self._files.find(place, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._root) + 1
        return {name[start:]: about["size"] for name, about in sorted(found.items())}

    @_as_os_error
    def read(self, name: str) -> bytes:
        content: bytes = self._files.cat_file(self._path(name))
        return content

    @_as_os_error
    def write(self, name: str, content: bytes) -> None:
        self._files.pipe_file(self._path(name), content)

    @_as_os_error
    def upload(self, file: Path, name: str) -> None:
        self._files.put_file(str(file), self._path(name))

    @_as_os_error
    def download(self, name: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._files.get_file(self._path(name), str(file))

    @_as_os_error
    def delete(self, names: Iterable[str]) -> None:
        """Delete files, one after the other; those that are gone already do not matter."""
        for name in names:
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                continue

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
