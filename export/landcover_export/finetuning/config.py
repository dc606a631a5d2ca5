"""What a round is told, kept in its folder so that it can be resumed, by this process or by a trainer elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from landcover.atomic import atomic_path
from landcover.errors import InvalidConfiguration
from landcover_export.finetuning.core import FinetuneConfig
from landcover_export.finetuning.gate import DEFAULT_BOUND

CONFIG = "config.yaml"
SNAPSHOT = "annotations.geojson"
"""The annotations as they were when the round began: a resumed round must not see later ones."""


class RoundConfig(BaseModel):
    """One round of fine-tuning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: Path
    """An ONNX file of ours, or a checkpoint."""
    parent_digest: str | None = None
    """Of the parent's file when the round began: it may be replaced meanwhile, by this very round."""
    scenes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Images, folders, URLs or catalogues, as `landcover up --scenes` takes them."""
    base: str | None = None
    """The set to replay; see `base.load_base`."""
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the polygons that are never learnt from."""
    bound: Annotated[float, Field(ge=0, le=1)] = DEFAULT_BOUND
    """By which no class's IoU may fall."""
    force: bool = False
    """Promote although too little is held out to judge."""
    name: str | None = None
    """Of the new model; the parent's by default."""
    version: str | None = None
    """By default the parent's and one more."""
    promote_to: Path | None = None
    """A folder of served models that gets a copy when promoted."""
    training: FinetuneConfig = FinetuneConfig()


def write_config(config: RoundConfig, out: Path) -> None:
    """Keep it in the round's folder."""
    with atomic_path(out / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def read_round(out: Path) -> RoundConfig:
    """The configuration of the round in `out`.

    Raises:
        InvalidConfiguration: there is none, or it is not valid.
    """
    path = out / CONFIG
    if not path.is_file() or not (out / SNAPSHOT).is_file():
        raise InvalidConfiguration(f"There is no round of landcover finetune in {out} to go on with.")
    try:
        return RoundConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        reason = "; ".join(each["msg"] for each in error.errors()) if isinstance(error, ValidationError) else str(error)
        raise InvalidConfiguration(f"{path} is no configuration of a round: {reason}.") from error
