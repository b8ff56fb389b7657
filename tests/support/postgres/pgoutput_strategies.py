"""Any message that pgoutput may send, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from pgshapes.postgres.pgoutput_messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Identity,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    RelationColumn,
    RelationMessage,
    Truncate,
    TypeMessage,
    Update,
)

oids = st.integers(0, 2**32 - 1)
xids = st.integers(0, 2**32 - 1)
lsns = st.integers(0, 2**64 - 1)
times = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
rows = st.lists(st.one_of(texts, st.none(), st.just(UNCHANGED)), max_size=6).map(tuple)
columns = st.builds(RelationColumn, texts, oids, st.integers(-(2**31), 2**31 - 1), st.booleans())


identities = st.sampled_from(Identity)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Begin, lsns, times, xids),
    st.builds(Commit, lsns, lsns, times),
    st.builds(Origin, lsns, texts),
    st.builds(Insert, oids, rows),
    st.builds(Update, oids, identities, rows, rows),
    st.builds(Update, oids, st.none(), st.none(), rows),
    st.builds(Delete, oids, identities, rows),
    st.builds(Truncate, st.lists(oids, max_size=4).map(tuple), st.booleans(), st.booleans()),
    st.builds(RelationMessage, oids, texts.filter(bool), texts, st.sampled_from("dnfi"),
              st.lists(columns, max_size=4, unique_by=lambda one: one.name).map(tuple)),
    st.builds(TypeMessage, oids, texts.filter(bool), texts),
    st.builds(LogicalMessage, st.booleans(), lsns, texts, st.binary(max_size=20)),
)  # fmt: skip
