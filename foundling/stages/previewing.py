"""What a stage would learn of rows, without training."""

from pathlib import Path

from foundling.data.examples import UNBOUNDED, Examples
from foundling.data.reading import read_shown
from foundling.runs.model_folder import is_model
from foundling.runs.run import find_model
from foundling.stages.parent import Parent
from foundling.stages.sft import SftConfig, encode
from foundling.text.tokenizer import Tokenizer


def has_tokenizer_alone(folder: Path) -> bool:
    """Whether it is a token store, or a folder with a tokenizer and no model."""
    there = (folder / "tokenizer").is_dir() or (folder / "tokenizer.json").is_file()
    return there and not is_model(folder)


def preview_of(config: SftConfig) -> tuple[Examples, Tokenizer, list[str]]:
    """The examples that `config.data` makes of its files, and what is to be said of them.

    The parent is a run, a model, a token store or a folder with a tokenizer alone; rows may also be
    preferences or labelled answers.

    Raises:
        ConfigError: as the stage itself does.
    """
    source, data = str(config.parent), config.data
    if has_tokenizer_alone(Path(source)):  # no model bounds the length
        parent, longest = Parent(Path(source), {}), None
    else:
        parent = Parent(find_model(source), {})
        longest = parent.max_context
    tokenizer = parent.tokenizer_for(data)
    conversations, parsed = read_shown(
        data.files,
        format=data.format,
        columns=data.columns,
        repair=data.repair,
        on_error=data.on_error,
        skip="--on-error skip",
    )
    examples, lengths = encode(
        data, conversations, tokenizer, config.context or longest or UNBOUNDED
    )
    return examples, tokenizer, [*parsed.lines(), *lengths.lines()]
