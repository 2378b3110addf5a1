"""What a GraphQL document may cost: nesting and selections before validation, objects and values before it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    get_variable_values,
    is_composite_type,
    visit,
)
from graphql.language import Visitor

from remora_server.gateway.graph_errors import TOO_COMPLEX

INTROSPECTION = ("__schema", "__type")
PAGES = "Connection"  # Types that end so hold a page of objects.
MAX_LEVELS = 100  # Of any kind, so that no document exhausts Python's stack.


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a door."""

    chars: int = 100_000
    tokens: int = 3000  # Clients of Linear need some 400.
    depth: int = 15
    introspection_depth: int = 25  # Tools that fetch a schema go deeper than anybody else.
    introspections: int = 2
    introspection_aliases: int = 5  # there each would hold a part of the schema once more, and tools have none
    selections: int = 1000  # each fragment counted as often as it is used
    repeats: int = 30  # of one name in one place: to merge them takes the square of their number
    aliases: int = 100
    directives: int = 50
    objects: int = 10_000
    values: int = 100_000  # fields of all objects: each takes its time, even one that is known already
    page: int = 50  # objects on a page whose size is not said


class TooComplexError(GraphQLError):
    """A document that asks for more than a door gives at once."""

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": TOO_COMPLEX})


def require_bounded(document: DocumentNode, bounds: Bounds) -> None:
    """Refuse a document that would take long to validate; it may hold anything, fragments of themselves even."""
    visit(document, _Counting(bounds))
    walk = _Walk(document, bounds)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            walk.enter(definition.selection_set, depth=1, level=1, within=frozenset(), is_introspection=False)


def require_affordable(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
    bounds: Bounds,
) -> None:
    """Refuse an operation of a valid document that could come to more than a door gives at once."""
    root = schema.get_root_type(operation.operation)
    coerced = get_variable_values(schema, operation.variable_definitions or (), dict(variables), max_errors=1)
    if root is None or isinstance(coerced, list):  # Then nothing is run, and who runs it tells why.
        return
    bill = _Bill(schema, document, coerced.coerced, bounds)
    bill.add(operation.selection_set, root, times=1)
    if bill.objects > bounds.objects:
        raise TooComplexError(f"The query may return more than {bounds.objects} objects; ask for smaller pages.")
    if bill.values > bounds.values:
        raise TooComplexError(
            f"The query may return more than {bounds.values} values; ask for smaller pages, or for fewer fields."
        )


def fragments_of(document: DocumentNode) -> Mapping[str, FragmentDefinitionNode]:
    """Return the fragments of a document by their names."""
    return {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}


class _Counting(Visitor):
    """Counts what is limited in the document as it is written."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self._bounds = bounds
        self._aliases = 0
        self._directives = 0

    def enter_field(self, node: FieldNode, *_: object) -> None:
        """Count an alias."""
        self._aliases += node.alias is not None
        if self._aliases > self._bounds.aliases:
            raise TooComplexError(f"The document has more than {self._bounds.aliases} aliases.")

    def enter_directive(self, *_: object) -> None:
        """Count a directive."""
        self._directives += 1
        if self._directives > self._bounds.directives:
            raise TooComplexError(f"The document has more than {self._bounds.directives} directives.")


class _Walk:
    """Counts what is limited in the document with its fragments put in."""

    def __init__(self, document: DocumentNode, bounds: Bounds) -> None:
        self._bounds = bounds
        self._fragments = fragments_of(document)
        self._selections = 0
        self._introspections = 0
        self._introspection_aliases = 0

    def enter(
        self, selected: SelectionSetNode, *, depth: int, level: int, within: frozenset[str], is_introspection: bool
    ) -> None:
        """Look at what is selected in one place, and further in."""
        bounds = self._bounds
        most = bounds.introspection_depth if is_introspection else bounds.depth
        if depth > most:
            raise TooComplexError(f"The document is nested deeper than {most} levels; ask for less at once.")
        names: Counter[str] = Counter()
        for field, inside, reached in self._fields(selected, level, within):
            name = field.alias.value if field.alias else field.name.value
            names[name] += 1
            if names[name] > bounds.repeats:
                raise TooComplexError(f"One field is selected more than {bounds.repeats} times in one place.")
            self._introspection_aliases += is_introspection and field.alias is not None
            if self._introspection_aliases > bounds.introspection_aliases:
                raise TooComplexError(
                    f"More than {bounds.introspection_aliases} aliases are in what asks for the schema."
                )
            asks_schema = field.name.value in INTROSPECTION
            self._introspections += asks_schema
            if self._introspections > bounds.introspections:
                raise TooComplexError(f"The schema is asked for more than {bounds.introspections} times.")
            if field.selection_set is not None:
                is_asking = is_introspection or asks_schema
                self.enter(
                    field.selection_set, depth=depth + 1, level=reached + 1, within=inside, is_introspection=is_asking
                )

    def _fields(
        self, selected: SelectionSetNode, level: int, within: frozenset[str]
    ) -> Iterator[tuple[FieldNode, frozenset[str], int]]:
        """Yield the fields, those of fragments too, each with the fragments that it is in, and how far in."""
        waiting = [(selected, level, within)]
        while waiting:
            among, reached, inside = waiting.pop()
            if reached > MAX_LEVELS:
                raise TooComplexError(f"The document is nested deeper than {MAX_LEVELS} levels; ask for less at once.")
            for selection in among.selections:
                self._selections += 1
                if self._selections > self._bounds.selections:
                    raise TooComplexError(f"The document selects more than {self._bounds.selections} fields.")
                if isinstance(selection, FieldNode):
                    yield selection, inside, reached
                elif isinstance(selection, InlineFragmentNode):
                    waiting.append((selection.selection_set, reached + 1, inside))
                elif isinstance(selection, FragmentSpreadNode):
                    name = selection.name.value
                    if name in inside:
                        raise TooComplexError(f"The fragment {name[:100]} is spread within itself.")
                    if name in self._fragments:
                        waiting.append((self._fragments[name].selection_set, reached + 1, inside | {name}))


class _Bill:
    """Counts what an operation can come to: objects and values, each as often as the pages around it can hold it."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any], bounds: Bounds
    ) -> None:
        """Take variables as the operation will have them: converted, and with its defaults."""
        self.objects = 0
        self.values = 0
        self._schema = schema
        self._fragments = fragments_of(document)
        self._variables = variables
        self._bounds = bounds

    def add(self, selected: SelectionSetNode, parent: Any, times: int) -> None:  # noqa: ANN401 - any composite type
        """Count what is selected of so many objects of type `parent`."""
        for selection in selected.selections:
            if isinstance(selection, FieldNode):
                self._add_field(selection, parent, times)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                kind = self._schema.type_map[condition.name.value] if condition else parent
                self.add(selection.selection_set, kind, times)
            elif isinstance(selection, FragmentSpreadNode):
                fragment = self._fragments[selection.name.value]
                self.add(fragment.selection_set, self._schema.type_map[fragment.type_condition.name.value], times)

    def _add_field(self, field: FieldNode, parent: Any, times: int) -> None:  # noqa: ANN401 - any composite type
        self.values += times
        defined = getattr(parent, "fields", {}).get(field.name.value)
        if defined is None or field.selection_set is None:  # What describes the schema has bounds of its own.
            return
        kind = cast("GraphQLObjectType", get_named_type(defined.type))
        assert is_composite_type(kind)  # noqa: S101 - else the document would not be valid
        self.objects += times
        self.add(field.selection_set, kind, times * self._page(field) if kind.name.endswith(PAGES) else times)

    def _page(self, field: FieldNode) -> int:
        for argument in field.arguments or ():
            value: object = None
            if argument.name.value in {"first", "last"}:
                if isinstance(argument.value, IntValueNode):
                    value = int(argument.value.value)
                elif isinstance(argument.value, VariableNode):
                    value = self._variables.get(argument.value.name.value)
            if isinstance(value, int):
                return max(1, value)
        return self._bounds.page
