from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgshapes.shape_log.file_store.format import RowChunker

rows = st.lists(st.binary(max_size=12), max_size=40)


def _one_by_one(items: list[bytes], threshold: int) -> list[list[bytes]]:
    """The closed chunks and the open one."""
    chunks: list[list[bytes]] = [[]]
    size = 0
    for item in items:
        chunks[-1].append(item)
        size += len(item) + 1
        if size >= threshold:
            chunks.append([])
            size = 0
    return chunks


@given(st.lists(rows, max_size=6), st.integers(1, 60))
def test_chunks_do_not_depend_on_batches(batches: list[list[bytes]], threshold: int) -> None:
    chunker = RowChunker(threshold)
    chunks: list[list[bytes]] = [[]]
    for batch in batches:
        for run, closes_chunk in chunker.runs(batch):
            assert run
            chunks[-1] += run
            if closes_chunk:
                chunks.append([])
    assert chunks == _one_by_one([row for batch in batches for row in batch], threshold)


def test_a_row_counts_its_separator() -> None:
    assert list(RowChunker(4).runs([b"123"])) == [([b"123"], True)]
    assert list(RowChunker(5).runs([b"123"])) == [([b"123"], False)]


def test_the_row_that_reaches_the_threshold_is_in_the_chunk() -> None:
    assert list(RowChunker(5).runs([b"1", b"1", b"12345678", b"1"])) == [
        ([b"1", b"1", b"12345678"], True),
        ([b"1"], False),
    ]
