"""Small tokenizers and chat templates with the structure of those that people use."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend

CORPUS = ["the cat sat on the mat.\n\n", "What is 42? It is naïve — 東京 🦉\n user assistant"] * 20


class Family(NamedTuple):
    """A family of models: how its tokenizer splits text, its special tokens, its template."""

    kind: str
    tokens: tuple[str, ...]
    settings: dict[str, Any]
    template: str
    others: tuple[str, ...] = ()
    """Added tokens that are not special."""


PLAIN = """{%- for m in messages -%}
    {%- if loop.first and m.role != 'system' -%}
        {{- '<|im_start|>system\nBe kind.<|im_end|>\n' -}}
    {%- endif -%}
    {{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""

THINKING = """{%- if tools %}
{{- '<|im_start|>system\n' }}
{%- for tool in tools %}{{- tool | tojson + '\n' }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
    {{- '<|im_start|>assistant\n' }}
    {%- set text = m.content.split('</think>')[-1].lstrip('\n') %}
    {%- if loop.index0 > ns.last %}
        {%- set thought = m.reasoning_content | default('', true) %}
        {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
    {%- endif %}
    {{- text }}
    {%- for call in m.tool_calls or [] %}
        {{- '<tool>' + call.function.name + ' ' + call.function.arguments | tojson + '</tool>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}
    {{- '<|im_start|>user\n<result>' + m.content + '</result><|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and not enable_thinking %}
    {{- '<think>\n\n</think>\n\n' }}
{%- endif %}
{%- endif %}"""

DATED = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set said = messages[0]['content'] | trim %}{%- set rest = messages[1:] %}
{%- else %}{%- set said = '' %}{%- set rest = messages %}{%- endif %}
{{- '<|head|>system<|/head|>\n\nToday: ' + date_string + '\n\n' + said + '<|eot|>' }}
{%- for m in rest %}
    {{- '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|head|>assistant<|/head|>\n\n' }}{%- endif %}"""

FOLDED = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set front = messages[0]['content'] + '\n\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set front = '' -%}{%- set rest = messages -%}{%- endif -%}
{%- for m in rest -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('user and assistant take turns') }}
    {%- endif -%}
    {{ '<turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n'
       + (front if loop.first else '') + m['content'] | trim + '<end>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<turn>model\n' }}{%- endif -%}"""

INSTRUCT = """{{- bos_token }}
{%- for m in messages %}
    {%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}
    {%- elif m.role == 'assistant' %}{{- ' ' + m.content | trim + eos_token }}
    {%- else %}{{- raise_exception('only user and assistant speak') }}
    {%- endif %}
{%- endfor %}"""

BRACKETS = """{%- if messages[0]['role'] == 'system' -%}
    {%- set front = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}{%- set front = '' -%}{%- set rest = messages -%}{%- endif -%}
{%- for m in rest -%}
    {%- set text = (front if loop.first else '') + m['content'] -%}
    {%- if m['role'] == 'user' -%}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}
    {%- else -%}{{ ' ' + text.strip() + ' ' + eos_token }}{%- endif -%}
{%- endfor -%}"""

MARKED = """{{- bos_token }}{% for m in messages %}
{{- '<turn>' + m.role + '\n' }}{% if m.role == 'assistant' %}
{%- generation %}{{- m.content + '<end>' }}{% endgeneration %}{% else %}{{- m.content + '<end>' }}
{%- endif %}{{- '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<turn>assistant\n' }}{% endif %}"""

TRAILING = """{%- for m in messages %}
    {{- '<|' + m.role + '|>\n' + m.content }}
    {%- for call in m.tool_calls or [] %}
        {{- '<|call|>' + call.function.name + call.function.arguments | tojson + '<|/call|>' }}
    {%- endfor %}
    {{- '<|end|>\n' }}
{%- endfor %}
{{- '<|assistant|>\n' if add_generation_prompt else eos_token }}"""

IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "chatml": Family(
        "bytes", IM, {"bos_token": IM[1], "eos_token": IM[2], "pad_token": IM[2]}, PLAIN
    ),
    "thinking": Family(
        "bytes",
        IM,
        {"bos_token": None, "eos_token": IM[2], "pad_token": IM[0], "add_bos_token": False},
        THINKING,
        ("<think>", "</think>", "<tool>", "</tool>"),
    ),
    "dated": Family(
        "bytes",
        ("<|begin|>", "<|eot|>", "<|head|>", "<|/head|>"),
        {"bos_token": "<|begin|>", "eos_token": "<|eot|>"},
        DATED,
    ),
    "folded": Family(
        "replaced",
        ("<pad>", "<eos>", "<bos>", "<turn>", "<end>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": True},
        FOLDED,
        ("\n\n", "\n\n\n"),
    ),
    "instruct": Family(
        "always",
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
        INSTRUCT,
    ),
    "brackets": Family(
        "first",
        ("<unk>", "<s>", "</s>"),
        {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
        BRACKETS,
    ),
    "prepended": Family(
        "prepended",
        ("<unk>", "<s>", "</s>"),
        {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
        BRACKETS,
    ),
    "marked": Family(
        "bytes",
        ("<bos>", "<eos>", "<turn>", "<end>"),
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        MARKED,
    ),
    "trailing": Family(
        "bytes",
        (
            "<|endoftext|>",
            *("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
            *("<|call|>", "<|/call|>"),
        ),
        {"bos_token": None, "eos_token": "<|endoftext|>"},
        TRAILING,
    ),
}


def write(folder: Path, family: Family, *, as_file: bool = True) -> Path:
    """A folder with the tokenizer and the template of a family, as a model comes with them."""
    backend = _bytes() if family.kind == "bytes" else _pieces(family.kind)
    return _save(folder, backend, family, as_file=as_file)


def _save(folder: Path, backend: Backend, family: Family, *, as_file: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # In front, as of a trained tokenizer: the vocabulary holds them too.
    backend.add_special_tokens(
        [AddedToken(n, special=True, normalized=False) for n in family.tokens]
    )
    backend.add_tokens([AddedToken(n, special=False, normalized=False) for n in family.others])
    if family.settings.get("add_bos_token"):
        begin = family.settings["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
        )
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **family.settings}
    if as_file:
        (folder / "chat_template.jinja").write_text(family.template, "utf-8")
    else:
        settings["chat_template"] = family.template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def unigram(folder: Path) -> Path:
    """A folder with a unigram vocabulary, which holds its special tokens, that speaks ChatML."""
    pieces = [(name, 0.0) for name in ("<unk>", *IM)]
    pieces += [("▁", -2.0), ("▁cat", -3.0), *((letter, -4.0) for letter in "acdehimnrstuy|<>_")]
    backend = Backend(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    backend.decoder = decoders.Metaspace("▁", prepend_scheme="first")
    return _save(folder, backend, FAMILIES["chatml"])


def crowded(folder: Path, num_tokens: int) -> Path:
    """A folder with a great many special tokens, as those that are kept for later use."""
    others = tuple(f"<|kept_{number}|>" for number in range(num_tokens))
    family = FAMILIES["chatml"]
    return write(folder, family._replace(tokens=(*family.tokens, *others)))


def _bytes() -> Backend:
    backend = Backend(models.BPE())
    words = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def _pieces(kind: str) -> Backend:
    """Like sentencepiece: spaces are "▁", unknown characters are bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"acehinostuwrm.?!<>[]/|_"]
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("▁", "the"),
        ("▁", "c"),
        ("a", "t"),
        ("▁", "▁"),
        ("s", "at"),
    ]
    vocab = {
        piece: number
        for number, piece in enumerate(dict.fromkeys([*pieces, *map("".join, merges)]))
    }
    backend = Backend(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    ends = [decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), *ends])
    if kind == "replaced":
        backend.normalizer = normalizers.Replace(" ", "▁")
    elif kind == "prepended":
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=kind, split=False)
    return backend
