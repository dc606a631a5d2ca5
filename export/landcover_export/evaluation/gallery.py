"""Which images and windows a report shows: some evenly chosen, and of each model where it is most wrong."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from landcover.classes import UNKNOWN, LandCoverClass
from landcover_export.evaluation.evaluate import CONFIDENT, MappedImage, Window, tiled
from landcover_export.evaluation.pictures import Picture, class_map, confidence_map, error_map, photograph

IMAGE_SIDE_PX = 420
WINDOW_SIDE_PX = 256
"""Of the windows that are ranked for showing: small enough to see what went wrong, whatever is resampled."""
MIN_LABELLED = 0.1
"""A window of which less is labelled is not among the worst: a few wrong pixels would put it there."""


@dataclass(frozen=True, kw_only=True)
class ModelPictures:
    """What one model made of a place."""

    model: str
    accuracy: float | None
    """Share of the labelled pixels that are right; None where none is labelled."""
    prediction: Picture
    errors: Picture
    confidence: Picture


@dataclass(frozen=True, kw_only=True)
class Place:
    """An image or a window of one, beside its label and the maps of one or more models."""

    window: Window
    photograph: Picture
    label: Picture
    models: tuple[ModelPictures, ...]

    @property
    def title(self) -> str:
        """The image's name, with its group's where that adds something."""
        window = self.window
        known = not window.group or window.image.startswith(window.group)
        return window.image if known else f"{window.group}/{window.image}"


@dataclass(frozen=True, kw_only=True)
class WorstPlace:
    """A window that a model has wrong."""

    place: Place
    share: float
    """Of its labelled pixels: those that are wrong, or wrong and confident."""


_Ranked = list[tuple[float, int, WorstPlace]]


class Gallery:
    """Observer of `evaluate_windows` that keeps pictures, and never more than it will show."""

    def __init__(
        self,
        models: Sequence[str],
        classes: Sequence[LandCoverClass],
        *,
        images: int,
        shown_images: int = 6,
        shown_windows: int = 8,
    ) -> None:
        """
        Args:
            models: their names, in the order in which they are evaluated.
            classes: that any of them knows.
            images: how many images the set has.
            shown_images: how many of them to show, evenly chosen along the set.
            shown_windows: how many windows to show for each model and kind of error.
        """
        self.places: list[Place] = []
        """The images shown."""
        self._models = tuple(models)
        self._classes = tuple(classes)
        self._shown_images = {round(at) for at in np.linspace(0, images - 1, min(shown_images, images))}
        self._shown_windows = shown_windows
        self._worst: list[_Ranked] = [[] for _ in models]
        self._sure: list[_Ranked] = [[] for _ in models]
        self._tie = count()

    def __call__(self, mapped: MappedImage) -> None:
        """Take what is worth showing of one image."""
        height, width = mapped.source.label.shape
        if mapped.index in self._shown_images:
            whole = Window(
                image=mapped.source.name,
                group=mapped.source.group,
                row_px=0,
                col_px=0,
                height_px=height,
                width_px=width,
            )
            self.places.append(self._place(mapped, whole, range(len(self._models)), IMAGE_SIDE_PX))
        label = mapped.source.label
        for model, (classes, confidence) in enumerate(mapped.maps):
            wrong = (label != UNKNOWN) & (label != classes)
            sure = wrong & (confidence >= CONFIDENT)
            for window in tiled(mapped.source, WINDOW_SIDE_PX):
                at = window.slices
                labelled = np.count_nonzero(label[at])
                if labelled >= max(1, MIN_LABELLED * label[at].size):
                    self._rank(self._worst[model], np.count_nonzero(wrong[at]) / labelled, mapped, window, model)
                    self._rank(self._sure[model], np.count_nonzero(sure[at]) / labelled, mapped, window, model)

    def worst(self, model: int) -> list[WorstPlace]:
        """The windows with the largest share of wrong pixels, worst first."""
        return _in_order(self._worst[model])

    def confidently_wrong(self, model: int) -> list[WorstPlace]:
        """The windows with the largest share of pixels that are wrong with a confidence of 0.9 or more."""
        return _in_order(self._sure[model])

    def _rank(self, kept: _Ranked, share: float, mapped: MappedImage, window: Window, model: int) -> None:
        full = len(kept) >= self._shown_windows
        if share <= 0 or not self._shown_windows or (full and share <= kept[0][0]):
            return
        found = WorstPlace(place=self._place(mapped, window, [model], WINDOW_SIDE_PX), share=share)
        entry = (share, -next(self._tie), found)
        if full:
            heapq.heapreplace(kept, entry)
        else:
            heapq.heappush(kept, entry)

    def _place(self, mapped: MappedImage, window: Window, models: Sequence[int], side_px: int) -> Place:
        at = window.slices
        image, label = mapped.source.image[at], mapped.source.label[at]
        where = f"{window.image}, row {window.row_px}, column {window.col_px}"
        found = []
        for model in models:
            name = self._models[model]
            classes, confidence = (each[at] for each in mapped.maps[model])
            labelled = int(np.count_nonzero(label))
            found.append(
                ModelPictures(
                    model=name,
                    accuracy=float(np.count_nonzero((label == classes) & (label > 0)) / labelled) if labelled else None,
                    prediction=class_map(classes, self._classes, side_px, f"Class map by {name} of {where}"),
                    errors=error_map(image, label, classes, confidence, side_px, f"Errors of {name} in {where}"),
                    confidence=confidence_map(confidence, side_px, f"Confidence of {name} in {where}"),
                )
            )
        return Place(
            window=window,
            photograph=photograph(image, side_px, f"Image {where}"),
            label=class_map(label, self._classes, side_px, f"Label of {where}"),
            models=tuple(found),
        )


def _in_order(ranked: _Ranked) -> list[WorstPlace]:
    return [each for *_, each in sorted(ranked, key=lambda one: one[:2], reverse=True)]
