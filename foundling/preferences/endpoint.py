"""A model behind an OpenAI-compatible interface, by its base URL."""

import os
from collections.abc import Sequence
from typing import Any, Self

from foundling.base.config import ConfigError
from foundling.preferences.client import Client, HttpError
from foundling.text.chat import Message

KEY = "OPENAI_API_KEY"  # the environment variable that holds the token


class Endpoint:
    """`URL/chat/completions` of one model; its key comes from the environment."""

    def __init__(self, client: Client, model: str) -> None:
        self._client, self.model = client, model

    @classmethod
    def open(cls, address: str, model: str | None = None, **options: Any) -> Self:
        """The model named behind # in `address`, the argument, or the only one that is served.

        Args:
            options: of `Client`: timeout, tries, first_wait.

        Raises:
            ConfigError: two names, or none where several models are served.
            HttpError: the server cannot be reached.
        """
        url, _, named = address.partition("#")
        if named and model and named != model:
            raise ConfigError(f'{address}: names "{named}", and model = "{model}"; give one name.')
        client = Client(url, token=os.environ.get(KEY), **options)
        try:
            return cls(client, named or model or _only_model(client))
        except BaseException:
            client.close()
            raise

    @property
    def address(self) -> str:
        return f"{self._client.url}#{self.model}"

    def close(self) -> None:
        self._client.close()

    def complete(self, messages: Sequence[Message], **sampling: Any) -> str:
        """The text of the model's answer; settings that are None are left to the server.

        Raises:
            HttpError: the server refuses, cannot be reached, or answers something else.
        """
        body = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            **{name: value for name, value in sampling.items() if value is not None},
        }
        found = self._client.post("/chat/completions", body)
        try:
            text = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            held = ", ".join(found) or "nothing"
            raise HttpError(
                f"{self._client.url}/chat/completions: no text in the answer, which has: {held}."
            )
        return text


def _only_model(client: Client) -> str:
    try:
        listed = client.get("/models").get("data")
    except HttpError as error:
        raise ConfigError(f"{client.url}: name the model behind a #; {error}") from None
    names = [
        str(model["id"]) for model in listed or () if isinstance(model, dict) and "id" in model
    ]
    if len(names) != 1:
        there = ", ".join(names) or "none"
        raise ConfigError(f"{client.url}: serves {there}; name one, as in {client.url}#NAME.")
    return names[0]
