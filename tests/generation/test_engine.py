"""Generation with every rung: streams, stops, seeds, limits and whole characters."""

import json
from collections.abc import Sequence

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.generation.runners import Span, StateRunner
from foundling.generation.sampling import Sampling
from foundling.models import RUNGS
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller met the baker by the bridge — naïve café, 林 and 🦆."
TOKENIZER = Tokenizer.train_bytes([TEXT], vocab_size=300)


def engine(rung: str = "transformer", context: int = 24) -> Engine:
    torch.manual_seed(5)
    model = models.build(
        {"rung": rung, "dim": 16}, vocab_size=TOKENIZER.vocab_size, context=context
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    return Engine(model, TOKENIZER)


@pytest.mark.parametrize("rung", RUNGS)
def test_greedy_streaming_equals_the_naive_arg_max(rung: str) -> None:
    made = engine(rung)
    ids = [TOKENIZER.begin_of_text, *TOKENIZER.encode("the mill")]
    start = len(ids)
    with torch.no_grad():
        for _ in range(12):  # the whole text read anew for each token
            token = int(made.model.logits(made.model.hidden(torch.tensor([ids])))[0, -1].argmax())
            if token == TOKENIZER.end_of_text:
                break
            ids.append(token)
    text = made.generate("the mill", max_tokens=12, sampling=Sampling(temperature=0))
    assert text == TOKENIZER.decode(ids[start:])


@pytest.mark.parametrize("rung", RUNGS)
def test_the_seed_decides(rung: str) -> None:
    made = engine(rung)
    texts = [made.generate("a", max_tokens=15, sampling=Sampling(seed=s)) for s in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_chunks_hold_the_tokens_that_were_drawn() -> None:
    made = engine("next_word")
    ended = 0
    for seed in range(20):
        sampling = Sampling(temperature=3, seed=seed)
        chunks = list(made.stream("the", max_tokens=60, sampling=sampling))
        tokens = [token for chunk in chunks for token in chunk.tokens]
        assert len(tokens) == chunks[-1].num_tokens
        if chunks[-1].finish == "end":
            ended += 1
            assert tokens.pop() in TOKENIZER.stop_ids
        assert TOKENIZER.decode(tokens) == "".join(chunk.text for chunk in chunks)
    assert 0 < ended < 20


def test_chunks_are_whole_characters_and_add_up() -> None:
    made = engine("next_word")
    sampling = Sampling(temperature=3, seed=3)
    chunks = list(made.stream("the", max_tokens=200, sampling=sampling))
    assert "".join(c.text for c in chunks) == made.generate(
        "the", max_tokens=200, sampling=sampling
    )
    assert all(chunk.finish is None for chunk in chunks[:-1])
    assert chunks[-1].finish in ("length", "end")
    assert [c.num_tokens for c in chunks] == sorted({c.num_tokens for c in chunks})


class Scripted:
    """A runner that says what it is told: the oracle for stop strings and split characters."""

    num_blocks, block_size, can_rewind = None, 0, False

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        logits = torch.zeros(1, TOKENIZER.vocab_size)
        logits[0, self.ids.pop(0)] = 1
        return logits

    def forget(self, sequence: int) -> None:
        pass


def scripted(text: str, stop: tuple[str, ...] = ()) -> list[tuple[str, str | None]]:
    ids = [*TOKENIZER.encode(text), TOKENIZER.end_of_text]
    made = Engine(engine("next_word").model, TOKENIZER, runner=Scripted(ids))
    greedy = Sampling(temperature=0)
    return [(c.text, c.finish) for c in made.stream("", max_tokens=99, sampling=greedy, stop=stop)]


def test_a_character_of_several_tokens_comes_out_whole() -> None:
    text = "🧪 ünï 林木"
    assert len(TOKENIZER.encode(text)) > len(text)
    chunks = scripted(text)
    assert "".join(part for part, _ in chunks) == text
    assert "\ufffd" not in "".join(part for part, _ in chunks)
    assert chunks[-1][1] == "end"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("bridge",), "the baker by the "),
        (("by the b", "zzz"), "the baker "),
        (("the baker by the bridge!",), "the baker by the bridge"),
        (("baker", "the"), ""),
        (("e bz",), "the baker by the bridge"),
    ],
)
def test_stop_strings_end_before_them_and_never_leak(stop: tuple[str, ...], expected: str) -> None:
    chunks = scripted("the baker by the bridge", stop)
    assert "".join(part for part, _ in chunks) == expected
    assert chunks[-1][1] == ("stop" if len(expected) < 20 else "end")


def test_the_context_is_a_limit_said_in_words() -> None:
    made = engine(context=8)
    with pytest.raises(ConfigError, match="at most 6 can be made"):
        made.generate("\x01\x02", max_tokens=7)
    with pytest.raises(ConfigError, match="the model reads at most 8"):
        made.generate("\x01" * 9)
    never_ends = list(made.stream("\x01\x02", sampling=Sampling(temperature=0)))
    assert never_ends[-1].num_tokens <= 6
    with pytest.raises(ConfigError, match="max_tokens"):
        made.generate("a", max_tokens=0)
    with pytest.raises(ConfigError, match="empty"):
        made.generate("a", stop=[""])


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "user", "text": "a"}, {}])
def test_a_message_with_other_keys_is_refused(message: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"a message has the keys .*: give role and content"):
        engine().chat([message])


def test_a_sliding_context_goes_on_past_the_limit() -> None:
    made = engine(context=8)
    for seed in range(20):  # some seed writes 30 tokens before an end mark
        sampling = Sampling(seed=seed)
        chunks = list(made.stream("\x01" * 20, max_tokens=30, sampling=sampling, slide=True))
        if chunks[-1].num_tokens == 30:
            return
    pytest.fail("no seed wrote past the context")


def test_a_tokenizer_without_a_begin_mark_starts_from_the_end_of_another_text(tmp_path) -> None:
    made = engine()
    TOKENIZER.save(tmp_path)
    settings = (tmp_path / "tokenizer_config.json").read_text()
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    content = json.dumps({**values, "post_processor": None})
    for name, text in (("tokenizer_config.json", settings), ("tokenizer.json", content)):
        (tmp_path / name).write_text(text.replace("<|begin_of_text|>", "<|other|>"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end_of_text|>"}')
    made.tokenizer = Tokenizer.load(tmp_path)
    assert made.tokenizer.begin_name is None
    assert made._read("") == [made.tokenizer.end_of_text]
    assert made._read("the") == TOKENIZER.encode("the")


def test_the_cache_has_room_for_what_is_asked_and_no_more() -> None:
    made = engine(context=40_000)
    made = Engine(made.model, TOKENIZER, runner=StateRunner(made.model))
    rooms: list[int] = []
    original = made.model.new_state
    made.model.new_state = lambda batch, time: rooms.append(time) or original(batch, time)
    made.generate("\x01\x02", max_tokens=5)
    assert rooms == [3 + 5]
