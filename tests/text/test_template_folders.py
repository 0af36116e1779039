"""Chat templates in folders: several, chosen, kept, with options and with tokens of their own."""

import json
from pathlib import Path

import pytest
from chat_templates import FAMILIES, THINKING, write
from conversed import TOOLS, Pair, conversation, theirs
from transformers import AutoTokenizer

from foundling.base.config import ConfigError
from foundling.text.chat import Message, render, render_prompt
from foundling.text.tokenizer import Tokenizer


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
