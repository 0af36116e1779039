"""What is learned of a conversation by the chat templates of others."""

from dataclasses import replace
from datetime import date

import pytest
from conversed import TOOLS, Pair, conversation, learned_text, theirs

from foundling.base.config import ConfigError
from foundling.text.chat import Message, ToolCall, render, render_prompt


def test_what_is_learned_ends_with_the_turn(families: dict[str, Pair]) -> None:
    messages = conversation([("the cat", " sat\n"), ("a", "b")], None)
    learned = {
        name: [learned_text(one, tokenizer) for one in render(messages, tokenizer)]
        for name, (tokenizer, _) in families.items()
    }
    assert learned["chatml"] == [" sat\n<|im_end|>b<|im_end|>"]
    assert learned["dated"] == ["sat<|eot|>b<|eot|>"]
    assert learned["folded"] == ["sat<end>b<end>"]
    assert learned["instruct"] == [" sat</s> b</s>"]
    assert learned["marked"] == [" sat\n<end>b<end>"]
    assert learned["trailing"] == [" sat\n<|end|>b<|end|>"]
    thought = "<think>\n\n</think>\n\n"
    assert learned["thinking"] == [f"{thought} sat\n<|im_end|>", f"{thought}b<|im_end|>"]


def test_what_ends_the_whole_conversation_ends_no_answer(families: dict[str, Pair]) -> None:
    tokenizer, oracle = families["trailing"]
    end, eos = tokenizer.special("<|end|>"), tokenizer.special("<|endoftext|>")
    assert tokenizer.end_of_turn == end
    assert tokenizer.stop_ids == [eos, end]
    call = ToolCall("weather", '{"city": "东京"}')
    messages = (
        Message("user", "the weather?"),
        Message("assistant", "hm", tool_calls=(call, call)),
        Message("tool", "sun"),
        Message("assistant", "7"),
    )
    (rendered,) = render(messages, tokenizer)
    assert rendered.tokens == theirs(oracle, messages)
    assert rendered.tokens[-1] == eos
    said = '<|call|>weather{"city": "东京"}<|/call|>'
    assert learned_text(rendered, tokenizer) == f"hm{said}{said}<|end|>7<|end|>"
    (rendered,) = render(messages[:2], tokenizer)
    assert learned_text(rendered, tokenizer) == f"hm{said}{said}<|end|>"


def test_an_answer_has_its_own_history(families: dict[str, Pair]) -> None:
    tokenizer, oracle = families["thinking"]
    messages = (
        Message("user", "a"),
        Message("assistant", "b", reasoning="first"),
        Message("user", "c"),
        Message("assistant", "d", reasoning="then"),
    )
    first, second = render(messages, tokenizer)
    assert first.tokens == theirs(oracle, messages[:2])
    assert second.tokens == theirs(oracle, messages)
    assert learned_text(first, tokenizer) == "<think>\nfirst\n</think>\n\nb<|im_end|>"
    assert "first" not in tokenizer.decode(second.tokens)
    silent = tokenizer.with_template("default", enable_thinking=False)
    asked = render_prompt(messages[:1], silent)
    assert asked == theirs(oracle, messages[:1], add_generation_prompt=True, enable_thinking=False)
    with pytest.raises(ConfigError, match="message 2: the chat template writes 'first"):
        render(messages[:2], silent)
    brief = conversation([("a", "b")], None)
    assert [learned_text(one, silent) for one in render(brief, silent)] == ["b<|im_end|>"]


def test_tools_and_their_calls(families: dict[str, Pair]) -> None:
    tokenizer, oracle = families["thinking"]
    messages = (
        Message("user", "the weather?"),
        Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "東京 <b>"}'),)),
        Message("tool", "sun"),
        Message("assistant", "It is sunny."),
    )
    found = render(messages, tokenizer, tools=TOOLS)
    assert found[-1].tokens == theirs(oracle, messages, tools=list(TOOLS))
    assert "<tool>weather" in learned_text(found[0], tokenizer)
    assert "tool" in found[-1].kinds
    with pytest.raises(ConfigError, match='the chat template "default" takes no tools'):
        render(messages, families["chatml"][0], tools=TOOLS)
    with pytest.raises(
        ConfigError, match='message 2: the chat template leaves out the call of "weather"'
    ):
        render(messages, families["chatml"][0])
    with pytest.raises(ConfigError, match='"default" says: only user and assistant speak'):
        render(conversation([("a", "b")], "s"), families["instruct"][0])
    thoughtful = (Message("user", "a"), Message("assistant", "b", reasoning="hm"))
    with pytest.raises(ConfigError, match="leaves out the reasoning"):
        render(thoughtful, families["chatml"][0])


ONE_CALL = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content }}
{%- for call in (m.tool_calls or [])[:1] %}
    {%- if call.function.name != 'weather' %}{{- raise_exception('no such tool') }}{%- endif %}
    {{- call.function.name }}
{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""


def test_no_call_is_left_out_wherever_it_stands(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["chatml"]
    call = ToolCall("weather", "{}")
    talk = (
        Message("user", "the weather?"),
        Message("assistant", "hm", tool_calls=(call,), weight=0),
        Message("tool", "the weather is fine"),
        Message("assistant", "It is."),
    )
    missing = 'message 2: the chat template leaves out the call of "weather"'
    with pytest.raises(ConfigError, match=missing):
        render(talk, tokenizer)
    with pytest.raises(ConfigError, match=missing):
        render(talk, tokenizer, learn="last")
    with pytest.raises(ConfigError, match=missing):
        render(talk, tokenizer, given=3)
    with pytest.raises(ConfigError, match=missing):
        render_prompt(talk[:-1], tokenizer)
    one = tokenizer.with_template(ONE_CALL)
    assert "hmweather<|im_end|>" in one.decode(render(talk, one)[0].tokens, show_special=True)
    twice = (talk[0], replace(talk[1], tool_calls=(call, call)), *talk[2:])
    with pytest.raises(ConfigError, match=missing):
        render(twice, one)
    with pytest.raises(ConfigError, match=missing):
        render_prompt(twice[:-1], one)


def test_weights_and_given_messages_are_not_learned(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["chatml"]
    messages = (
        Message("user", "a"),
        Message("assistant", "bad", weight=0),
        Message("user", "c"),
        Message("assistant", "good"),
    )
    (rendered,) = render(messages, tokenizer)
    assert learned_text(rendered, tokenizer) == "good<|im_end|>"
    (rendered,) = render(conversation([("a", "b"), ("c", "d")], None), tokenizer, given=2)
    assert learned_text(rendered, tokenizer) == "d<|im_end|>"


def test_kinds_are_those_of_the_messages(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["chatml"]
    (rendered,) = render(conversation([("user", "assistant")], " be\n"), tokenizer)
    texts = {
        kind: tokenizer.decode(
            [t for t, k in zip(rendered.tokens, rendered.kinds, strict=True) if k == kind]
        )
        for kind in ("system", "user", "assistant")
    }
    assert texts == {"system": " be\n", "user": "user", "assistant": "assistant"}


def test_a_date_can_be_fixed(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["dated"]
    messages = (Message("user", "a"),)
    template = tokenizer.template
    assert template is not None
    assert template.writes_date
    fixed = tokenizer.with_template("default", today="2024-07-26")
    assert "Today: 26 Jul 2024\n" in fixed.decode(render_prompt(messages, fixed))
    pinned = tokenizer.dated().template
    assert pinned is not None
    assert pinned.options == {"today": date.today().isoformat()}
    given = tokenizer.with_template("default", date_string="long ago")
    assert "Today: long ago\n" in given.decode(render_prompt(messages, given))
    with pytest.raises(ConfigError, match="give YYYY-MM-DD"):
        tokenizer.with_template("default", today="soon")
    with pytest.raises(ConfigError, match=r"template_options.enable_thinking: .* reads no such"):
        tokenizer.with_template("default", enable_thinking=False)
    for name in ("messages", "add_generation_prompt", "tools"):
        with pytest.raises(ConfigError, match=f"template_options.{name}: .* reads no such"):
            families["thinking"][0].with_template("default", **{name: []})
