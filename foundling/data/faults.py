"""What is wrong with an input that cannot be read."""

from foundling.base.config import ConfigError


class SourceError(ConfigError):
    """An input cannot be read; the message names the file and the line, `reason` the kind."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
