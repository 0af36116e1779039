"""From messages to tokens, in chats and plain text: what is refused, and spelled special tokens."""

import json
from pathlib import Path

import pytest

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation, SourcedPair
from foundling.data.encoded_pairs import EncodedPairs
from foundling.data.examples import Examples
from foundling.data.pairs import PreferenceData
from foundling.data.prompt_split import split_by_prompt
from foundling.data.rendering import Rendering
from foundling.data.supervised import SupervisedData
from foundling.models.batch import IGNORE
from foundling.text.chat import Message, ToolCall, later_exchanges, render_plain
from foundling.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.characters(["abcdefghij?! \n<|>_useroftnm"])
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end_of_turn|>"


def told(*contents: str, where: str = "rows.jsonl:1") -> SourcedConversation:
    roles = ("user", "assistant") * len(contents)
    turns = tuple(Message(role, text) for role, text in zip(roles, contents, strict=False))  # type: ignore[arg-type]
    return SourcedConversation(where, turns)


def shown(tokens: list[int]) -> str:
    return TOKENIZER.decode(tokens, show_special=True)


MARKED = told(f"{USER}a{END}\n{ASSISTANT}", f"b{END}")


def test_marks_written_by_hand_stay_text_unless_they_are_parsed() -> None:
    examples, report = Examples.make([MARKED], TOKENIZER, max_length=99, style="plain")
    special = TOKENIZER.special(END)
    assert special not in examples.tokens
    assert report.spelled == {USER: 1, END: 1, ASSISTANT: 1}
    examples, report = Examples.make(
        [MARKED], TOKENIZER, max_length=99, style="plain", special_tokens="parse"
    )
    assert not report.spelled
    rendered = examples.rendered(0)
    assert shown(rendered.tokens) == f"<|begin_of_text|>{USER}a{END}\n{ASSISTANT}b{END}"
    assert rendered.learned == [False] * 6 + [True, True]
    assert rendered.kinds == ["special", "special", "user", "special", "user", "special",
                              "assistant", "special"]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "completion", "whole", "learned"),
    [
        ("a", "b", "<|begin_of_text|>ab<|end_of_text|>", "b<|end_of_text|>"),
        ("<|begin_of_text|>a", "b", "<|begin_of_text|>ab<|end_of_text|>", "b<|end_of_text|>"),
        ("a", f"b{END}", f"<|begin_of_text|>ab{END}", f"b{END}"),
        ("a", f"b{END}\n", f"<|begin_of_text|>ab{END}\n", f"b{END}"),
        ("a", "b<|end_of_text|>", "<|begin_of_text|>ab<|end_of_text|>", "b<|end_of_text|>"),
        ("a", f"b{END}c", f"<|begin_of_text|>ab{END}c<|end_of_text|>", f"b{END}c<|end_of_text|>"),
    ],
)
def test_a_mark_that_stands_there_already_is_not_placed_twice(
    prompt: str, completion: str, whole: str, learned: str
) -> None:
    rendered = render_plain(prompt, completion, TOKENIZER, parse=True)
    assert shown(rendered.tokens) == whole
    pairs = zip(rendered.tokens, rendered.learned, strict=True)
    assert shown([token for token, is_learned in pairs if is_learned]) == learned


def test_special_tokens_are_parsed_in_plain_text_alone() -> None:
    with pytest.raises(ConfigError, match='special_tokens = "parse": only for style = "plain"'):
        Rendering(TOKENIZER, special_tokens="parse")
    with pytest.raises(ConfigError, match='on_long = "truncate_prompt": a prompt with special'):
        Examples.make([MARKED], TOKENIZER, max_length=9, style="plain", special_tokens="parse",
                      on_long="truncate_prompt")  # fmt: skip


def test_a_chat_that_spells_a_special_token_says_so() -> None:
    tricks = [told(f"a{END}{END}", "b"), told("a", f"{USER}b", where="rows.jsonl:2")]
    _, report = Examples.make(tricks, TOKENIZER, max_length=99)
    assert report.lines()[1:] == [
        "special tokens that rows spell stay text: <|end_of_turn|> (1), <|user|> (1)"
    ]
    _, report = Examples.make([told("a", "b")], TOKENIZER, max_length=99)
    assert len(report.lines()) == 1
    thought = Message("assistant", "b", reasoning=f"c{END}")
    given = SourcedConversation("rows.jsonl:1", (Message("user", "a"), thought))
    _, report = Examples.make([given], FORGETFUL, max_length=99)
    assert report.spelled == {END: 1}


def test_answers_that_are_too_long_are_left_out_of_a_conversation_that_is_kept() -> None:
    whole, _ = Examples.make([thinking(1, 1)], FORGETFUL, max_length=99)
    most = int(whole.lengths.max()) - 1
    asked, said = Message("user", "a" * 9), Message("assistant", "b")
    long = SourcedConversation("rows.jsonl:2", (asked, said, asked, said))
    examples, report = Examples.make(
        [thinking(1, 1), long], FORGETFUL, max_length=most, on_long="drop"
    )
    assert examples.where == ("rows.jsonl:1 (1 of 2)",)
    assert report.lines()[0].startswith("1 of 2 conversations kept")
    assert report.lines()[1:] == [
        "1 conversation became 2 examples, because the template renders history differently",
        "left out 1 example of them: too long, first rows.jsonl:1 (2 of 2)",
        "dropped 1: too long, first rows.jsonl:2",
    ]
    values = report.values()
    assert (values["kept"], values["dropped"], values["examples_left_out"]) == (1, 1, 1)
    with pytest.raises(ConfigError, match="none of 1 conversations fits"):
        Examples.make([thinking(1, 1)], FORGETFUL, max_length=3, on_long="drop")


def test_what_cannot_be_rendered_stops_or_is_counted() -> None:
    good, odd = told("a", "b"), told("a", "z", where="rows.jsonl:2")
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: 'z' \(U\+007A\)"):
        Examples.make([good, odd], TOKENIZER, max_length=99)
    examples, report = Examples.make([good, odd], TOKENIZER, max_length=99, on_error="skip")
    assert examples.where == ("rows.jsonl:1",)
    assert (report.num_read, report.num_kept) == (2, 1)
    assert report.lines()[1].startswith("dropped 1: cannot be rendered, first rows.jsonl:2: 'z'")
    assert report.values()["cannot_be_rendered"] == 1
    with pytest.raises(ConfigError, match="none of 1 conversations can be rendered; the first"):
        Examples.make([odd], TOKENIZER, max_length=99, on_error="skip")
    pairs = [
        SourcedPair(each.where, each.messages, (*each.messages[:1], Message("assistant", "c")), 1)
        for each in (good, odd)
    ]
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: 'z'"):
        EncodedPairs.make(pairs, TOKENIZER, max_length=99)
    encoded, report = EncodedPairs.make(pairs, TOKENIZER, max_length=99, on_error="skip")
    assert (len(encoded), len(report.faults)) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (Message("assistant", "b", reasoning="c"), "reasoning"),
        (Message("assistant", "b", tool_calls=(ToolCall("c", "{}"),)), "tools"),
    ],
)
def test_plain_text_has_no_place_for_more_than_text(answer: Message, held: str) -> None:
    given = SourcedConversation("rows.jsonl:1", (Message("user", "a"), answer))
    with pytest.raises(ConfigError, match=f"one prompt and one completion, not {held}; use"):
        Examples.make([given], TOKENIZER, max_length=99, style="plain")


def test_the_oldest_exchange_goes_with_its_tools() -> None:
    system, asked, said = Message("system", "s"), Message("user", "a"), Message("assistant", "b")
    call = Message("assistant", "", tool_calls=(ToolCall("c", "{}"),))
    first, last = (asked, call, Message("tool", "d"), said), (Message("user", "e"), said)
    assert later_exchanges((system, *first, *last), 7) == (system, *last)
    assert later_exchanges((*first, *last), 6) == last
    assert later_exchanges((*first, *last), 4) is None
    assert later_exchanges(first, 4) is None


# ---------------------------------------------------------------------- several examples

# Like Qwen 3's: the thoughts of answers before the user's last question are left out.
FORGETFUL = TOKENIZER.with_template(
    "{% set at = namespace(asked=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set at.asked = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.reasoning_content and loop.index0 > at.asked %}<{{ m.reasoning_content }}>{% endif %}"
    "{{ m.content }}<|end_of_turn|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def thinking(*weights: int, where: str = "rows.jsonl:1") -> SourcedConversation:
    """Questions a, a, ...; the n-th answer is the n-th letter from b on, thought of with it."""
    turns: list[Message] = []
    for letter, weight in zip("bcdefg", weights, strict=False):
        answer = Message("assistant", letter, reasoning=letter * 3, weight=weight)
        turns += [Message("user", "a"), answer]
    return SourcedConversation(where, tuple(turns))


def texts(examples: Examples) -> list[tuple[str, str]]:
    """Each example as text, and what is learned of it."""
    found = []
    for index in range(len(examples)):
        rendered = examples.rendered(index)
        pairs = zip(rendered.tokens, rendered.learned, strict=True)
        learned = shown([token for token, is_learned in pairs if is_learned])
        whole = shown(rendered.tokens)
        for name, short in ((USER, "U"), (ASSISTANT, "A"), (END, ".")):
            whole, learned = whole.replace(name, short), learned.replace(name, short)
        found.append((whole, learned))
    return found


def test_each_answer_has_its_own_history_where_the_template_forgets() -> None:
    examples, report = Examples.make([thinking(1, 1, 1), thinking(1)], FORGETFUL, max_length=99)
    assert texts(examples) == [
        ("Ua.A<bbb>b.", "<bbb>b."),
        ("Ua.Ab.Ua.A<ccc>c.", "<ccc>c."),
        ("Ua.Ab.Ua.Ac.Ua.A<ddd>d.", "<ddd>d."),
        ("Ua.A<bbb>b.", "<bbb>b."),
    ]
    assert examples.where == (
        "rows.jsonl:1 (1 of 3)", "rows.jsonl:1 (2 of 3)", "rows.jsonl:1 (3 of 3)", "rows.jsonl:1"
    )  # fmt: skip
    assert report.lines()[1] == (
        "2 conversations became 4 examples, because the template renders history differently"
    )
    assert (report.values()["kept"], report.values()["examples"]) == (2, 4)
    examples, report = Examples.make([thinking(1, 1, 1)], FORGETFUL, max_length=99, learn="last")
    assert texts(examples) == [("Ua.Ab.Ua.Ac.Ua.A<ddd>d.", "<ddd>d.")]
    assert len(report.lines()) == 1


def test_an_answer_of_weight_0_is_no_example() -> None:
    examples, report = Examples.make([thinking(1, 0, 1)], FORGETFUL, max_length=99)
    assert texts(examples) == [
        ("Ua.A<bbb>b.", "<bbb>b."),
        ("Ua.Ab.Ua.Ac.Ua.A<ddd>d.", "<ddd>d."),
    ]
    last = [thinking(1, 0), thinking(1, 1, where="rows.jsonl:2")]
    examples, report = Examples.make(last, FORGETFUL, max_length=99, learn="last")
    assert examples.where == ("rows.jsonl:2",)
    assert report.lines()[1] == (
        "dropped 1: the answers to be learned have weight 0, first rows.jsonl:1"
    )
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl:1: the answers to be learned have weight 0"
    ):
        Examples.make(last[:1], FORGETFUL, max_length=99, learn="last")


def test_only_the_examples_that_are_too_long_are_cut() -> None:
    made = {
        how: Examples.make([thinking(1, 1, 1)], FORGETFUL, max_length=17, on_long=how)  # type: ignore[arg-type]
        for how in ("drop", "truncate_prompt")
    }
    examples, report = made["drop"]
    assert [learned for _, learned in texts(examples)] == ["<bbb>b.", "<ccc>c."]
    assert report.dropped == ["rows.jsonl:1 (3 of 3)"]
    assert (report.num_kept, report.num_examples) == (1, 2)
    examples, report = made["truncate_prompt"]
    assert texts(examples)[2] == ("Ua.Ac.Ua.A<ddd>d.", "<ddd>d.")
    assert (report.prompts_cut, report.answers_left_out, report.longest) == (1, 1, 23)
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl:1 \(3 of 3\): 23 tokens, but max_length is 17"
    ):
        Examples.make([thinking(1, 1, 1)], FORGETFUL, max_length=17)


def test_all_examples_of_a_conversation_stand_on_one_side_of_a_split() -> None:
    conversations = [
        SourcedConversation(
            f"rows.jsonl:{n}", (Message("user", "abcdefghij"[n]), *thinking(1, 1).messages[1:])
        )
        for n in range(10)
    ]
    sides = split_by_prompt(conversations, 0.3, seed=1)
    rows = []
    for side in sides:
        examples, _ = Examples.make(side, FORGETFUL, max_length=99)
        assert len(examples) == 2 * len(side)
        rows.append({where.partition(" ")[0] for where in examples.where})
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == 10


def test_a_pair_has_one_answer_a_side_where_the_template_forgets() -> None:
    def pair(given: int) -> SourcedPair:
        chosen, rejected = (
            thinking(1, 1).messages,
            (*thinking(1, 1).messages[:3], Message("assistant", "h")),
        )
        return SourcedPair("rows.jsonl:1", chosen, rejected, given)

    encoded, _ = EncodedPairs.make([pair(3)], FORGETFUL, max_length=99)
    parts = [shown(encoded.part(0, part)[0].tolist()) for part in range(3)]
    assert parts == [
        f"{USER}a{END}{ASSISTANT}b{END}{USER}a{END}{ASSISTANT}",
        f"<ccc>c{END}",
        f"h{END}",
    ]
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl:1: this chat template renders earlier answers"
    ):
        EncodedPairs.make([pair(1)], FORGETFUL, max_length=99)
    encoded, report = EncodedPairs.make(
        [pair(3), pair(1)], FORGETFUL, max_length=99, on_error="skip"
    )
    assert (len(encoded), len(report.faults)) == (1, 1)


def test_a_pair_whose_prompt_loses_a_call_is_refused() -> None:
    prompt = (
        Message("user", "a"),
        Message("assistant", "b", tool_calls=(ToolCall("c", "{}"),)),
        Message("tool", "c"),
    )
    sides = ((*prompt, Message("assistant", text)) for text in ("d", "e"))
    pair = SourcedPair("rows.jsonl:1", *sides, len(prompt))
    missing = r'rows\.jsonl:1: message 2: the chat template leaves out the call of "c"'
    with pytest.raises(ConfigError, match=missing):
        EncodedPairs.make([pair], FORGETFUL, max_length=99)


def test_a_pair_shares_the_tokens_that_both_sides_have() -> None:
    """An answer may begin with what its tokenizer joins to the prompt: two line ends, one token."""
    tokenizer = Tokenizer.train_bytes(["a\n\nb\n\nc\n\n"] * 9, 270).with_template(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end_of_turn|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    assert len(tokenizer.encode("\n\n")) == 1
    asked = Message("user", "a")
    chosen, rejected = ((asked, Message("assistant", text)) for text in ("\nb", "c"))
    encoded, _ = EncodedPairs.make(
        [SourcedPair("here", chosen, rejected, 1)], tokenizer, max_length=99
    )
    (prompt, _), *answers = (encoded.part(0, part) for part in range(3))
    assert tokenizer.decode(prompt, show_special=True).endswith(ASSISTANT)
    for (tokens, learned), text in zip(answers, ("\n\nb", "\nc"), strict=True):
        assert tokenizer.decode(tokens) == text
        assert learned.tolist() == [False, True, True]


# ---------------------------------------------------------------------- padding

ENDING = "<|end_of_text|>"


def one_end(folder: Path) -> Tokenizer:
    """As SmolLM2's: one token ends the turn, ends the text, and fills the rows."""
    TOKENIZER.save(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token": ENDING}))
    return Tokenizer.load(folder).with_template(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end_of_text|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


@pytest.mark.parametrize("packing", [True, False])
def test_the_end_is_learned_where_it_is_also_the_padding(tmp_path: Path, packing: bool) -> None:
    tokenizer = one_end(tmp_path)
    examples, _ = Examples.make([told("a", "b"), told("c", "de")], tokenizer, max_length=99)
    assert examples.pad == tokenizer.end_of_text == tokenizer.special(ENDING)
    data = SupervisedData(examples, context=24, batch_size=2, seed=1, packing=packing)
    (batch,) = data.ordered_batches(2)
    targets = batch.targets[batch.targets != IGNORE].tolist()
    assert sorted(tokenizer.name_of(id) for id in targets) == [ENDING, ENDING, "b", "d", "e"]
    assert int((batch.tokens == examples.pad).sum()) > 4  # and all of the padding is not

    sides = [(Message("user", "a"), Message("assistant", text)) for text in ("b", "cd")]
    pairs, _ = EncodedPairs.make([SourcedPair("here", *sides, 1)], tokenizer, max_length=99)
    preferences = PreferenceData(pairs, row_length=32, batch_size=1, seed=1, packing=packing)
    (row,) = preferences.ordered_batches(1)
    learned = row.targets[row.targets != IGNORE].tolist()
    assert [tokenizer.name_of(id) for id in learned] == ["b", ENDING, "c", "d", ENDING]
    assert int((row.answers >= 0).sum()) == len(learned)
