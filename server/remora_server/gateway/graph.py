"""A GraphQL door: a document is parsed, bounded, validated and run over a schema of ours; every error has a code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Protocol

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLScalarType,
    InlineFragmentNode,
    SelectionSetNode,
    build_schema,
    execute,
    get_operation_ast,
    parse,
    validate,
)
from starlette.responses import PlainTextResponse, Response

from remora_server.core.errors import invalid
from remora_server.gateway.graph_bounds import Bounds, TooComplexError, require_affordable, require_bounded
from remora_server.gateway.graph_errors import VALIDATION_FAILED, Problem, Wording, answered, problem_at
from remora_server.gateway.route import Route, Visit

KEPT_DOCUMENTS = 200
KEPT_CHARS = 20_000  # Of a document that is kept.
MAX_ERRORS = 20
ROOTS = ("Query", "Mutation")
FAULT = 500
ANY_KEY = "CapabilityService.GetCapabilities"  # Each field of the root asks for a scope of its own.


class Context(Protocol):
    """What resolvers share while one document is run."""

    @property
    def visit(self) -> Visit:
        """The request."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """How a field comes about, and the RPC whose scope it asks for, if the way to it has not asked for that yet."""

    resolve: Callable[..., Any]
    rpc: str = ""


class Graph:
    """A schema with all that is needed to answer documents."""

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Field],
        context: Callable[[Visit], Context],
        wording: Wording,
        *,
        scalars: Mapping[str, Callable[[Any], Any]] | None = None,
        bounds: Bounds | None = None,
        refused_status: int = 400,
    ) -> None:
        """Make one of `dialects/NAME.graphql`; `fields` are named `Type.field`, `scalars` are told how to read theirs.

        Every field of the root is among `fields`, and names an RPC: what nobody thought of is not served. Documents
        that are not run are answered with `refused_status`, 200 where clients look for errors in the body alone.
        """
        self.name = name
        self.sdl = resources.files("remora_server.gateway.dialects").joinpath(f"{name}.graphql").read_text("utf-8")
        self.schema = build_schema(self.sdl)
        self.bounds = bounds or Bounds()
        self._context = context
        self._wording = wording
        self._refused_status = refused_status
        self._set(fields)
        for scalar, read in (scalars or {}).items():
            kind = self.schema.type_map[scalar]
            assert isinstance(kind, GraphQLScalarType)  # noqa: S101 - a mistake in a dialect ends its start
            kind.coerce_input_value = read  # As the library has it done where the schema comes as text.
        self.rpcs = {place: field.rpc for place, field in fields.items() if field.rpc}
        self._kept = lru_cache(KEPT_DOCUMENTS)(self._prepared)

    def _set(self, fields: Mapping[str, Field]) -> None:
        for place, field in fields.items():
            kind, _, name = place.partition(".")
            self.schema.type_map[kind].fields[name].resolve = _guarded(field) if field.rpc else field.resolve  # type: ignore[attr-defined]
        for root in ROOTS:
            for name in getattr(self.schema.type_map.get(root), "fields", {}):
                if not (found := fields.get(f"{root}.{name}")) or not found.rpc:
                    raise LookupError(f"{self.name}: {root}.{name} names no RPC")

    async def answer(self, visit: Visit, query: object, variables: object, name: object) -> Response:
        """Run the document of a request."""
        if not isinstance(query, str) or not query:
            raise invalid("query", "is required, as a text")
        if variables is not None and not isinstance(variables, dict):
            raise invalid("variables", "must be a JSON object")
        if name is not None and not isinstance(name, str):
            raise invalid("operationName", "must be a text")
        try:
            document = self._document(query)
            operation = get_operation_ast(document, name)
            if operation is not None:
                require_affordable(self.schema, document, operation, variables or {}, self.bounds)
        except GraphQLError as problem:
            return self._refused([problem])
        except _InvalidError as problem:
            return self._refused(problem.errors)
        running = execute(
            self.schema,
            document,
            context_value=self._context(visit),
            variable_values=variables,
            operation_name=name,
        )
        result = await running if inspect.isawaitable(running) else running
        return self._told(result)

    def _document(self, query: str) -> DocumentNode:
        return self._kept(query) if len(query) <= KEPT_CHARS else self._prepared(query)

    def _prepared(self, query: str) -> DocumentNode:
        """Return a document that is known to be good."""
        bounds = self.bounds
        if len(query) > bounds.chars:
            raise TooComplexError(f"The document has more than {bounds.chars} characters; put values into variables.")
        document = parse(query, max_tokens=bounds.tokens, allow_empty_selection_sets=False)
        require_bounded(document, bounds)
        if errors := validate(self.schema, document, max_errors=MAX_ERRORS):
            raise _InvalidError(errors)
        return document

    def _refused(self, errors: Sequence[GraphQLError]) -> Response:
        """Tell why a document was not run."""
        problems = [problem_at(error, self.name) for error in errors]
        entries = [self._entry(error, problem) for error, problem in zip(errors, problems, strict=True)]
        return answered({"errors": entries}, self._refused_status, *problems)

    def _told(self, result: ExecutionResult) -> Response:
        if not result.errors:
            return answered({"data": result.data}, 200)
        problems = [problem_at(error, f"{self.name} {error.path}") for error in result.errors]
        entries = [self._entry(error, problem) for error, problem in zip(result.errors, problems, strict=True)]
        if not any(error.path for error in result.errors):
            return answered({"errors": entries}, self._refused_status, *problems)  # Nothing was run.
        worst = max(problem.status for problem in problems)
        came_to_nothing = not any(value is not None for value in (result.data or {}).values())
        status = worst if worst >= FAULT and came_to_nothing else 200
        return answered({"data": result.data, "errors": entries}, status, *problems)

    def _entry(self, error: GraphQLError, problem: Problem) -> dict[str, Any]:
        entry = dict(self._wording(problem))
        if error.locations:
            entry["locations"] = [{"line": one.line, "column": one.column} for one in error.locations]
        if error.path:
            entry["path"] = error.path
        return entry


class _InvalidError(Exception):
    """A document that the schema has no answer to."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__()
        self.errors = [
            GraphQLError(one.message, one.nodes, positions=one.positions, extensions={"code": VALIDATION_FAILED})
            for one in errors
        ]


def _guarded(field: Field) -> Callable[..., Any]:
    """Return a resolver that asks for the scope of its RPC first."""

    def resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:  # noqa: ANN401 - as the library's own
        info.context.visit.require(field.rpc)
        return field.resolve(source, info, **arguments)

    return resolve


def routes_of(graph: Graph, path: str, source: str) -> tuple[Route, ...]:
    """Return the routes of a schema: its documents by POST, and itself by GET."""

    async def run(visit: Visit) -> Response:
        """Run a GraphQL document."""
        given = await visit.json()
        return await graph.answer(visit, given.get("query"), given.get("variables"), given.get("operationName"))

    async def schema(_visit: Visit) -> Response:
        """Return the schema in GraphQL's own language."""
        return PlainTextResponse(graph.sdl)

    body = {"query*": "string", "variables": "object", "operationName": "string"}
    return (
        Route("POST", path, ANY_KEY, run, source, body=body, fields=graph.rpcs),
        Route("GET", f"{path}/schema", ANY_KEY, schema, source),
    )


def selected(info: GraphQLResolveInfo[Any]) -> set[str]:
    """Return the names of the fields that are selected below a field, to see whether it must be looked up at all."""
    names: set[str] = set()
    waiting = [node.selection_set for node in info.field_nodes]
    while waiting:
        among: SelectionSetNode | None = waiting.pop()
        for selection in among.selections if among else ():
            if isinstance(selection, FieldNode):
                names.add(selection.name.value)
            elif isinstance(selection, InlineFragmentNode):
                waiting.append(selection.selection_set)
            elif isinstance(selection, FragmentSpreadNode):
                waiting.append(info.fragments[selection.name.value].selection_set)
    return names
