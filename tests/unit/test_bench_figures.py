"""Figures of the bench, the runs that are kept and the guard that compares them: all by hand, nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from landcover.cli import main
from landcover.commands.bench import command, figures, records
from landcover.commands.bench.command import sections_of
from landcover.commands.bench.figures import Better, Figure, Outcome, of_rounds
from landcover.commands.bench.profile import groups, shares
from landcover.errors import InvalidRequest


def figure(ratio: float, *, better: Better = "higher", name: str = "warm tile", against: str = "a floor") -> Figure:
    return of_rounds(
        [ratio], [1.0], name=name, against=against, unit="/s", better=better, command="landcover bench warm"
    )


def test_a_ratio_is_the_median_of_rounds_and_not_of_medians() -> None:
    """By hand: 10/20, 30/30 and 20/10 are 0.5, 1 and 2."""
    found = of_rounds(
        [10, 30, 20], [20, 30, 10], name="a", against="b", unit="/s", better="higher", command="landcover bench"
    )
    assert (found.measured, found.floor, found.ratio) == (20, 20, 1)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        of_rounds([1], [1, 2], name="a", against="b", unit="", better="higher", command="")


def test_the_table_shows_each_figure() -> None:
    drawn = Console(file=StringIO(), width=150)
    drawn.print(figures.table([figure(0.75), figure(2.5, better="lower", name="cold tile")]))
    text = drawn.file.getvalue()  # type: ignore[attr-defined]
    assert [line.split("  ")[0] for line in text.splitlines()] == ["figure", "warm tile", "cold tile"]
    assert "0.75" in text and "2.5" in text and "a floor" in text


@pytest.mark.parametrize(
    ("better", "ratio", "aim", "said"),
    [
        ("higher", 0.95, 0.95, "≥ 0.95"),
        ("higher", 0.94, 0.95, "≥ 0.95  missed"),
        ("lower", 1.15, 1.15, "≤ 1.15"),
        ("lower", 1.16, 1.15, "≤ 1.15  missed"),
        ("lower", 1.16, None, "low"),
    ],
)
def test_an_aim_is_told_from_what_is_missed(better: Better, ratio: float, aim: float | None, said: str) -> None:
    drawn = Console(file=StringIO(), width=150)
    drawn.print(figures.table([replace(figure(ratio, better=better), aim=aim)]))
    assert drawn.file.getvalue().rstrip().endswith(said)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("better", "before", "now", "worse"),
    [
        ("higher", 0.9, 0.61, False),
        ("higher", 0.9, 0.59, True),
        ("higher", 0.9, 2.0, False),
        ("lower", 1.0, 1.49, False),
        ("lower", 1.0, 1.51, True),
        ("lower", 1.0, 0.2, False),
    ],
)
def test_more_than_a_third_is_too_much(better: Better, before: float, now: float, worse: bool) -> None:
    assert records.is_worse(figure(now, better=better), figure(before, better=better)) is worse


def test_each_loss_is_a_sentence_that_says_how_to_see_it_again() -> None:
    recorded = {each.key: each for each in (figure(0.9), figure(1.0, better="lower", name="cold tile"))}
    found = [figure(0.3), figure(3.0, better="lower", name="cold tile"), figure(0.1, name="new")]
    lost = records.lost(found, recorded)
    assert [records.sentence(each, recorded[each.key]) for each in lost] == [
        "warm tile to a floor fell from 0.9 to 0.3, by more than a third; see it again with `landcover bench warm`.",
        "cold tile to a floor rose from 1 to 3, by more than a third; see it again with `landcover bench warm`.",
    ]


def test_a_comparison_with_nothing_is_none() -> None:
    with pytest.raises(InvalidRequest, match="None of these figures is in the record"):
        records.lost([figure(1.0)], {})


def test_a_run_that_is_kept_is_read_again(tmp_path: Path) -> None:
    found = [figure(0.9), figure(1.2, better="lower", against="another")]
    path = records.keep(records.document(found, {"warm": [1]}, {"sections": ["warm"]}), tmp_path / "runs")
    assert list(records.read(path).values()) == found
    assert json.loads(path.read_text())["warm"] == [1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"figures": [{"name": "a"}]}', '{"figures": 1}'])
def test_a_file_that_is_no_run_is_told_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InvalidRequest, match="is no run of `landcover bench`"):
        records.read(tmp_path / "a.json")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        records.read(tmp_path / "absent.json")


def test_the_record_that_is_shipped_is_a_run() -> None:
    assert {each.command for each in records.read(records.shipped()).values()} == {
        f"landcover bench {section}" for section in sections_of([])
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["warm", "cold", "worker", "read", "encode", "scaling", "batching"]),
        (["tiles"], ["warm", "cold"]),
        (["scale", "cold", "tiles"], ["warm", "cold", "scale"]),
        (
            ["all"],
            ["warm", "cold", "worker", "read", "encode", "scaling", "batching", "statistics", "scale"],
        ),
    ],
)
def test_words_and_groups_name_sections(words: list[str], expected: list[str]) -> None:
    assert sections_of(words) == expected


Measured = Callable[..., None]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    """Has the bench find ratios, one each time, without measuring anything."""

    def find(*ratios: float) -> None:
        outcomes = iter({"warm": Outcome(figures=(figure(ratio),), details=None)} for ratio in ratios)
        monkeypatch.setattr(command, "_measure", lambda *_: next(outcomes))

    monkeypatch.chdir(tmp_path)
    return find


def test_the_guard(measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(0.9)
    assert main(["bench", "warm", "--json", "before.json"]) == 0
    assert len(list((tmp_path / ".landcover" / "bench").iterdir())) == 1
    measured(0.7)
    assert main(["bench", "warm", "--check", "before.json"]) == 0
    assert "1 figures compared with before.json: none lost more than a third" in capsys.readouterr().out
    measured(0.5, 0.7)
    assert main(["bench", "warm", "--check", "before.json"]) == 0
    assert "1 figures lost more than a third: measuring warm once more" in capsys.readouterr().out
    measured(0.4, 0.5)
    assert main(["bench", "warm", "--check", "before.json"]) == 1
    assert capsys.readouterr().err == (
        "landcover: warm tile to a floor fell from 0.9 to 0.5, by more than a third; "
        "see it again with `landcover bench warm`.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cool"], "There is no section 'cool'; choose from tiles, quick, all, warm"),
        (["warm", "--rounds", "0"], "--seconds, --rounds and --blocks are greater than 0"),
        (["warm", "--check", "absent.json"], "absent.json cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is(
    measured: Measured, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["bench", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_a_profile_says_who_ran() -> None:
    """Ten samples: seven of work, one of an import, one of a thread that waits, one of a thread with no frames."""
    frames: list[dict[str, Any]] = [
        {"name": "main", "file": "/app/main.py"},
        {"name": "draw", "file": "/app/drawing.py"},
        {"name": "exec_module", "file": "<frozen importlib._bootstrap_external>"},
        {"name": "Condition.wait", "file": "/usr/lib/threading.py"},
    ]
    samples = [[0, 1]] * 6 + [[0]] + [[0, 2, 1]] + [[0, 3]] + [[]]
    found = shares({"shared": {"frames": frames}, "profiles": [{"samples": samples}]})
    assert found == pytest.approx({"drawing: draw": 6 / 7, "main: main": 1 / 7})


def test_a_profile_is_summed_by_our_modules_and_others_packages() -> None:
    by_function = {
        "redis.connection: send": 0.3,
        "landcover_api.warm: find": 0.3,
        "redis.client: parse": 0.2,
        "landcover_api.drawing: draw": 0.2,
    }
    assert [(each.name, each.most) for each in groups(by_function)] == [
        ("redis", "send"),
        ("landcover_api.warm", "find"),
        ("landcover_api.drawing", "draw"),
    ]
    assert groups(by_function)[0].share == pytest.approx(0.5)
