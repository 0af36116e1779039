"""The settings of a server."""

from pydantic import Field

from foundling.base.config import Section
from foundling.generation.settings import EngineSettings


class ServingSettings(Section):
    """Where a server listens, and what it grants its clients."""

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    """The address that people open, as behind a proxy."""
    cors: tuple[str, ...] = ()
    """Sites whose pages may use the server; "*" is every site."""
    allow_unauthenticated: bool = False
    """Serve beyond this machine without a key."""
    max_body: int = Field(2**23, gt=0)
    """Bytes of the longest body."""
    timeout: float = Field(600, gt=0)
    """Seconds for a request, the wait in the queue included."""
    keep_alive: float = Field(15, gt=0)
    """Seconds without news after which a stream is sent a comment, so that no proxy closes it."""
    drain: float = Field(30, ge=0)
    """Seconds that running requests are given when the server is told to stop."""
    max_loaded: int | None = Field(None, gt=0)
    """Models in memory at once; None: all that were asked for."""
    device: str = "auto"
    template: str | None = None
    """The chat template of all models, by name or as a file; None: their own."""
    votes: str | None = None
    """Where the votes of the page are kept."""
    engine: EngineSettings = EngineSettings()
