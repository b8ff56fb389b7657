"""Every rule for a subset's parameters that does not need the system catalogs."""

from __future__ import annotations

from typing import Any

import pytest

from pgshapes.errors import RequestError
from pgshapes.http_api.subset_params import parse_subset
from pgshapes.model.shape import Subset

ORDERED = {"order_by": "id ASC"}


@pytest.mark.parametrize(
    ("given", "subset"),
    [
        ({}, Subset()),
        ({"unknown": "x"}, Subset()),
        ({"where": "a = 1", "order_by": "a"}, Subset(where="a = 1", order_by="a")),
        ({"limit": "10", "offset": "0"} | ORDERED, Subset(order_by="id ASC", limit=10, offset=0)),
        ({"limit": 10} | ORDERED, Subset(order_by="id ASC", limit=10)),
        ({"params": '{"2":"y","1":"x"}'}, Subset(params=(("1", "x"), ("2", "y")))),
        ({"params": {"1": 5, "2": True, "3": 1.5, "4": None}}, None),
        ({"params": ""}, Subset()),
    ],
)
def test_subsets(given: Any, subset: Subset | None) -> None:
    expected = subset or Subset(params=(("1", "5"), ("2", "true"), ("3", "1.5"), ("4", "")))
    assert parse_subset(given) == expected


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ("text", ["is invalid"]),
        ([], ["is invalid"]),
        ({"limit": "0"} | ORDERED, {"limit": ["must be greater than 0"]}),
        ({"limit": -1} | ORDERED, {"limit": ["must be greater than 0"]}),
        ({"limit": "x"} | ORDERED, {"limit": ["is invalid"]}),
        ({"limit": 1.5} | ORDERED, {"limit": ["is invalid"]}),
        ({"limit": True} | ORDERED, {"limit": ["is invalid"]}),
        ({"limit": "9" * 30} | ORDERED, {"limit": ["is invalid"]}),
        ({"offset": "-1"} | ORDERED, {"offset": ["must be greater than or equal to 0"]}),
        ({"limit": "1"}, {"order_by": ["order_by is required when limit or offset is present"]}),
        ({"offset": "1"}, {"order_by": ["order_by is required when limit or offset is present"]}),
        ({"params": "{"}, {"params": ["params must be valid JSON"]}),
        ({"params": "[]"}, {"params": ["params must be a JSON object"]}),
        ({"params": 5}, {"params": ["is invalid"]}),
        ({"params": {"1": []}}, {"params": ["is invalid"]}),
        ({"where": 5}, {"where": ["is invalid"]}),
        ({"where": 5, "order_by": 5}, {"where": ["is invalid"], "order_by": ["is invalid"]}),
    ],
)
def test_refusals_are_nested(given: Any, errors: Any) -> None:
    with pytest.raises(RequestError) as refused:
        parse_subset(given)
    assert refused.value.errors == {"subset": errors}
