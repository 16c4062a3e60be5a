"""HTTP answers of a bounded size, in bounded time, whatever a server sends.

The timeout of `requests` is for one read. A server that sends a byte now and then, or does not
stop, keeps it reading: in the headers, the body, the chunks, or after them. The limits here are on
the bytes of the socket, so they cover all of these.
"""

import http.client
import io
import time
from functools import cache

import requests

SECONDS = 60  # for an answer, from its first line to its end
MOST_BYTES = 2**20  # of an answer, its headers included


class BoundedStream(io.RawIOBase):
    """The bytes of a socket, up to MOST_BYTES and for SECONDS."""

    def __init__(self, stream, sock):
        self.stream = stream
        self.sock = sock
        self.pause = sock.gettimeout()  # seconds without a byte
        self.end = time.monotonic() + SECONDS
        self.left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the answer takes too long")
        self.sock.settimeout(min(seconds, self.pause))
        count = self.stream.readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise OSError("the answer is too large")
        return count

    def close(self) -> None:
        self.stream.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer, of the server or of a proxy before it, that is read from a BoundedStream."""

    def __init__(self, sock, *more, **options):
        super().__init__(sock, *more, **options)
        self.fp = io.BufferedReader(BoundedStream(self.fp.detach(), sock))


class BoundedAdapter(requests.adapters.HTTPAdapter):
    """Sends requests as `requests` does, and bounds the answers."""

    def get_connection_with_tls_context(self, *request, **options):
        pool = super().get_connection_with_tls_context(*request, **options)
        pool.ConnectionCls = bounded(type(pool).ConnectionCls)
        return pool


@cache
def bounded(connection: type) -> type:
    """The same kind of connection, with bounded answers."""

    class Bounded(connection):
        response_class = BoundedResponse

    return Bounded
