"""Opens models to generate with."""

import logging
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.base.runtime import pick_device
from foundling.generation.engine import Engine
from foundling.generation.loading import load_packed
from foundling.generation.rounding import measure_rounding
from foundling.generation.settings import EngineSettings
from foundling.models.finite import NotFiniteError
from foundling.runs.run import find_model

logger = logging.getLogger(__name__)


def open_engine(
    source: str | Path,
    *,
    device: str = "auto",
    template: str | None = None,
    settings: EngineSettings | None = None,
) -> Engine:
    """The engine of a run, checkpoint, model folder, or model of the hub.

    Args:
        template: the chat template, by name or as a file; None: the model's own.

    Raises:
        ConfigError: there is no such model, device or template, or the settings do not suit it.
    """
    folder, on = find_model(source), pick_device(device)
    settings = settings or EngineSettings()
    model, tokenizer = load_packed(folder, on, settings)
    engine = Engine(model, tokenizer.with_known_template(template), settings)
    tell_rounding(engine, folder)
    return engine


def tell_rounding(engine: Engine, folder: Path) -> None:
    """Log what the rounding of the weights cost, where they are rounded.

    Raises:
        NotFiniteError: the model computed NaN or infinity.
    """
    if engine.settings.quantize == "none":
        return
    named = f"{folder.name} in {engine.settings.quantize}"
    try:
        logger.info(f"{named}: {measure_rounding(engine, folder)}")
    except NotFiniteError:
        raise
    except ConfigError as error:
        logger.warning(f"{named}: what the rounding costs could not be measured: {error}")
