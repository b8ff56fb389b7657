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
    StreamAbort,
    StreamCommit,
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


def streamable(xid: st.SearchStrategy[int | None]) -> st.SearchStrategy[Message]:
    """Messages that may stand in a streamed block, where they carry `xid`."""
    identities = st.sampled_from(Identity)
    return st.one_of(
        st.builds(Insert, oids, rows, xid),
        st.builds(Update, oids, identities, rows, rows, xid),
        st.builds(Update, oids, st.none(), st.none(), rows, xid),
        st.builds(Delete, oids, identities, rows, xid),
        st.builds(Truncate, st.lists(oids, max_size=4).map(tuple), st.booleans(), st.booleans(), xid),
        st.builds(RelationMessage, oids, texts.filter(bool), texts, st.sampled_from("dnfi"),
                  st.lists(columns, max_size=4).map(tuple), xid),
        st.builds(TypeMessage, oids, texts.filter(bool), texts, xid),
        st.builds(LogicalMessage, st.booleans(), lsns, texts, st.binary(max_size=20), xid),
    )  # fmt: skip


plain_messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Begin, lsns, times, xids),
    st.builds(Commit, lsns, lsns, times),
    st.builds(Origin, lsns, texts),
    st.builds(StreamCommit, xids, lsns, lsns, times),
    st.builds(StreamAbort, xids, xids),
    streamable(st.none()),
)
streamed_messages = streamable(xids)
