"""Which class is meant: by value or by name, among those of the served models and those that annotations brought."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from landcover.classes import LandCoverClass
from landcover.errors import InvalidRequest

MAX_NAME = 100
"""Characters of a class's name."""


@dataclass(frozen=True)
class ClassTable:
    """Known classes. Two models may use one value or one name for different classes; then both are here."""

    classes: tuple[LandCoverClass, ...]

    @classmethod
    def of(cls, *groups: Iterable[LandCoverClass]) -> ClassTable:
        """All classes of the groups; of those with the same value and name the first, whose colour counts."""
        found: dict[tuple[int, str], LandCoverClass] = {}
        for group in groups:
            for each in group:
                found.setdefault((each.value, each.name), each)
        return cls(tuple(found.values()))

    def resolve(self, given: object, name: object = None) -> LandCoverClass:
        """The class that a feature's `class` means.

        Args:
            given: its value or its name.
            name: the feature's `class_name`, if it has one. It settles which class is meant where two models use one
                value, and must not contradict it otherwise: the feature may come from another vocabulary.

        Raises:
            InvalidRequest: none or several are meant; the sentence lists the known ones.
        """
        candidates = self._candidates(given)
        if not candidates:
            raise InvalidRequest(
                f"class {shown(given)} is not known; known are {self.listing()}. A class that no model has yet comes "
                'with its value in class and new_class: {"name": …, "color": "#rrggbb"}.'
            )
        fitting = [each for each in candidates if not name or each.name == name]
        if len(fitting) == 1:
            return fitting[0]
        meanings = " or ".join(f"{each.value} '{each.name}'" for each in candidates)
        if fitting:
            raise InvalidRequest(f"class {shown(given)} means {meanings}; say which by class_name beside the value.")
        raise InvalidRequest(
            f"class {shown(given)} means {meanings}, but class_name says {shown(name)}; correct one of them."
        )

    def admit(self, value: object, new_class: object) -> LandCoverClass:
        """The class that a feature brings: an unused value and name, or exactly a class that is known already.

        Raises:
            InvalidRequest: it is incomplete, or contradicts a known class.
        """
        number = as_value(value)
        if number is None:
            raise InvalidRequest(
                f"class is {shown(value)}, but with new_class it must be the new class's value, 1 to 254; free is "
                f"{self.free_value()}."
            )
        if not isinstance(new_class, dict) or set(new_class) - {"name", "color"}:
            raise InvalidRequest('new_class must be an object such as {"name": "solar panel", "color": "#1122ee"}.')
        color = new_class.get("color")
        try:
            brought = LandCoverClass(
                value=number,
                name=str(checked_name(new_class.get("name"))),
                color=color.lower() if isinstance(color, str) else "",
            )
        except ValidationError as error:
            fault = error.errors()[0]
            raise InvalidRequest(f"new_class: {'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None
        for known in self.classes:
            if (known.value, known.name) == (brought.value, brought.name):
                return known
        for known in self.classes:
            if known.value == brought.value or known.name == brought.name:
                raise InvalidRequest(
                    f"new_class {brought.value} '{brought.name}' contradicts the known class {known.value} "
                    f"'{known.name}'; take another value (free is {self.free_value()}) and another name."
                )
        return brought

    def knows(self, value: object, name: object) -> bool:
        """Whether a class has this value, or this name."""
        number = as_value(value)
        return any(each.value == number or each.name == name for each in self.classes)

    def free_value(self) -> int:
        """The least value that no known class has."""
        used = {each.value for each in self.classes}
        return next(value for value in range(1, 256) if value not in used)

    def listing(self) -> str:
        """For people: `1 bareland, 2 rangeland, …`."""
        ordered = sorted(self.classes, key=lambda each: (each.value, each.name))
        return ", ".join(f"{each.value} {each.name}" for each in ordered) or "none"

    def _candidates(self, given: object) -> list[LandCoverClass]:
        named = [each for each in self.classes if isinstance(given, str) and each.name == given]
        if named:
            return named
        value = as_value(given)
        return [each for each in self.classes if each.value == value]


def as_value(given: object) -> int | None:
    """A class value from JSON or a table's column: 8, 8.0 and "8" mean 8; None if it is none of 1..254."""
    if isinstance(given, str):
        given = int(given) if given.isascii() and given.isdecimal() and len(given) <= 3 else None
    if isinstance(given, bool) or not isinstance(given, int | float) or given != given // 1:
        return None
    return int(given) if 1 <= given <= 254 else None


def shown(value: object) -> str:
    """What somebody sent, for a message: as Python writes it, and never long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def checked_name(name: object) -> str:
    """A class's name as given.

    Raises:
        InvalidRequest: it is no text, empty, too long or unprintable.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequest(f"new_class needs a name of 1 to {MAX_NAME} printable characters.")
    return name.strip()
