"""What the study runs: scenes, budgets, seeds, and how long each network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from landcover.errors import InvalidConfiguration


class StudyConfig(BaseModel):
    """A study on scenes that are stitched from 3 × 3 parts; the defaults are those of docs/studies/dubai.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_scenes: tuple[str, ...] = ("tile1", "tile3", "tile5")
    """What the base model learns from."""
    annotated_scene: str = "tile8"
    """The new scene in which windows are annotated."""
    test_scenes: tuple[str, ...] = ("tile7", "tile4")
    """The rest of the new group, less what overlaps the annotated scene on the ground."""
    test_parts: Annotated[int, Field(ge=1, le=9)] = 5
    """Of each test scene so many of its nine parts, the last ones."""
    window_px: Annotated[int, Field(ge=32)] = 256
    """Side of what is annotated at once."""
    spread: Annotated[float, Field(ge=0)] = 2.0
    """Of the review queue, in windows."""
    budgets: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (0.005, 0.02, 0.05)
    """Annotated shares of the new group's labelled ground, growing."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1, 2, 3)
    base_steps: Annotated[int, Field(ge=1)] = 400
    round_steps: Annotated[int, Field(ge=1)] = 60
    full_steps: Annotated[int, Field(ge=1)] = 180
    """For the model that is taught every label of the annotated scene."""
    crop_px: Annotated[int, Field(ge=32, multiple_of=32)] = 224
    batch: Annotated[int, Field(ge=2)] = 4
    base_learning_rate: float = 2e-3
    round_learning_rate: float = 5e-4
    encoder: str = "tu-tf_efficientnet_lite0"
    decoder_channels: tuple[int, ...] = (64, 48, 32, 24, 16)
    ablation: bool = True
    """Also the ablations: start, scale, architecture, and other choices of windows."""

    @model_validator(mode="after")
    def _scenes_have_one_role(self) -> StudyConfig:
        scenes = [*self.base_scenes, self.annotated_scene, *self.test_scenes]
        if len(set(scenes)) != len(scenes):
            raise ValueError("a scene is named twice: what is learnt from, annotated and measured on must differ")
        if sorted(set(self.budgets)) != list(self.budgets):
            raise ValueError("the budgets must grow")
        return self


def read_study(path: Path | None) -> StudyConfig:
    """The study in a YAML file, or the one that is described in docs/studies.

    Raises:
        InvalidConfiguration: the file is missing or not valid.
    """
    if path is None:
        return StudyConfig()
    if not path.is_file():
        raise InvalidConfiguration(f"There is no configuration of a study at {path}.")
    try:
        return StudyConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidConfiguration(f"{path} is no configuration of a study: {error}") from error
