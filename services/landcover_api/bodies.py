"""Bodies of requests, refused before they are read as a whole when they are too large."""

from __future__ import annotations

from fastapi import Request

from landcover.errors import RequestTooLarge


async def read_body(request: Request, *, most_bytes: int, remedy: str) -> bytes:
    """The body.

    Raises:
        RequestTooLarge: it has more than `most_bytes`; the sentence ends in `remedy`.
    """
    told = request.headers.get("content-length", "")
    size = int(told) if told.isdecimal() else 0
    parts: list[bytes] = []
    if size <= most_bytes:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most_bytes:
                break
            parts.append(part)
    if size > most_bytes:
        raise RequestTooLarge(f"The body is larger than {most_bytes} bytes; {remedy}.")
    return b"".join(parts)
