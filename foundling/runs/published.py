"""A model as a folder to publish: what `transformers` opens, with a card."""

from pathlib import Path

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.runs import hub, model_card
from foundling.runs.model_folder import merged
from foundling.runs.run import find_model


def export_folder(source: Path | str, out: Path, *, name: str = "", licence: str = "") -> None:
    """Write a run's best checkpoint, or a model folder, with a card.

    A folder's own card is kept, unless a licence is given: then a new card is written.

    Raises:
        ConfigError: there is no such model, `transformers` has no such architecture, or `out`
            exists.
    """
    found = find_model(source)
    with merged(found) as folder, durable.fresh(out) as partial:
        if interchange.read_config(folder)[0] is None:
            raise ConfigError(f"{source}: transformers has no such model; only Foundling opens it.")
        hub.copy(folder, partial)
        if licence or not (partial / model_card.CARD).is_file():
            terms = model_card.known_terms(licence, source, found)
            facts, data = model_card.describe(Path(source))
            model_card.write_card(partial, name or out.name, terms, facts, **data)
