"""The pages of the REST doors tell of every route, as it is."""

import inspect

import pytest

from remora_server.gateway.route import Dialect
from tests.gateway.routes import DIALECTS
from tests.house.endpoints import PAGES, table, written

REST = [dialect for dialect in DIALECTS if dialect.name in PAGES]
GRAPHQL = {"linear", "glue"}  # Their schemas tell of them, which the server serves.

each = pytest.mark.parametrize("dialect", REST, ids=lambda dialect: dialect.name)


@each
def test_the_table_is_that_of_the_routes(dialect: Dialect) -> None:
    """If this fails, run scripts/gen."""
    path, text, wanted = written(dialect)
    assert text == wanted, path.name


@each
def test_every_route_is_in_the_table(dialect: Dialect) -> None:
    """Each has its line; of two spellings of one path the first is enough, and has to be of the same handler."""
    lines = table(dialect, PAGES[dialect.name].base).splitlines()
    for route in dialect.routes:
        sentence = (inspect.getdoc(route.handler) or "").partition("\n")[0].removesuffix(".")
        ending = f"| {sentence[:1].lower()}{sentence[1:]} |"
        assert [line for line in lines if line.startswith(f"| {route.method} ") and line.endswith(ending)], route
    assert len(table(dialect, "").splitlines()) == len(dialect.routes) + 4


def test_every_door_has_a_page() -> None:
    """A new dialect is added to PAGES, or speaks GraphQL."""
    assert {dialect.name for dialect in DIALECTS} == set(PAGES) | GRAPHQL
