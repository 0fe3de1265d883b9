"""Recall at defaults through the whole life of a collection, for every kind of index.

One collection a kind goes through the stages in turn: rows just indexed, merged, a part deleted,
all replaced, and read again after kill -9. Each stage is a gate of its own against numpy.
"""

import pytest

from tests.lib.server import ServerFactory, ServerOptions
from tests.recall.truth import clustered, in_order
from tests.recall.world import CONFIG, FLUSH_ROWS, Kind, World

GATE = 0.95
DIMENSION = 32
SEED = 7
CHURN_QUERIES = 400  # a point of recall is told from chance
HELD_OUT = 1000  # queries; a deviation of their recall is about 0.003

FLOATS = ("cosine", "dot", "euclidean")
ALL_KINDS = [
    *(
        Kind(metric, index, quantization)
        for metric in FLOATS
        for index in ("flat", "hnsw", "ivf")
        for quantization in ("none", "sq8", "sq4", "pq", "binary")
    ),
    *(
        Kind(metric, index, "none")
        for metric in ("manhattan", "hamming")
        for index in ("hnsw", "ivf")
    ),
    *(Kind(metric, "auto", "auto") for metric in (*FLOATS, "manhattan", "hamming")),
    Kind("cosine", "hnsw", "binary", bits=4),
]
LIFE_KINDS = [
    Kind("cosine", "hnsw", "auto"),
    Kind("euclidean", "hnsw", "none"),
    Kind("dot", "hnsw", "sq8"),
    Kind("euclidean", "ivf", "pq"),
    Kind("cosine", "hnsw", "sq4"),
    Kind("cosine", "flat", "binary"),
    Kind("manhattan", "hnsw", "none"),
    Kind("hamming", "hnsw", "none"),
]


def dimension_of(kind: Kind) -> int:
    return 8 * DIMENSION if kind.metric == "hamming" else DIMENSION


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def fresh(server_factory: ServerFactory, kind: Kind) -> World:
    server = server_factory.make(ServerOptions(config=CONFIG, cores=2)).start()
    world = World(server, kind, dimension_of(kind))
    world.make()
    return world


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_a_fresh_index_finds_the_neighbours(server_factory: ServerFactory, kind: Kind) -> None:
    world = fresh(server_factory, kind)
    world.write(names("a", FLUSH_ROWS), clustered(FLUSH_ROWS, world.dimension, SEED))
    world.wait_indexed(FLUSH_ROWS if kind.index in ("hnsw", "ivf") else 0)
    assert world.recall(world.queries()) >= GATE
    assert world.recall(world.queries(), exact=True) == 1.0


@pytest.mark.parametrize("kind", LIFE_KINDS, ids=lambda kind: kind.name)
def test_recall_stays_through_merges_deletes_updates_and_kills(
    server_factory: ServerFactory, kind: Kind
) -> None:
    world = fresh(server_factory, kind)
    count = 3 * FLUSH_ROWS
    world.write(names("a", count), clustered(count, world.dimension, SEED))
    world.wait_merged()
    assert world.recall(world.queries()) >= GATE, "after merges"

    world.delete(names("a", count)[::3])
    assert world.recall(world.queries()) >= GATE, "a third deleted"

    world.server.kill()
    world.server.start()
    assert world.recall(world.queries()) >= GATE, "just after kill -9"
    world.wait_indexed()
    assert world.recall(world.queries()) >= GATE, "indexes read or made again"

    left = list(world.rows)
    world.write(left, clustered(len(left), world.dimension, SEED, of=2))
    assert world.recall(world.queries()) >= GATE, "100 % updated, not merged yet"
    world.wait_merged()
    queries = world.queries(count=CHURN_QUERIES)
    churned = world.recall(queries)
    assert churned >= GATE, "100 % updated"

    twin = World(world.server, kind, world.dimension, suffix="-twin")
    twin.make()
    twin.write(left, clustered(len(left), world.dimension, SEED, of=2))
    twin.wait_merged()
    assert churned >= twin.recall(queries) - 0.01, "a fresh one finds more"


@pytest.mark.parametrize("kind", LIFE_KINDS[:4], ids=lambda kind: kind.name)
@pytest.mark.parametrize("target", [0.8, 0.9, 0.99])
def test_a_target_is_met(server_factory: ServerFactory, kind: Kind, target: float) -> None:
    world = fresh(server_factory, kind)
    count = 2 * FLUSH_ROWS
    world.write(names("a", count), clustered(count, world.dimension, SEED))
    world.wait_indexed()
    queries = world.queries(count=HELD_OUT, centre_count=count // 50)  # as the rows are
    assert world.recall(queries, target_recall=target) >= target - 0.01


@pytest.mark.parametrize("kind", LIFE_KINDS[:6], ids=lambda kind: kind.name)
def test_one_vector_ten_thousand_times_hides_no_other(
    server_factory: ServerFactory, kind: Kind
) -> None:
    world = fresh(server_factory, kind)
    rows = clustered(FLUSH_ROWS, world.dimension, SEED)
    same = rows[:1].repeat(10_000, axis=0)
    world.write(names("same", len(same)), same)
    world.write(names("a", len(rows)), rows)
    world.wait_merged()
    assert world.recall(world.queries()) >= GATE


@pytest.mark.parametrize("kind", LIFE_KINDS[:6], ids=lambda kind: kind.name)
def test_columns_that_never_change_and_order_of_clusters_do_no_harm(
    server_factory: ServerFactory, kind: Kind
) -> None:
    world = fresh(server_factory, kind)
    rows = in_order(clustered(FLUSH_ROWS, world.dimension, SEED))
    rows[:, :4] = 3.5
    world.write(names("a", len(rows)), rows)
    world.wait_indexed()
    assert world.recall(world.queries()) >= GATE


def test_tiny_collections_answer_all_they_have(server_factory: ServerFactory) -> None:
    """All kinds at once, on one server: most of the time goes into waits for flushes by age."""
    server = server_factory.make(ServerOptions(config=CONFIG, cores=2)).start()
    worlds = [World(server, kind, dimension_of(kind)) for kind in LIFE_KINDS]
    for world in worlds:
        world.make()
        assert world.recall(world.queries()[:5]) == 1.0, world.name
    for count in (1, 2, 9):
        for world in worlds:
            rows = clustered(9, world.dimension, SEED)
            world.write(names("a", count), rows[:count])
        for world in worlds:
            world.wait_indexed()
            assert world.recall(world.queries()[:5]) == 1.0, (world.name, count)
