"""Messages between this process and a worker: a JSON header, then raw arrays. No pickle.

Layout: 8 bytes length of the header (little endian), the header, then the bytes of each array in
the order in which the header describes them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from keras_lrp_prune.graph.plain import json_default

_LENGTH = struct.Struct("<Q")


class ConnectionLost(ConnectionError):
    """The other side is gone."""


def send(
    stream: IO[bytes], message: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes one message.

    Raises:
        ConnectionLost: If the other side is gone.
        TypeError: For an array of objects, or a message that is not JSON; nothing is written.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    for name, array in contiguous.items():
        if array.dtype.hasobject or array.dtype.names:
            raise TypeError(
                f"Array {name!r} has dtype {array.dtype}; only plain values can be sent."
            )
    header = json.dumps(
        {
            "message": message,
            "arrays": [
                {"name": name, "dtype": array.dtype.str, "shape": array.shape}
                for name, array in contiguous.items()
            ],
        },
        default=json_default,
    ).encode()
    try:
        stream.write(_LENGTH.pack(len(header)))
        stream.write(header)
        for array in contiguous.values():
            stream.write(array.reshape(-1).view(np.uint8).data)
        stream.flush()
    except (BrokenPipeError, ValueError) as error:
        raise ConnectionLost("the stream is closed") from error


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads one message.

    Raises:
        ConnectionLost: If the other side is gone.
    """
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    header = json.loads(_read(stream, length))
    arrays = {}
    for entry in header["arrays"]:
        dtype = np.dtype(entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        data = _read(stream, count * dtype.itemsize)
        arrays[entry["name"]] = np.frombuffer(data, dtype).reshape(entry["shape"])
    return header["message"], arrays


def _read(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise ConnectionLost("the stream ended in the middle of a message")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
