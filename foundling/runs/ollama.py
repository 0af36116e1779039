"""A model for Ollama: a GGUF file beside a Modelfile.

Source: github.com/ollama/ollama, docs/modelfile.md and docs/template.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.models.gguf_files import GgufFile
from foundling.runs.gguf import export_gguf
from foundling.runs.run import find_model
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

LONGEST = 32_768
"""Ollama reserves memory for the whole context; longer ones are asked for by hand."""
FILE = "model.gguf"
SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Keys of generation_config.json, and Ollama's."""
Turns = Sequence[tuple[str, str]]


class Format(NamedTuple):
    """A way to write conversations, in Go and in Python; neither writes the begin mark."""

    go: str
    written: Callable[[Turns], str]


def _each(turn: str, last: str, **names: str) -> Callable[[Turns], str]:
    def written(turns: Turns) -> str:
        made = [turn.format(role=names.get(role, role), content=text) for role, text in turns]
        return "".join(made) + last

    return written


def _format(turn: str, last: str) -> Format:
    inner = turn.format(role="{{ .Role }}", content="{{ .Content }}")
    return Format(f"{{{{ range .Messages }}}}{inner}{{{{ end }}}}{last}", _each(turn, last))


def _gemma(turns: Turns) -> str:
    """What the system says stands before the first message."""
    system = next((text + "\n\n" for role, text in turns if role == "system"), "")
    rest = [(role, text) for role, text in turns if role != "system"]
    rest[0] = ("user", system + rest[0][1])
    turn = "<start_of_turn>{role}\n{content}<end_of_turn>\n"
    return _each(turn, "<start_of_turn>model\n", assistant="model")(rest)


FORMATS = (
    _format("<|im_start|>{role}\n{content}<|im_end|>\n", "<|im_start|>assistant\n"),
    _format(
        "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    _format("<|{role}|>{content}<|end_of_turn|>", "<|assistant|>"),
    Format(
        '{{ range $i, $_ := .Messages }}{{ if ne .Role "system" }}<start_of_turn>'
        '{{ if eq .Role "assistant" }}model{{ else }}user{{ end }}\n'
        "{{ if and $.System (eq $i 1) }}{{ $.System }}\n\n{{ end }}{{ .Content }}<end_of_turn>\n"
        "{{ end }}{{ end }}<start_of_turn>model\n",
        _gemma,
    ),
)
TURNS = [("user", "One"), ("assistant", "Two"), ("user", "Three")]


def export_ollama(
    source: Path | str, out: Path, file_type: str, *, name: str = "", licence: str = ""
) -> None:
    """Write a folder for `ollama create NAME -f Modelfile`.

    Raises:
        ConfigError: as `export_gguf`.
    """
    folder = find_model(source)
    with durable.fresh(out) as partial:
        partial.mkdir()
        export_gguf(source, partial / FILE, file_type, name=name, licence=licence)
        context = GgufFile(partial / FILE).spec["context"]
        (partial / "Modelfile").write_text(modelfile(folder, context), "utf-8")


def modelfile(folder: Path, context: int) -> str:
    """The Modelfile of a model folder.

    How to sample is said where the model's generation_config.json says it; greedily where
    `do_sample` is false. The template is in Ollama's own language; where it is none that is known
    here, Ollama reads the one in the GGUF file.

    Raises:
        ConfigError: the template's system message cannot be quoted.
    """
    tokenizer = Tokenizer.load(folder)
    lines = [f"FROM ./{FILE}"]
    found = template_of(tokenizer) if tokenizer.template else None
    if found is not None:
        go, system = found
        if '"""' in system:
            raise ConfigError(
                'the system message of its template holds """, which a Modelfile cannot; write '
                "the model with --format gguf."
            )
        lines.append(f'TEMPLATE """{go}"""')
        lines += [f'SYSTEM """{system}"""'] if system else []
    lines += [f'PARAMETER stop "{tokenizer.name_of(id)}"' for id in tokenizer.stop_ids]
    lines.append(f"PARAMETER num_ctx {min(context, LONGEST)}")
    return "\n".join([*lines, *_sampling(folder)]) + "\n"


def _sampling(folder: Path) -> list[str]:
    file = folder / "generation_config.json"
    given = load_json(file) if file.is_file() else {}
    if given.get("do_sample") is False:
        given["temperature"] = 0
    return [f"PARAMETER {key} {given[theirs]}" for theirs, key in SAMPLING.items()
            if given.get(theirs) is not None]  # fmt: skip


def template_of(tokenizer: Tokenizer) -> tuple[str, str] | None:
    """The template in Go that writes what the model's own does, and its system message.

    They are told by what they write: two conversations must come out the same.
    """
    plain, told = _written(tokenizer, TURNS), _written(tokenizer, [("system", "Zero"), *TURNS])
    if plain is None:
        return None
    for go, written in FORMATS:
        if told != written([("system", "Zero"), *TURNS]):
            continue
        if plain == written(TURNS):
            return go, ""
        front, _, behind = written([("system", "\0"), *TURNS]).partition("\0")
        if plain.startswith(front) and plain.endswith(behind):
            return go, plain[len(front) : len(plain) - len(behind)]
    return None


def _written(tokenizer: Tokenizer, turns: Turns) -> str | None:
    messages = [Message(role, text) for role, text in turns]  # type: ignore[arg-type]
    try:
        ids = render_prompt(messages, tokenizer)
    except ConfigError:
        return None
    begin = tokenizer.begin_name
    text = tokenizer.decode(ids, show_special=True)
    return text.removeprefix(begin) if begin and tokenizer.begin_ids else text
