"""Models in and out of GGUF, the format of llama.cpp: weights, tokenizer and chat template."""

import json
from pathlib import Path
from typing import Any

import torch

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.models import gguf_files
from foundling.models.gguf_files import GgufFile
from foundling.runs import model_card
from foundling.runs.model_folder import merged
from foundling.runs.run import find_model
from foundling.text import gguf_vocabulary
from foundling.text.tokenizer import Tokenizer

LICENCE = {
    "license": "general.license",
    "license_name": "general.license.name",
    "license_link": "general.license.link",
}
"""What a card says of the licence, and a GGUF file."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def export_gguf(
    source: Path | str, out: Path, file_type: str, *, name: str = "", licence: str = ""
) -> None:
    """Write a run's best checkpoint, or a model folder, as one GGUF file.

    Tensor by tensor: no more than one of them is in memory.

    Args:
        file_type: f32, f16, bf16, q8_0 or q4_0.

    Raises:
        ConfigError: there is no such model, llama.cpp cannot run it, or `out` exists.
    """
    if file_type not in gguf_files.FILE_TYPES:
        raise ConfigError(f"--type {file_type}: no such type ({', '.join(gguf_files.FILE_TYPES)}).")
    found = find_model(source)
    with merged(found) as folder, durable.fresh(out) as partial:
        tokenizer, model = Tokenizer.load(folder), gguf_files.source(folder)
        rows = model.tensors["token_embd.weight"][0].shape[0]
        fields: dict[str, Any] = {"general.name": name or Path(source).name or found.name}
        _check_name(fields["general.name"], tokenizer)
        terms = model_card.known_terms(licence, source, found)
        fields |= {LICENCE[key]: value for key, value in terms.items() if isinstance(value, str)}
        fields |= gguf_vocabulary.fields(tokenizer, load_json(folder / "tokenizer.json"), rows)
        gguf_files.write(partial, model, file_type, fields)


def _check_name(name: str, tokenizer: Tokenizer) -> None:
    """llama.cpp loads no model of such a name without these tokens (`llama-vocab.cpp`)."""
    needed = ("</s>", "<unk>", "<s>", "<|endoftext|>")
    if any(part in name.lower() for part in ("phi-3", "phi3")):
        missing = [token for token in needed if tokenizer.find(token) is None]
        if missing:
            raise ConfigError(
                f'--name "{name}": llama.cpp takes it for Microsoft\'s Phi-3 and looks for '
                f"{missing[0]}, which this tokenizer does not have; give another --name."
            )


def import_gguf(file: Path, out: Path, weights: str = "fp32") -> None:
    """Write a GGUF file as a model folder, which every verb and `transformers` open.

    Args:
        weights: what the weights become: fp32, bf16 or fp16.

    Raises:
        ConfigError: the file is broken, Foundling has no such model or tokenizer, or `out` is not
            empty; nothing is written.
    """
    if weights not in DTYPES:
        raise ConfigError(f"--weights {weights}: no such type ({', '.join(DTYPES)}).")
    given = GgufFile(file)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    ids |= gguf_vocabulary.mark_ids(given.fields)
    config = {**given.config, **ids, "dtype": str(DTYPES[weights]).removeprefix("torch.")}
    with durable.fresh(out) as partial:
        partial.mkdir()
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        try:
            gguf_vocabulary.write_files(given.fields, partial, given.spec["context"])
            Tokenizer.load(partial)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{file}: what it says of its tokenizer is of a wrong kind: {error}"
            ) from None
        given.write_weights(partial, DTYPES[weights])
        if name := given.fields.get("general.name", ""):
            found = {key: given.fields.get(theirs) for key, theirs in LICENCE.items()}
            terms = {key: value for key, value in found.items() if value}
            if terms.keys() == {"license"}:
                terms = model_card.terms(terms["license"])
            facts = f"Imported by Foundling from {file.name}.\n"
            model_card.write_card(partial, name, terms, facts)
