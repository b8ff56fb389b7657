"""Random clauses as clients write them: typed, but with untyped literals, parameters and implicit casts.

Operators and functions are drawn from `pg_catalog`, including those that are not supported, so that refusals
are counted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.oracle.where_values import EDGES, odd_form, random_value

from pgshapes.where.pg_catalog import FUNCTIONS, OPERATORS, TYPES, TYPES_BY_NAME, Function, Operator

COLUMNS: dict[str, list[str]] = {
    "int2": ["i2"],
    "int4": ["i4", "j4"],
    "int8": ["i8"],
    "numeric": ["n", "n2"],
    "float4": ["f4"],
    "float8": ["f8"],
    "bool": ["b", "b2"],
    "text": ["t", "t2"],
    "varchar": ["v"],
    "bpchar": ["bp"],
    "uuid": ["u"],
    "date": ["d", "d2"],
    "time": ["tm"],
    "timestamp": ["ts"],
    "timestamptz": ["tz"],
    "interval": ["iv"],
    "bytea": ["by"],
    "jsonb": ["js"],
    "mood": ["mood", "mood2"],
    "age": ["age"],
    "_int4": ["ia", "ia2"],
    "_text": ["ta"],
    "_numeric": ["na"],
    "_bool": ["ba"],
}
_COMPARED = [kind for kind in COLUMNS if kind not in ("mood", "age")]
_POLYMORPHIC = {
    2277: ["_int4", "_text", "_numeric"],
    5078: ["_int4", "_text", "_numeric"],
    3500: ["mood"],
    2283: ["int4"],
}
_ELEMENTS = {"_int4": "int4", "_text": "text", "_numeric": "numeric", "_bool": "bool"}
_CAST_TARGETS = [kind for kind in EDGES if kind not in ("mood", "age", "name")]


_SYNTAX = {
    "text": (
        ['{0} COLLATE "C"', "trim(both {1} from {0})", "trim({0})", "trim(leading from {0})", "({0} || {1})"],
        "text",
        "text",
    ),
    "varchar": (['({0} COLLATE "POSIX")'], "varchar", "text"),
    "int4": (["position({1} in {0})", "char_length({0})"], "text", "text"),
    "timestamp": (["({0} AT TIME ZONE 'UTC')", "({0} AT TIME ZONE '+05:30')"], "timestamptz", "text"),
    "timestamptz": (["({0} AT TIME ZONE 'gmt')", "({0} AT TIME ZONE '-02')"], "timestamp", "text"),
    "interval": (["({0} - {0})", "(INTERVAL '1 day' + {1})", "({1} * 1.5)"], "timestamp", "interval"),
    "date": (["({0})::date", "(DATE '2024-02-29' + {1})"], "timestamp", "int4"),
}
"""Per type: forms, and the types of their two operands."""


def _producers() -> dict[str, list[Operator | Function]]:
    """The operators and functions with a result of a type, and operands of the types that the table has."""
    found: dict[str, list[Operator | Function]] = {}
    every: list[Operator | Function] = [one for named in OPERATORS.values() for one in named]
    every += [one for named in FUNCTIONS.values() for one in named]
    for one in every:
        result = TYPES.get(one.result)
        if result is not None and result.name in COLUMNS and all(map(_operand_types, one.arguments)):
            found.setdefault(result.name, []).append(one)
    return found


def _operand_types(oid: int) -> list[str]:
    if oid in _POLYMORPHIC:
        return _POLYMORPHIC[oid]
    if oid in (2276, 2776, 5077):
        return ["int4", "text"]
    kind = TYPES.get(oid)
    return [kind.name] if kind is not None and kind.name in COLUMNS else []


_PRODUCERS = _producers()


@dataclass
class GeneratedClause:
    """A clause, its parameters, and the kinds of its nodes."""

    text: str
    params: list[str]
    kinds: set[str] = field(default_factory=set)


class ClauseWriter:
    """Writes one clause."""

    def __init__(self, pick: random.Random) -> None:
        self.pick = pick
        self.params: list[str] = []
        self.kinds: set[str] = set()

    def write(self) -> GeneratedClause:
        """A boolean clause."""
        text = self.boolean(self.pick.choice((1, 2, 2, 3, 3, 4)))
        return GeneratedClause(text, self.params, self.kinds)

    def boolean(self, depth: int) -> str:
        """A boolean expression."""
        forms = [self._comparison] * 6 + [
            self._in_list,
            self._between,
            self._like,
            self._null_test,
            self._any,
        ]
        if depth > 1:
            forms += [self._logic] * 4 + [self._not, self._truth_test, self._distinct, self._produced_bool]
            forms += [self._case_bool, self._all]
        return self.pick.choice(forms)(depth)

    def _kind(self, name: str) -> None:
        self.kinds.add(name)

    def value(self, kind: str, depth: int) -> str:
        """An expression of a type, or one that Postgres coerces to it."""
        roll = self.pick.random()
        if depth <= 0 or roll < 0.45:
            return self.pick.choice(COLUMNS[kind]) if self.pick.random() < 0.6 else self.literal(kind)
        forms = [
            self._produced,
            self._produced,
            self._cast,
            self._coalesce,
            self._case,
            self._extreme,
            self._null_if,
        ]
        if kind in _ELEMENTS:
            forms += [self._array, self._array, self._slice]
        elif f"_{kind}" in COLUMNS:
            forms.append(self._element)
        if kind in _SYNTAX:
            forms.append(self._syntax)
        return self.pick.choice(forms)(kind, depth - 1)

    def literal(self, kind: str) -> str:
        """A constant: typed, untyped, or a parameter."""
        if self.pick.random() < 0.08:
            return "NULL"
        text = random_value(self.pick, kind)
        if self.pick.random() < 0.12:
            text = odd_form(self.pick, kind, text)
        roll = self.pick.random()
        if roll < 0.15 and len(self.params) < 9:
            self._kind("parameter")
            self.params.append(text)
            return f"${len(self.params)}"
        quoted = "'" + text.replace("'", "''") + "'"
        if kind in ("int4", "int8", "numeric") and roll < 0.5 and text.lstrip("-").replace(".", "").isdigit():
            return text
        if kind in ("mood", "age") or roll < 0.6:
            return quoted
        name = kind[1:] + "[]" if kind in _ELEMENTS else kind
        return f"{quoted}::{name}"

    def _comparison(self, depth: int) -> str:
        kind = self.pick.choice(list(COLUMNS))
        sign = self.pick.choice(["=", "=", "<>", "<", ">", "<=", ">="])
        self._kind(f"operator {sign}")
        other = kind
        if self.pick.random() < 0.15:
            other = self.pick.choice(_COMPARED)
        left, right = self.value(kind, depth - 1), self.value(other, depth - 1)
        return f"({left} {sign} {right})"

    def _logic(self, depth: int) -> str:
        word = self.pick.choice([" AND ", " OR "])
        self._kind(word.strip())
        return "(" + word.join(self.boolean(depth - 1) for _ in range(self.pick.randint(2, 3))) + ")"

    def _not(self, depth: int) -> str:
        self._kind("NOT")
        return f"(NOT {self.boolean(depth - 1)})"

    def _truth_test(self, depth: int) -> str:
        self._kind("IS TRUE")
        word = self.pick.choice(["TRUE", "FALSE", "UNKNOWN", "NOT TRUE", "NOT FALSE", "NOT UNKNOWN"])
        return f"({self.boolean(depth - 1)} IS {word})"

    def _null_test(self, depth: int) -> str:
        self._kind("IS NULL")
        kind = self.pick.choice(list(COLUMNS))
        return f"({self.value(kind, depth - 1)} IS {self.pick.choice(['', 'NOT '])}NULL)"

    def _distinct(self, depth: int) -> str:
        self._kind("IS DISTINCT FROM")
        kind = self.pick.choice(list(COLUMNS))
        left, right = self.value(kind, depth - 1), self.value(kind, depth - 1)
        return f"({left} IS {self.pick.choice(['', 'NOT '])}DISTINCT FROM {right})"

    def _in_list(self, depth: int) -> str:
        self._kind("IN")
        kind = self.pick.choice(list(COLUMNS))
        items = [self.literal(kind) for _ in range(self.pick.randint(1, 4))]
        if self.pick.random() < 0.2:
            items.append(self.value(kind, depth - 1))
        return f"({self.value(kind, depth - 1)} {self.pick.choice(['', 'NOT '])}IN ({', '.join(items)}))"

    def _between(self, depth: int) -> str:
        self._kind("BETWEEN")
        kind = self.pick.choice([kind for kind in _COMPARED if kind not in _ELEMENTS])
        word = self.pick.choice(["BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"])
        low, high = self.literal(kind), self.value(kind, 0)
        return f"({self.value(kind, depth - 1)} {word} {low} AND {high})"

    def _like(self, depth: int) -> str:
        kind = self.pick.choice(["text", "varchar", "bpchar"])
        word = self.pick.choice(["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"])
        self._kind(word)
        pattern = self.value("text", 0) if self.pick.random() < 0.2 else self._pattern()
        if self.pick.random() < 0.1:
            self._kind("ESCAPE")
            pattern += f" ESCAPE {self.pick.choice(['#', 'a', '', '%', 'ab'])!r}"
        return f"({self.value(kind, depth - 1)} {word} {pattern})"

    def _pattern(self) -> str:
        parts = ["%", "%", "_", "a", "A", "b", "é", "É", "Σ", "o", "F", " ", "\\%", "\\_", "\\\\", "K"]
        if self.pick.random() < 0.05:
            parts.append("\\")
        text = "".join(self.pick.choice(parts) for _ in range(self.pick.randint(0, 6)))
        return "'" + text + "'"

    def _any(self, depth: int) -> str:
        return self._quantified("ANY", depth)

    def _all(self, depth: int) -> str:
        return self._quantified("ALL", depth)

    def _quantified(self, word: str, depth: int) -> str:
        self._kind(word)
        array = self.pick.choice(list(_ELEMENTS))
        sign = self.pick.choice(["=", "=", "<>", "<", ">="])
        return f"({self.value(_ELEMENTS[array], depth - 1)} {sign} {word} ({self.value(array, depth - 1)}))"

    def _produced_bool(self, depth: int) -> str:
        return self._produced("bool", depth - 1)

    def _case_bool(self, depth: int) -> str:
        return self._case("bool", depth - 1)

    def _produced(self, kind: str, depth: int) -> str:
        producers = _PRODUCERS.get(kind)
        if not producers:
            return self.value(kind, 0)
        one = self.pick.choice(producers)
        operands = self._operands(one, depth - 1)
        if isinstance(one, Operator):
            self._kind(f"operator {one.name}")
            return (
                f"({one.name} {operands[0]})" if not one.left else f"({operands[0]} {one.name} {operands[1]})"
            )
        self._kind(f"function {one.name}")
        return f"{one.name}({', '.join(operands)})"

    def _operands(self, one: Operator | Function, depth: int) -> list[str]:
        """Operands of the declared types; a polymorphic type is the same for all of them."""
        chosen: dict[int, str] = {}
        operands = []
        for oid in one.arguments:
            if one.name == "timezone" and oid == 25:
                operands.append(self.pick.choice(["'UTC'", "'+02'", "'-03:30'", "'GMT'", "'Europe/Berlin'"]))
                continue
            name = chosen.setdefault(oid, self.pick.choice(_operand_types(oid)))
            operands.append(self.value(name, depth))
        return operands

    def _cast(self, kind: str, depth: int) -> str:
        if kind in ("mood", "age"):
            return self.value(kind, 0)
        self._kind("cast")
        source = self.pick.choice(_CAST_TARGETS) if self.pick.random() < 0.7 else kind
        name = TYPES_BY_NAME[kind]
        shown = f"{name.element.name}[]" if name.element else name.name
        if self.pick.random() < 0.1:
            shown = {"numeric": "numeric(10,2)", "varchar": "varchar(2)", "bpchar": "char(3)"}.get(
                kind, shown
            )
        return f"({self.value(source, depth - 1)})::{shown}"

    def _syntax(self, kind: str, depth: int) -> str:
        """The forms that the grammar turns into function calls."""
        self._kind("function syntax")
        forms, first, other = _SYNTAX[kind]
        form = self.pick.choice(forms)
        filled = form.replace("{0}", self.value(first, depth - 1)) if "{0}" in form else form
        return filled.replace("{1}", self.value(other, depth - 1)) if "{1}" in form else filled

    def _coalesce(self, kind: str, depth: int) -> str:
        self._kind("COALESCE")
        return f"COALESCE({self.value(kind, depth - 1)}, {self.value(kind, depth - 1)})"

    def _extreme(self, kind: str, depth: int) -> str:
        self._kind("GREATEST")
        word = self.pick.choice(["GREATEST", "LEAST"])
        return f"{word}({self.value(kind, depth - 1)}, {self.value(kind, depth - 1)})"

    def _null_if(self, kind: str, depth: int) -> str:
        self._kind("NULLIF")
        return f"NULLIF({self.value(kind, depth - 1)}, {self.value(kind, 0)})"

    def _case(self, kind: str, depth: int) -> str:
        self._kind("CASE")
        if self.pick.random() < 0.3:
            of = self.pick.choice(_COMPARED)
            return (
                f"(CASE {self.value(of, 0)} WHEN {self.literal(of)} THEN {self.value(kind, depth - 1)}"
                f" ELSE {self.value(kind, 0)} END)"
            )
        condition = self.boolean(max(depth - 1, 1))
        return f"(CASE WHEN {condition} THEN {self.value(kind, depth - 1)} ELSE {self.value(kind, 0)} END)"

    def _array(self, kind: str, depth: int) -> str:
        self._kind("ARRAY")
        items = [self.value(_ELEMENTS[kind], depth - 1) for _ in range(self.pick.randint(1, 3))]
        shown = f"ARRAY[{', '.join(items)}]"
        return f"{shown}::{_ELEMENTS[kind]}[]" if self.pick.random() < 0.5 else shown

    def _slice(self, kind: str, depth: int) -> str:
        self._kind("slice")
        low = self.pick.choice(["", "1", "0", "2", "i4"])
        high = self.pick.choice(["", "1", "2", "3", "i2"])
        return f"({self.value(kind, depth - 1)})[{low}:{high}]"

    def _element(self, kind: str, depth: int) -> str:
        self._kind("subscript")
        more = "[1]" if self.pick.random() < 0.15 else ""
        return f"({self.value('_' + kind, depth - 1)})[{self.pick.choice(['1', '2', '0', 'i4', 'i8'])}]{more}"
