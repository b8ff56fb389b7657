"""The bytes between owner and callers: msgpack structs, each after its length. Pure.

Not a transport: bytes come in as arguments. Invariant: anything that is not a frame of this version raises
`WireError` and nothing else, so that the link can be closed and opened again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pgshapes.errors import PgShapesError, WireError
from pgshapes.tables.calls import Call, Reply
from pgshapes.tables.deltas import Rows

VERSION: Final = 3
"""Both ends are of one release; the number detects a process of another one."""
MAX_FRAME_BYTES: Final = 64 * 2**20
"""Four times the unsent bytes that a link may have: no frame that is sent is longer."""

_LENGTH: Final = struct.Struct("!I")


class Welcome(msgspec.Struct, tag="welcome", array_like=True, frozen=True):
    """Owner, as the first frame: its version and epoch."""

    version: int
    epoch: int


class StateBegin(msgspec.Struct, tag="begin", array_like=True, frozen=True):
    """Owner: the whole state follows in slices; the next `Deltas` will be `number + 1`."""

    number: int


class StateSlice(msgspec.Struct, tag="slice", array_like=True, frozen=True):
    """Owner: some of the whole state's rows. Deltas may come between slices."""

    rows: Rows


class StateEnd(msgspec.Struct, tag="end", array_like=True, frozen=True):
    """Owner: the state is complete; acknowledged like the delta frame of this number."""

    number: int


class Deltas(msgspec.Struct, tag="deltas", array_like=True, frozen=True):
    """Owner: the changes of one loop turn."""

    number: int
    rows: Rows


class Answer(msgspec.Struct, tag="answer", array_like=True, frozen=True):
    """Owner: a call's reply, sent after the deltas of everything that the call has written."""

    call_id: int
    reply: Reply


class Failure(msgspec.Struct, tag="failure", array_like=True, frozen=True):
    """Owner: a call's error, as its class's code and its attributes."""

    call_id: int
    code: str
    message: str
    attributes: dict[str, Any]


class Reached(msgspec.Struct, tag="reached", array_like=True, frozen=True):
    """Owner: everything written before the `Barrier` was read has been sent."""

    call_id: int


class Heartbeat(msgspec.Struct, tag="heartbeat", array_like=True, frozen=True):
    """Owner: at regular intervals, so that a caller notices when the owner is silent."""


class Subscribe(msgspec.Struct, tag="subscribe", array_like=True, frozen=True):
    """Caller: send the whole state, then every change."""


class CallFrame(msgspec.Struct, tag="call", array_like=True, frozen=True):
    """Caller: carry out a call before `deadline` (`time.monotonic`, which is one clock per machine)."""

    call_id: int
    deadline: float
    call: Call


class Cancel(msgspec.Struct, tag="cancel", array_like=True, frozen=True):
    """Caller: the answer to this call is not needed any more."""

    call_id: int


class Barrier(msgspec.Struct, tag="barrier", array_like=True, frozen=True):
    """Caller: answer with `Reached` when everything that is written so far has been sent."""

    call_id: int


class Acknowledge(msgspec.Struct, tag="acknowledge", array_like=True, frozen=True):
    """Caller: everything up to frame `number` is applied."""

    number: int


OwnerFrame = Welcome | StateBegin | StateSlice | StateEnd | Deltas | Answer | Failure | Reached | Heartbeat
CallerFrame = Subscribe | CallFrame | Cancel | Barrier | Acknowledge

_encoder: Final = msgspec.msgpack.Encoder()
_owner_decoder: Final[msgspec.msgpack.Decoder[OwnerFrame]] = msgspec.msgpack.Decoder(OwnerFrame)
_caller_decoder: Final[msgspec.msgpack.Decoder[CallerFrame]] = msgspec.msgpack.Decoder(CallerFrame)


def encode(frame: OwnerFrame | CallerFrame) -> bytes:
    """The frame with its length in front. Raises WireError if it is too long or cannot be encoded."""
    buffer = bytearray(_LENGTH.size)
    try:
        _encoder.encode_into(frame, buffer, _LENGTH.size)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"a {type(frame).__name__} cannot be encoded: {error!r}") from error
    size = len(buffer) - _LENGTH.size
    if size > MAX_FRAME_BYTES:
        raise WireError(f"a {type(frame).__name__} of {size} bytes", limit=MAX_FRAME_BYTES)
    _LENGTH.pack_into(buffer, 0, size)
    return bytes(buffer)


def encode_any_text(frame: OwnerFrame) -> bytes:
    """As `encode`; a text that is not valid Unicode, such as a file name in an error, gets escapes in it."""
    try:
        return encode(frame)
    except WireError as error:
        if not isinstance(error.__cause__, UnicodeEncodeError):
            raise
    return encode(_with_valid_texts(msgspec.to_builtins(frame, builtin_types=(bytes,))))


def _with_valid_texts(value: Any) -> Any:
    """The value, of built-in types, without lone surrogates."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_with_valid_texts(key): _with_valid_texts(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_valid_texts(each) for each in value]
    return value


def decode_owner_frame(payload: bytes) -> OwnerFrame:
    """Decode a frame from an owner. Raises WireError."""
    try:
        return _owner_decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise WireError(f"not an owner's frame: {error}") from error


def decode_caller_frame(payload: bytes) -> CallerFrame:
    """Decode a frame from a caller. Raises WireError."""
    try:
        return _caller_decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise WireError(f"not a caller's frame: {error}") from error


class FrameSplitter:
    """Splits a stream of bytes, received in pieces of any size, into the payloads of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are complete with `data`. Raises WireError for an impossible length."""
        self._buffer += data
        start = 0
        try:
            while (end := self._end_of_frame(start)) is not None:
                yield bytes(self._buffer[start + _LENGTH.size : end])
                start = end
        finally:
            del self._buffer[:start]

    def _end_of_frame(self, start: int) -> int | None:
        body = start + _LENGTH.size
        if len(self._buffer) < body:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if length > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {length} bytes", limit=MAX_FRAME_BYTES)
        return body + length if len(self._buffer) >= body + length else None


def failure_frame(call_id: int, error: PgShapesError) -> Failure:
    """The frame that carries an error."""
    return Failure(call_id, error.code, error.message, vars(error))


def restore_error(failure: Failure) -> PgShapesError:
    """The error that the owner raised, of the same class. Raises WireError for an unknown code."""
    kind = _error_classes().get(failure.code)
    if kind is None:
        raise WireError(f"unknown error code {failure.code!r}")
    error = kind.__new__(kind, failure.message)
    vars(error).update(failure.attributes, message=failure.message)
    return error


def _error_classes() -> dict[str, type[PgShapesError]]:
    classes, found = [PgShapesError], dict[str, type[PgShapesError]]()
    while classes:
        kind = classes.pop()
        found.setdefault(kind.code, kind)
        classes.extend(kind.__subclasses__())
    return found
