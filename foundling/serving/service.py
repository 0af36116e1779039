"""What all routes of a server share."""

import asyncio
import time
from dataclasses import dataclass, field

from foundling.serving.errors import ApiError
from foundling.serving.metrics import Metrics, Record
from foundling.serving.registry import Registry, Served
from foundling.serving.settings import ServingSettings


@dataclass
class Service:
    registry: Registry
    settings: ServingSettings
    keys: frozenset[str] = frozenset()
    """Who gives one of these may use the server; none: everybody may."""
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    """The server ends: no request is taken any more."""
    active: int = 0
    """Requests that are being answered."""

    def deadline(self, record: Record) -> float:
        """When the time for a request is up, on the clock of `time.monotonic`."""
        return record.begun + self.settings.timeout

    async def take(self, model: str | None, record: Record) -> Served:
        """`Registry.take`, for as long as the request has.

        Raises:
            ApiError: there is no such model, it cannot be loaded, or the time is up.
        """
        try:
            async with asyncio.timeout(self.deadline(record) - time.monotonic()):
                return await self.registry.take(model)
        except TimeoutError:
            raise self.too_late() from None

    def too_late(self) -> ApiError:
        """The time for a request is up; another try would take as long."""
        return ApiError(
            408,
            f"The answer was not complete after {self.settings.timeout:g} seconds, this server's "
            "limit.",
            headers={"x-should-retry": "false"},
        )
