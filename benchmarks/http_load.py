"""``python -m benchmarks.http_load URL BODY CONCURRENCY SECONDS``: how many requests are answered?

Each of CONCURRENCY connections is kept open and sends the same POST as soon as the answer to the
one before is there. Written on bare sockets, since a client that costs more than the server would
measure itself. Prints ``{"seconds": …, "latencies": […], "answer": …}``; a response
other than 200 is an error. The first tenth of the time warms up.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ANSWER_SECONDS = 30.0
_MOST_REQUESTS = 200_000


class Client:
    """All connections together."""

    def __init__(self, url: str, body: str, seconds: float) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        data = body.encode()
        self.request = (
            f"POST {parts.path}/ HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode() + data
        self.counted_from = time.perf_counter() + seconds / 10
        self.until = time.perf_counter() + seconds * 1.1
        self.latencies: list[float] = []
        self.answer = b""

    async def run(self, concurrency: int) -> None:
        """Send until the time is over."""
        await asyncio.gather(*(self._connection() for _ in range(concurrency)))

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            while time.perf_counter() < self.until and len(self.latencies) < _MOST_REQUESTS:
                await asyncio.wait_for(self._one(reader, writer), _ANSWER_SECONDS)
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None:
            raise RuntimeError(f"a response without content-length: {head!r}")
        body = await reader.readexactly(int(length[1]))
        ended = time.perf_counter()
        if head.split(b" ", 2)[1] != b"200":
            raise RuntimeError(f"{head.splitlines()[0]!r}: {body[:300]!r}")
        self.answer = body
        if began >= self.counted_from and ended <= self.until:
            self.latencies.append(ended - began)


def main() -> None:
    """Send, then print."""
    url, body, concurrency, seconds = sys.argv[1:]
    client = Client(url, body, float(seconds))
    asyncio.run(client.run(int(concurrency)))
    report = {
        "seconds": client.until - client.counted_from,
        "latencies": client.latencies,
        "answer": json.loads(client.answer),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
