"""Secrets are replaced in every form in which a text may contain them."""

from __future__ import annotations

import pytest

from pgshapes.redaction import Redaction


def redacted(text: str, *secrets: str) -> str:
    redaction = Redaction()
    redaction.hide(secrets)
    return redaction.redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x p@ss/word x", "x *** x"),
        ("postgresql://u:p%40ss%2Fword@h", "postgresql://u:***@h"),
        ("p@ss/wordp@ss/word", "******"),
        ("p@ss", "p@ss"),
    ],
)
def test_a_secret_is_replaced_also_percent_encoded(text: str, shown: str) -> None:
    assert redacted(text, "p@ss/word") == shown


def test_a_secret_is_replaced_as_repr_shows_it() -> None:
    secret = "back\\slash\nnew line"
    assert redacted(repr({"x": secret}), secret) == "{'x': '***'}"


def test_a_longer_secret_goes_first() -> None:
    assert redacted("secret1 secret1234", "secret1", "secret1234") == "*** ***"


def test_ordinary_words_stay() -> None:
    text = "password authentication failed for user app in postgres: applications"
    assert redacted(text, "password", "postgres", "app", "applic", "") == text


def test_nothing_is_hidden_at_first() -> None:
    assert Redaction().redact("anything") == "anything"
