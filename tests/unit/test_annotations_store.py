"""The database of annotations, SQLite and PostgreSQL: what is stored comes back, in order, whoever writes beside."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from shapely import MultiPolygon, Polygon, box

from landcover.annotations import Annotation, AnnotationStore
from landcover.annotations.database import make_engine, writing
from landcover.annotations.migration import VERSION_TABLE, _config, head, migrate, revision_of
from landcover.annotations.rows import Filter
from landcover.annotations.schema import METADATA
from landcover.classes import LandCoverClass
from landcover.errors import (
    AnnotationNotFound,
    Conflict,
    DatabaseUnavailable,
    InvalidConfiguration,
    PreconditionFailed,
)

SOLAR = LandCoverClass(value=9, name="solar panel", color="#1122ee")


def annotation(geometry: Polygon | MultiPolygon | None = None, **changes: object) -> Annotation:
    values: dict[str, object] = {
        "scene": "chiba",
        "class_value": 4,
        "class_name": "road",
        "class_color": "#ffffff",
        "geometry": geometry or box(140, 35, 140.25, 35.5),
    }
    return Annotation(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def store(database_url: str) -> Iterator[AnnotationStore]:
    with AnnotationStore(database_url) as store:
        yield store


# --- what is stored comes back -----------------------------------------------------------------------------------


def test_every_field_comes_back_as_it_was(store: AnnotationStore) -> None:
    hole = Polygon([(0, 0), (1, 0), (1, 1), (0, 0)], [[(0.6, 0.2), (0.9, 0.2), (0.9, 0.5), (0.6, 0.2)]])
    given = annotation(
        MultiPolygon([hole, box(2, 2, 2.1 + 1e-15, 3)]),
        author="Ōno 'Bobby; DROP TABLE annotations' 🌍",
        note="first line\nsecond\t" + "x" * 4000,
        scene_version="0123456789abcdef",
        created=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    )
    store.add(given)
    back = store.get(given.id)
    assert back == given
    assert back.geometry.equals_exact(given.geometry, 0)
    assert back.created.utcoffset() == timedelta(0)
    bare = annotation()
    store.add(bare)
    assert store.get(bare.id) == bare


def test_times_of_other_zones_become_utc(store: AnnotationStore) -> None:
    tokyo = datetime.fromisoformat("2026-01-02T03:04:05+09:00")
    given = annotation(created=tokyo)
    store.add(given)
    assert store.get(given.id).created == tokyo
    assert store.get(given.id).created.isoformat() == "2026-01-01T18:04:05+00:00"


def test_many_are_stored_together_or_not_at_all(store: AnnotationStore) -> None:
    first = annotation()
    store.add(first)
    with pytest.raises(Conflict, match="is taken"):
        store.add_many([annotation(), annotation(), replace(first)], [SOLAR])
    twice = annotation()
    with pytest.raises(Conflict, match="twice"):
        store.add_many([twice, twice])
    assert [each.id for each in store.all()] == [first.id]
    assert store.classes() == ()


def test_a_thousand_and_more_in_one_go(store: AnnotationStore) -> None:
    """More than one statement may have parameters."""
    many = [annotation() for _ in range(1201)]
    store.add_many(many)
    assert [each.id for each in store.all()] == [each.id for each in many]
    assert store.existing([each.id for each in many]).keys() == {each.id for each in many}


def test_replacing_keeps_the_time_of_creation_and_counts_revisions(store: AnnotationStore) -> None:
    old = annotation(created=datetime(2020, 1, 1, tzinfo=UTC), updated=datetime(2020, 1, 1, tzinfo=UTC))
    store.add_many([old, annotation()])
    stored = store.replace(annotation(box(1, 1, 2, 2), id=old.id, class_value=8, class_name="building"))
    assert stored == store.get(old.id)
    assert (stored.revision, stored.class_value, stored.created) == (2, 8, old.created)
    assert stored.updated > old.updated
    assert stored.geometry.equals(box(1, 1, 2, 2))
    assert store.page(Filter(bbox=(1, 1, 1, 1)), limit=9).matched == 1
    assert store.all()[0].id == old.id  # its place is kept


def test_only_the_state_that_was_seen_is_changed(store: AnnotationStore) -> None:
    given = annotation()
    store.add(given)
    store.replace(given, expected_revision=1)
    with pytest.raises(PreconditionFailed):
        store.replace(given, expected_revision=1)
    with pytest.raises(PreconditionFailed):
        store.delete(given.id, expected_revision=1)
    store.delete(given.id, expected_revision=2)
    for act in (store.get, store.delete, lambda each: store.replace(annotation(id=each))):
        with pytest.raises(AnnotationNotFound):
            act(given.id)


def test_counts_scenes_and_lists(store: AnnotationStore) -> None:
    water = {"class_value": 6, "class_name": "water", "class_color": "#0045ff"}
    store.add_many(
        [annotation(scene="b"), annotation(scene="a"), annotation(scene="b"), annotation(scene="b", **water)]
    )
    assert store.scenes() == ["a", "b"]
    assert [each.class_name for each in store.for_scene("b")] == ["road", "road", "water"]
    assert [(scene, kind.name, count) for scene, kind, count in store.counts()] == [
        ("a", "road", 1),
        ("b", "road", 2),
        ("b", "water", 1),
    ]


def test_classes_are_added_once_and_never_contradict(store: AnnotationStore) -> None:
    store.add_many([annotation()], [SOLAR])
    store.add_many([annotation()], [SOLAR])
    assert store.classes() == (SOLAR,)
    for clash in (SOLAR.model_copy(update={"name": "pool"}), SOLAR.model_copy(update={"value": 10})):
        with pytest.raises(Conflict, match="added meanwhile"):
            store.add_many([annotation()], [clash])
    assert len(store.all()) == 2


# --- filters -----------------------------------------------------------------------------------------------------


def test_a_bbox_finds_what_shapely_finds(store: AnnotationStore) -> None:
    rng = np.random.default_rng(7)
    corners = np.round(rng.uniform([-180, -90], [170, 80], (300, 2)), 1)
    sizes = np.round(rng.uniform(0.1, 10, (300, 2)), 1)
    boxes = [box(*corner, *(corner + size)) for corner, size in zip(corners, sizes, strict=True)]
    store.add_many([annotation(each) for each in boxes])
    for _ in range(40):
        west, south = np.round(rng.uniform([-180, -90], [180, 60]), 1)
        east, north = np.round(rng.uniform(-180, 180), 1), np.round(rng.uniform(south, 90), 1)
        asked = box(west, south, east, north) if west <= east else (
            MultiPolygon([box(west, south, 180, north), box(-180, south, east, north)])
        )  # fmt: skip
        expected = [number for number, each in enumerate(boxes) if shapely.intersects(asked, each)]
        found = store.all(Filter(bbox=(float(west), float(south), float(east), float(north))))
        assert [boxes.index(each.geometry) for each in found] == expected


@pytest.mark.parametrize(
    ("bbox", "found"),
    [
        ((177, -20, 178, -10), "e"),  # east of the antimeridian's western half only
        ((-179, -20, -178, -10), "w"),
        ((179.5, -20, 179.8, -10), "w"),
        ((170, -20, 175, -10), ""),  # an envelope of -180..180 would be found
        ((0, -20, 10, -10), ""),
        ((175, -20, -175, -10), "ew"),
        ((-180, -90, 180, 90), "ew"),
        ((179.5, 0, -179.5, 10), ""),
    ],
)
def test_what_crosses_the_antimeridian(store: AnnotationStore, bbox: tuple[float, ...], found: str) -> None:
    across = MultiPolygon([box(179, -18, 180, -16), box(-180, -18, -178, -16)])
    store.add_many([annotation(box(176, -18, 178, -16), note="e"), annotation(across, note="w")])
    west, south, east, north = bbox
    assert "".join(str(each.note) for each in store.all(Filter(bbox=(west, south, east, north)))) == found


def test_filters_combine(store: AnnotationStore) -> None:
    for scene, kind, author in itertools.product("ab", ((4, "road"), (6, "water")), ("x", None)):
        store.add(annotation(scene=scene, class_value=kind[0], class_name=kind[1], author=author))
    assert store.page(Filter(scene="a"), limit=1).matched == 4
    assert store.page(Filter(kind=4), limit=1).matched == store.page(Filter(kind="road"), limit=1).matched == 4
    assert store.page(Filter(author="x"), limit=1).matched == 4
    (only,) = store.all(Filter(scene="b", kind="water", author="x", bbox=(139, 34, 141, 36)))
    assert (only.scene, only.class_name, only.author) == ("b", "water", "x")
    assert store.all(Filter(scene="a' OR '1'='1")) == []


# --- pages -------------------------------------------------------------------------------------------------------


def test_pages_do_not_move_while_others_insert(store: AnnotationStore) -> None:
    before = [annotation() for _ in range(25)]
    store.add_many(before)
    seen: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(store.add_many, [annotation() for _ in range(5)]) for _ in range(20)]
        while page := store.page(limit=4, offset=len(seen)).annotations:
            seen += [each.id for each in page]
        for each in writers:
            each.result()
    seen += [each.id for each in store.page(limit=1000, offset=len(seen)).annotations]
    assert seen[:25] == [each.id for each in before]
    assert len(seen) == len(set(seen)) == 125
    assert seen == [each.id for each in store.all()]


def test_a_page_of_intricate_polygons_is_shorter(store: AnnotationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_many([annotation(shapely.Point(0, 0).buffer(1, 50)) for _ in range(5)])  # 201 vertices, 3.2 kB each
    monkeypatch.setattr("landcover.annotations.store.MAX_PAGE_BYTES", 7000)
    page = store.page(limit=5)
    assert (len(page.annotations), page.matched) == (2, 5)
    monkeypatch.setattr("landcover.annotations.store.MAX_PAGE_BYTES", 10)
    assert len(store.page(limit=5).annotations) == 1


def test_sixteen_threads_write_at_once(store: AnnotationStore) -> None:
    """The first of them also make the tables."""

    def work(number: int) -> None:
        mine = [annotation(author=str(number)) for _ in range(10)]
        for each in mine:
            store.add(each)
        store.replace(replace(mine[0], note="changed"), expected_revision=1)
        store.delete(mine[1].id)
        assert len(store.all(Filter(author=str(number)))) == 9

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert store.page(limit=1).matched == 16 * 9
    assert sum(each.note == "changed" for each in store.all()) == 16


def test_processes_open_a_new_database_at_once(database_url: str) -> None:
    code = "import sys; from landcover.annotations import AnnotationStore; AnnotationStore(sys.argv[1]).check()"
    started = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for each in started:
        _, said = each.communicate(timeout=60)
        assert each.returncode == 0, said


# --- migrations --------------------------------------------------------------------------------------------------


def test_migrations_make_exactly_the_tables_of_the_schema(database_url: str) -> None:
    engine = make_engine(database_url)
    assert migrate(engine) == (None, head())
    assert migrate(engine) == (head(), head())
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": lambda _, name, *__: name != VERSION_TABLE}
        )
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_an_old_database_is_brought_up_to_date_and_keeps_its_rows(database_url: str) -> None:
    """One of the first revision, which knew no new classes."""
    given = annotation(author="Ada")
    engine = make_engine(database_url)
    migrate(engine, "0001")
    assert revision_of(engine) == "0001"
    with AnnotationStore(database_url) as newer:
        newer.add_many([given], [SOLAR])
        assert newer.get(given.id) == given
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE annotation_classes"))
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0001'"))
    with AnnotationStore(database_url) as again:
        assert again.get(given.id) == given
        assert again.classes() == ()
    engine.dispose()


def test_a_newer_database_is_refused_with_a_sentence(database_url: str) -> None:
    engine = make_engine(database_url)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
    with AnnotationStore(database_url) as store, pytest.raises(InvalidConfiguration, match=r"'0999'.*Upgrade"):
        store.scenes()
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    engine = make_engine(database_url)
    with pytest.raises(DatabaseUnavailable), writing(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.execute(sa.text("SELECT * FROM nowhere"))
    assert revision_of(engine) is None
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


# --- trouble -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "URL is none"),
        ("nonsense", "URL is none"),
        ("mysql://host/db", "'mysql' is not supported"),
        ("sqlite://", "in memory keeps nothing"),
        ("sqlite:///:memory:", "in memory keeps nothing"),
        ("postgresql://host:port/db", "URL is none"),
    ],
)
def test_a_url_that_is_none_is_refused_at_once(url: str, sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence):
        AnnotationStore(url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "odd.sqlite").write_bytes(b"no database at all " * 100)
    store = AnnotationStore(f"sqlite:///{tmp_path}/odd.sqlite")
    with store, pytest.raises(DatabaseUnavailable, match="damaged or no SQLite"):
        store.scenes()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = AnnotationStore(f"sqlite:///{tmp_path}/file/x.sqlite")
    with store, pytest.raises(DatabaseUnavailable, match="cannot be opened") as caught:
        store.scenes()
    assert str(tmp_path) not in str(caught.value)


def test_a_database_that_comes_back_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "later").touch()
    with AnnotationStore(f"sqlite:///{tmp_path}/later/x.sqlite") as store:
        with pytest.raises(DatabaseUnavailable):
            store.scenes()
        (tmp_path / "later").unlink()
        store.add(annotation())
        assert store.scenes() == ["chiba"]


def test_a_server_that_is_not_there() -> None:
    with AnnotationStore("postgresql://me:secret@127.0.0.1:1/none") as store:
        with pytest.raises(DatabaseUnavailable, match="does not answer") as caught:
            store.scenes()
        assert "secret" not in str(caught.value)
        assert store.address == "postgresql://me:***@127.0.0.1:1/none"


def test_relative_files_are_those_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with AnnotationStore("sqlite:///new/landcover.sqlite") as store:
        monkeypatch.chdir("/")
        store.add(annotation())
    assert (tmp_path / "new" / "landcover.sqlite").exists()
