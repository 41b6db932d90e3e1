"""An upstream that keeps every byte it was sent, and answers each request it understands to be whole."""

import re
import socket
import threading

BODY = b'{"errCode":0,"errMsg":"","errDlt":""}\n'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Upstream:
    """Serves on a free port of loopback for as long as the process lives."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._bytes, self._whole = b"", 0
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self):
        """What came since it was last taken: the bytes, and how many requests were whole."""
        with self._lock:
            taken = self._bytes, self._whole
            self._bytes, self._whole = b"", 0
            return taken

    def _accept(self):
        while True:
            link, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        pending = b""
        with link:
            while piece := _receive(link):
                pending += piece
                count = 0
                while length := _whole(pending):
                    pending = pending[length:]
                    count += 1
                with self._lock:
                    self._bytes += piece
                    self._whole += count
                try:
                    link.sendall(ANSWER * count)
                except OSError:
                    return


def _receive(link):
    try:
        return link.recv(1 << 16)
    except OSError:
        return b""


def _whole(pending):
    """The length of the request at the beginning; 0 if it is not whole. A proxy frames it anew, and plainly."""
    head = pending.find(b"\r\n\r\n") + 4
    if head < 4:
        return 0
    text = pending[:head].lower()
    if b"\r\ntransfer-encoding:" in text:
        # Trailers stand between the last chunk and the end, where a proxy lets any through.
        last = pending.find(b"\r\n0\r\n", head - 2)
        end = pending.find(b"\r\n\r\n", last + 3) if last >= 0 else -1
        return 0 if end < 0 else end + 4
    length = re.search(rb"\r\ncontent-length:\s*(\d+)\s*\r\n", text)
    total = head + (int(length.group(1)) if length else 0)
    return total if len(pending) >= total else 0
