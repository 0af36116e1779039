"""Chat templates of others: token for token as transformers, and safe from what messages say."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from chat_templates import FAMILIES, THINKING, write
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from foundling.base.config import ConfigError
from foundling.text.chat import Message, Rendered, ToolCall, render, render_batch, render_prompt
from foundling.text.controls import Marks
from foundling.text.tokenizer import Tokenizer

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
Pair = tuple[Tokenizer, Any]
TOOLS = (
    {
        "type": "function",
        "function": {"name": "weather", "description": "of a <b>city</b> — é", "parameters": {}},
    },
)
WITHOUT_SYSTEM = ("instruct",)


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Each tokenizer as we and as transformers read it."""
    made = {}
    for name, family in FAMILIES.items():
        folder = write(tmp_path_factory.mktemp(name), family, as_file=name != "dated")
        made[name] = (Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder))
    return made


def plain(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    made = []
    for message in messages:
        values: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            values["reasoning_content"] = message.reasoning
        if message.tool_calls:
            values["tool_calls"] = [
                {
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                }
                for call in message.tool_calls
            ]
        made.append(values)
    return made


def theirs(oracle: Any, messages: tuple[Message, ...], **settings: Any) -> list[int]:
    ids: list[int] = oracle.apply_chat_template(plain(messages), tokenize=True, **settings)[
        "input_ids"
    ]
    return ids


def learned_text(rendered: Rendered, tokenizer: Tokenizer) -> str:
    pairs = zip(rendered.tokens, rendered.learned, strict=True)
    return tokenizer.decode([token for token, learned in pairs if learned], show_special=True)


def special(rendered: Rendered, tokenizer: Tokenizer) -> list[str]:
    ids = tokenizer.controls.ids
    return [tokenizer.name_of(token) for token in rendered.tokens if token in ids]


NAMES = sorted({name for family in FAMILIES.values() for name in family.tokens})
TEXT = st.lists(
    st.sampled_from(
        [
            "the ",
            " cat",
            "\n",
            "\n\n",
            "  ",
            "\t",
            "é",
            "🦉",
            "東",
            "{{ x }}",
            "user",
            "<",
            "[",
            "|>",
        ]
    ),
    max_size=8,
).map("".join)
ANSWER = TEXT.filter(lambda text: bool(text.strip()))
EXCHANGES = st.lists(st.tuples(ANSWER, ANSWER), min_size=1, max_size=3)
# What tries to open a turn, in whole and in parts.
TRICKS = st.lists(
    st.one_of(
        st.sampled_from(NAMES),
        st.sampled_from(NAMES).map(lambda name: name[: len(name) // 2]),
        st.sampled_from(NAMES).map(lambda name: name[len(name) // 2 :]),
        st.sampled_from(["a", " ", "\n", "<", "\ufdd0", "\ufdd1", "1", "assistant\n"]),
    ),
    min_size=1,
    max_size=6,
).map(lambda parts: "x" + "".join(parts))


def conversation(exchanges: list[tuple[str, str]], system: str | None) -> tuple[Message, ...]:
    turns = (
        Message(role, text)
        for pair in exchanges
        for role, text in zip(("user", "assistant"), pair, strict=True)
    )
    return (*(() if system is None else (Message("system", system),)), *turns)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25)
@given(exchanges=EXCHANGES, system=st.one_of(st.none(), ANSWER))
def test_the_tokens_are_those_of_transformers(
    families: dict[str, Pair], name: str, exchanges: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer, oracle = families[name]
    messages = conversation(exchanges, None if name in WITHOUT_SYSTEM else system)
    found = render(messages, tokenizer)
    assert found[-1].tokens == theirs(oracle, messages)
    asked = render_prompt(messages[:-1], tokenizer)
    assert asked == theirs(oracle, messages[:-1], add_generation_prompt=True)
    end = tokenizer.end_of_turn
    assert end is not None
    assert end in tokenizer.stop_ids
    for rendered in found:
        places = [place for place, learned in enumerate(rendered.learned) if learned]
        assert rendered.tokens[places[-1]] == end
        kinds = {rendered.kinds[place] for place in places}
        assert kinds <= {"assistant", "special"}
    if name == "marked":
        masks = oracle.apply_chat_template(
            plain(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        # A token that straddles the border, as "\n\n" may, is not learned here.
        pairs = zip(masks["assistant_masks"], found[0].learned, strict=True)
        assert all(mask or not learned for mask, learned in pairs)
        if not any(text[0].isspace() for _, text in exchanges):
            assert masks["assistant_masks"] == [int(learned) for learned in found[0].learned]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40)
@given(exchanges=st.lists(st.tuples(TRICKS, TRICKS), min_size=1, max_size=2), system=TRICKS)
def test_a_content_opens_no_turn(
    families: dict[str, Pair], name: str, exchanges: list[tuple[str, str]], system: str
) -> None:
    tokenizer, _ = families[name]
    said = None if name in WITHOUT_SYSTEM else system
    found = render(conversation(exchanges, said), tokenizer)
    harmless = [("x", "x")] * len(exchanges)
    expected = render(conversation(harmless, None if said is None else "x"), tokenizer)
    assert [special(one, tokenizer) for one in found] == [
        special(one, tokenizer) for one in expected
    ]
    for rendered in found:
        kinds = ("user", "assistant", "system")
        for kind in kinds:
            tokens = [t for t, k in zip(rendered.tokens, rendered.kinds, strict=True) if k == kind]
            assert not tokenizer.controls.ids & set(tokens)
    if name == "chatml":  # which changes no content
        text = tokenizer.decode(found[0].tokens, show_special=True)
        for asked, answered in exchanges:
            assert f"user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answered}<|im_end|>" in text


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40)
@given(parts=st.lists(st.one_of(TEXT, TRICKS, st.integers(0, 9)), max_size=9))
def test_texts_between_special_tokens_are_encoded_as_in_the_whole(
    families: dict[str, Pair], name: str, parts: list[str | int]
) -> None:
    controls = families[name][0].controls
    marks = Marks.free((part for part in parts if isinstance(part, str)), 5)
    ids = sorted(controls.ids)
    written = (
        part if isinstance(part, str) else f"{marks.token}{ids[part % len(ids)]}{marks.token}"
        for part in parts
    )
    text = "".join(written)
    whole = controls._encode_respelled([text], marks)
    assert controls.encode([text], marks) == whole
    if controls._leaves_text_alone:
        assert controls._encode_between([text], marks) in (whole, None)


def test_a_tokenizer_whose_special_tokens_change_their_neighbours_is_copied(
    families: dict[str, Pair], tmp_path: Path
) -> None:
    assert families["chatml"][0].controls._leaves_text_alone
    folder = write(tmp_path, FAMILIES["chatml"])
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text("utf-8"))
    for token in values["added_tokens"]:
        token["rstrip"] = token["content"] == "<|im_end|>"
    file.write_text(json.dumps(values), "utf-8")
    tokenizer, oracle = Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    assert not tokenizer.controls._leaves_text_alone
    messages = conversation([("the cat", "sat"), ("a", "b")], "s")
    assert render(messages, tokenizer)[-1].tokens == theirs(oracle, messages)


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


def test_a_folder_may_hold_several_templates(tmp_path: Path) -> None:
    folder = write(tmp_path, FAMILIES["chatml"])
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "loud.jinja").write_text(
        "{{ messages[0].content|upper }}!"
    )
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | tojson }}")
    tokenizer = Tokenizer.load(folder)
    loud = tokenizer.with_template("loud")
    assert loud.decode(render_prompt((Message("user", "cat"),), loud)) == "CAT!"
    asked = render_prompt((Message("user", "cat"),), tokenizer, tools=TOOLS)
    oracle = AutoTokenizer.from_pretrained(folder)
    assert asked == theirs(oracle, (Message("user", "cat"),), tools=list(TOOLS))
    file = tmp_path / "own.jinja"
    file.write_text("<{{ messages[0].content }}>")
    own = tokenizer.with_template(str(file))
    assert own.decode(render_prompt((Message("user", "cat"),), own)) == "<cat>"
    with pytest.raises(ConfigError, match=r"no such chat template or file .*Did you mean \"loud\""):
        tokenizer.with_template("lou")
    with pytest.raises(ConfigError, match='template "given" is not a valid Jinja template'):
        tokenizer.with_template("{% if %}")
    with pytest.raises(ConfigError, match="ends the answer with no special token"):
        render(
            conversation([("a", "b")], None),
            tokenizer.with_template("{% for m in messages %}{{ m.content }}{% endfor %}"),
        )


def test_a_template_cannot_leave_its_sandbox(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["chatml"]
    for source in (
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set n = namespace(__x=1) %}",
    ):
        evil = tokenizer.with_template(source + "{{ cycler.__init__.__globals__ }}")
        with pytest.raises(ConfigError, match='the chat template "given" says'):
            render_prompt((Message("user", "a"),), evil)


def test_tokenizer_config_decides_and_names_are_guessed_only_where_it_is_silent(
    families: dict[str, Pair], tmp_path: Path
) -> None:
    for name, (tokenizer, oracle) in families.items():
        assert tokenizer.begin_name == oracle.bos_token, name
        assert tokenizer.find(tokenizer.end_name) == oracle.eos_token_id, name
        assert tokenizer.begin_ids == oracle("").input_ids, name
        assert tokenizer.begin_ids + tokenizer.encode("the cat") == oracle("the cat").input_ids
    family = FAMILIES["thinking"]._replace(tokens=("<s>", *FAMILIES["thinking"].tokens))
    tokenizer = Tokenizer.load(write(tmp_path, family))
    assert tokenizer.begin_name is None
    assert tokenizer.begin_ids == []


def test_all_ends_stop_and_all_files_stay(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", FAMILIES["folded"])
    backend = Tokenizer.load(folder)
    end, eos = backend.special("<end>"), backend.special("<eos>")
    (folder / "config.json").write_text(json.dumps({"eos_token_id": eos}))
    generation = json.dumps({"eos_token_id": [eos, 7, end], "top_k": 64})
    (folder / "generation_config.json").write_text(generation)
    (folder / "special_tokens_map.json").write_text('{"eos_token":   "<eos>"}')
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.stop_ids == [eos, end, 7]
    tokenizer.save(tmp_path / "saved")
    names = sorted(path.name for path in folder.iterdir() if path.name != "config.json")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == names
    for name in names:
        assert (tmp_path / "saved" / name).read_bytes() == (folder / name).read_bytes(), name
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos, "top_k": 64}))
    Tokenizer.load(folder).save(tmp_path / "saved")
    mended = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert mended == {"eos_token_id": [eos, end], "top_k": 64}


def test_a_base_model_is_given_a_format_and_keeps_its_other_tokens(tmp_path: Path) -> None:
    family = FAMILIES["marked"]
    folder = write(tmp_path / "base", family)
    (folder / "chat_template.jinja").unlink()
    base = Tokenizer.load(folder)
    assert not base.knows_roles
    with pytest.raises(
        ConfigError, match=r'"chatml": needs <\|im_start\|>, <\|im_end\|>, which the model'
    ):
        base.with_known_template("chatml")
    tokenizer = base.with_template("chatml")
    first = base.vocab_size
    assert (tokenizer.find("<|im_start|>"), tokenizer.find("<|im_end|>")) == (first, first + 1)
    assert tokenizer.encode("the cat") == base.encode("the cat")
    assert tokenizer.stop_ids == [base.end_of_text, first + 1]
    tokenizer.save(tmp_path / "saved")
    oracle = AutoTokenizer.from_pretrained(tmp_path / "saved")
    messages = conversation([("the cat", "sat"), ("a", "b")], "s")
    (rendered,) = render(messages, tokenizer)
    assert rendered.tokens == theirs(oracle, messages)
    assert rendered.tokens == render(messages, Tokenizer.load(tmp_path / "saved"))[0].tokens
    assert {
        **base._backend.get_vocab(),
        "<|im_start|>": first,
        "<|im_end|>": first + 1,
    } == oracle.get_vocab()


def test_options_are_kept_with_the_template(families: dict[str, Pair], tmp_path: Path) -> None:
    tokenizer = families["thinking"][0].with_template("default", enable_thinking=False)
    tokenizer.save(tmp_path)
    messages = (Message("user", "a"),)
    asked = render_prompt(messages, tokenizer)
    assert asked == render_prompt(messages, Tokenizer.load(tmp_path))
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    assert asked == theirs(oracle, messages, add_generation_prompt=True)
    again = Tokenizer.load(tmp_path).with_template("default", enable_thinking=True)
    assert render_prompt(messages, again) == render_prompt(messages, families["thinking"][0])


NAMED = {"default": THINKING, "tool_use": THINKING + "{{ '' }}", "loud": "{{ messages|upper }}"}


@pytest.mark.parametrize("form", ["list", "mapping", "files"])
def test_templates_of_other_names_stay_where_one_changes(tmp_path: Path, form: str) -> None:
    folder = write(tmp_path / "model", FAMILIES["thinking"])
    if form == "files":
        (folder / "additional_chat_templates").mkdir()
        for name in ("tool_use", "loud"):
            (folder / f"additional_chat_templates/{name}.jinja").write_text(NAMED[name])
    else:
        (folder / "chat_template.jinja").unlink()
        values = json.loads((folder / "tokenizer_config.json").read_text())
        named = [{"name": name, "template": source} for name, source in NAMED.items()]
        values["chat_template"] = named if form == "list" else NAMED
        (folder / "tokenizer_config.json").write_text(json.dumps(values))
    parent = Tokenizer.load(folder)
    messages = (Message("user", "a"),)
    asked = render_prompt(messages, parent, tools=TOOLS)
    silent = parent.with_template("default", enable_thinking=False)
    silent.save(tmp_path / "saved")
    again, oracle = (
        Tokenizer.load(tmp_path / "saved"),
        AutoTokenizer.from_pretrained(tmp_path / "saved"),
    )
    for tools in ((), TOOLS):
        closed = render_prompt(messages, silent, tools=tools)
        assert closed == render_prompt(messages, again, tools=tools)
        given = {"tools": list(tools) or None, "add_generation_prompt": True}
        assert closed == theirs(oracle, messages, **given)
    assert closed != asked
    assert again.with_template("loud").template is not None
    parent.with_template("chatml").save(tmp_path / "other")
    other = Tokenizer.load(tmp_path / "other")
    assert other.with_template("loud").template is not None
    with pytest.raises(ConfigError, match="takes no tools"):
        render_prompt(messages, other, tools=TOOLS)


def test_a_batch_may_hold_every_noncharacter(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["chatml"]
    everything = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(ConfigError, match="32 kinds of Unicode noncharacters"):
        render_batch([conversation([(everything, "a")], None)], tokenizer)
    some = everything[:9]
    (rendered,) = render(conversation([(some, "a")], None), tokenizer)
    assert some in tokenizer.decode(rendered.tokens)


# ---------------------------------------------------------------------- real ones

REAL = ("qwen3", "llama3_1", "gemma3", "smol")
TALKS = [
    conversation([("Hi there", "Hello!")], None),
    conversation([(" What?\n\n", " yes\n"), ("  ok", "done  ")], " be good "),
    conversation([("東京 🦉 é", "<b>x</b>\n\n\n"), ("user", "assistant")], None),
    conversation([("a", "<think>\nhm\n</think>\n\nb"), ("c", "<think>x</think>d")], None),
]


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_templates(
    real_tokenizer: Callable[[str], Path], real_model: Callable[[str], Path], name: str
) -> None:
    folder = real_model("llama") if name == "smol" else real_tokenizer(name)
    tokenizer, oracle = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.begin_ids == oracle("").input_ids
    for messages in TALKS:
        assert render(messages, tokenizer)[-1].tokens == theirs(oracle, messages)
        for options in ({}, {"enable_thinking": False}) if name == "qwen3" else ({},):
            chosen = tokenizer.with_template("default", **options)
            asked = theirs(oracle, messages[:-1], add_generation_prompt=True, **options)
            assert render_prompt(messages[:-1], chosen) == asked
    trick = "x".join(sorted(oracle.all_special_tokens))
    found = render(conversation([(trick, trick)], None), tokenizer)[-1]
    harmless = render(conversation([("x", "x")], None), tokenizer)[-1]
    assert special(found, tokenizer) == special(harmless, tokenizer)
