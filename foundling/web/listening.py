"""The socket that a server listens on, and the address that people open."""

import errno
import ipaddress
import socket
from urllib.parse import urlsplit

from foundling.base.config import ConfigError


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """The socket that the server will listen on; port 0 takes a free one.

    Raises:
        ConfigError: there is no such address, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: give one from 1 to 65535, or 0 for any.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except OSError:
        raise ConfigError(f"--host {host} --port {port}: no such address.") from None
    found = socket.socket(family, kind, protocol)
    # A port that a killed server left can be bound at once; one in use cannot.
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        in_use = error.errno == errno.EADDRINUSE
        why = "is in use" if in_use else f"cannot be listened on: {error.strerror}"
        raise ConfigError(f"--port {port}: {why}; give another one, or --port 0 for any.") from None
    return found


def base_url(listening: socket.socket, public_url: str | None = None) -> str:
    """The address that people open: `public_url`, or one that reaches the socket.

    Raises:
        ConfigError: `public_url` is not the address of a server.
    """
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ConfigError(f"--public-url {public_url}: give one such as https://HOST:PORT.")
        return f"{parts.scheme}://{parts.netloc}"
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = _own_address()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _own_address() -> str:
    """The address of this machine on its network; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: RFC 5737
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
