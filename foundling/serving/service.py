"""What all routes of a server share."""

from dataclasses import dataclass, field

from foundling.serving.metrics import Metrics
from foundling.serving.registry import Registry
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
