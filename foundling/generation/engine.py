"""Text from a model, streamed token by token through the rung's own state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from foundling.base.config import ConfigError
from foundling.generation.sampling import Sampling, choose
from foundling.models.language_model import LanguageModel
from foundling.text.chat import Message
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.tokenizer import Tokenizer

Finish = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Chunk:
    """A piece of generated text; `finish` is set on the last one.

    `end`: the model ended the text or its turn; `stop`: a stop string came; `length`: `max_tokens`
    were made. `tokens` are those drawn since the last piece, one that ends the text included.
    """

    text: str
    num_tokens: int
    finish: Finish | None = None
    tokens: tuple[int, ...] = ()


class Engine:
    """Generates with any rung: one prompt at a time, reading each token once."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.device = next(model.parameters()).device

    def generate(self, prompt: str | Sequence[int], **options: Any) -> str:
        """The whole continuation of `prompt`; the options are those of `stream`."""
        return "".join(chunk.text for chunk in self.stream(prompt, **options))

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        slide: bool = False,
        **settings: int | float | None,
    ) -> Iterator[Chunk]:
        """The continuation of `prompt` as it is made.

        Text that may be the beginning of a stop string is held back, and a character is never
        split.

        Args:
            prompt: a text, or tokens (a rendered chat).
            max_tokens: None for as many as the model's context holds (256 where it has no bound).
            sampling: how tokens are drawn; default: from the whole distribution.
            stop: the text ends before any of these.
            slide: continue past a bounded context: whenever it is full, its newest half is read
                again.
            settings: of `Sampling`, by name: temperature, top_k, top_p, min_p, seed.

        Raises:
            ConfigError: the prompt and `max_tokens` do not fit the context, a stop string is
                empty, or there is no such setting.
        """
        if any(not text for text in stop):
            raise ConfigError("a stop string must not be empty.")
        ids = self._read(prompt) if isinstance(prompt, str) else list(prompt)
        bound = self.model.max_context
        budget = self._budget(len(ids), max_tokens, slide)
        decoder = StreamDecoder(self.tokenizer, continues=isinstance(prompt, str) and prompt != "")
        sampling = (sampling or Sampling()).changed(settings)
        return self._stream(ids, budget, bound, sampling, list(stop), decoder)

    def chat(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> str:
        """The answer to a message, or to a conversation that ends with one; options of `stream`.

        Args:
            messages: a text, or messages. They may be given as in a row of data:
                {"role": ..., "content": ...}, with tool_calls and reasoning_content where the
                assistant calls a tool or thinks, and tool_call_id and name where a tool answers.
            tools: descriptions of functions, as JSON schemas.

        Raises:
            ConfigError: the last message does not fit the context, the roles are out of order, a
                message has other keys, or the chat template takes no tools.
        """
        from foundling.data.tool_calls import tools_of
        from foundling.generation.conversation import answer

        given = [Message("user", messages)] if isinstance(messages, str) else messages
        asked = [
            one if isinstance(one, Message) else _message(one, f"messages[{index}]")
            for index, one in enumerate(given)
        ]
        return "".join(answer(self, asked, tools=tools_of(list(tools), "tools"), **options))

    def _read(self, prompt: str) -> list[int]:
        ids = [*self.tokenizer.begin_ids, *self.tokenizer.encode(prompt)]
        # Without a begin mark, what ends one text stands before the next one, as in GPT-2.
        return ids or [self.tokenizer.end_of_text]

    def _budget(self, prompt_tokens: int, max_tokens: int | None, slide: bool) -> int:
        bound = self.model.max_context
        if max_tokens is not None and max_tokens < 1:
            raise ConfigError(f"max_tokens = {max_tokens}: must be at least 1.")
        if bound is None or slide:
            return 256 if max_tokens is None else max_tokens
        # The last token made is never read, so it needs no room.
        room = bound + 1 - prompt_tokens
        if room < 1:
            raise ConfigError(
                f"the prompt has {prompt_tokens} tokens and the model reads at most {bound}: "
                "shorten the prompt, or let the context slide."
            )
        if max_tokens is not None and max_tokens > room:
            raise ConfigError(
                f"max_tokens = {max_tokens}: the prompt has {prompt_tokens} tokens and the model "
                f"reads at most {bound}, so at most {room} can be made; ask for fewer, or let the "
                "context slide."
            )
        return room if max_tokens is None else max_tokens

    def _stream(
        self,
        ids: list[int],
        budget: int,
        bound: int | None,
        sampling: Sampling,
        stop: list[str],
        decoder: StreamDecoder,
    ) -> Iterator[Chunk]:
        generator = torch.Generator().manual_seed(sampling.seed)
        held = StopStrings(stop)
        seen, unread, state = list(ids), list(ids), None
        drawn: list[int] = []  # and not handed out yet
        for made in range(1, budget + 1):
            if bound is not None and len(seen) > bound:  # only when the context may slide
                seen = seen[-max(1, bound // 2) :]
                unread, state = list(seen), None
            if state is None:
                state = self.model.new_state(1, min(bound or 0, len(seen) + budget))
            with torch.inference_mode():
                tokens = torch.tensor([unread], device=self.device)
                hidden = self.model.hidden(tokens, state=state)[:, -1]
                logits = self.model.logits(hidden).cpu()[:, : self.tokenizer.vocab_size]
            token = int(choose(logits, sampling, generator))
            drawn.append(token)
            if token in self.tokenizer.stop_ids:
                text = held.push(decoder.flush()) + held.flush()
                yield Chunk(text, made, "end", tuple(drawn))
                return
            seen.append(token)
            unread = [token]
            text = decoder.push(token)
            if made == budget:
                text += decoder.flush()
            text = held.push(text)
            if held.found:
                yield Chunk(text, made, "stop", tuple(drawn))
                return
            if made == budget:
                yield Chunk(text + held.flush(), made, "length", tuple(drawn))
            elif text:
                yield Chunk(text, made, None, tuple(drawn))
                drawn.clear()


def _message(given: Mapping[str, Any], where: str) -> Message:
    from foundling.data.messages import message_of, unread_keys

    said = "role" in given and not {"content", "tool_calls"}.isdisjoint(given)
    if not said or unread_keys([dict(given)]):
        raise ConfigError(
            f"a message has the keys {', '.join(given) or 'none'}: give role and content; the "
            "assistant's may have tool_calls and reasoning_content, a tool's tool_call_id and name."
        )
    return message_of(dict(given), where)


class StopStrings:
    """Lets text through until a stop string begins; keeps back what may be the start of one."""

    def __init__(self, stop: list[str]) -> None:
        self.stop, self.kept, self.found = stop, "", False

    def push(self, text: str) -> str:
        """What is safe to show now."""
        self.kept += text
        starts = [start for start in map(self.kept.find, self.stop) if start >= 0]
        if starts:
            self.found = True
            shown, self.kept = self.kept[: min(starts)], ""
            return shown
        longest = max(
            (
                length
                for text in self.stop
                for length in range(1, min(len(text), len(self.kept) + 1))
                if self.kept.endswith(text[:length])
            ),
            default=0,
        )
        cut = len(self.kept) - longest
        shown, self.kept = self.kept[:cut], self.kept[cut:]
        return shown

    def flush(self) -> str:
        """What was kept back, now that nothing more comes."""
        shown, self.kept = self.kept, ""
        return shown
