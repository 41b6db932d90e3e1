#!/usr/bin/env python3
"""A sidecar that takes uploads and gives downloads, kept apart so that it can be killed. usage: sink.py PORT"""

import http.server
import sys

ENVELOPE = b'{"errCode":0,"errMsg":"","errDlt":""}'
DOWNLOAD = bytes(range(256)) * 1024


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        self._answer(DOWNLOAD)

    def do_PUT(self):
        if self.headers.get("Transfer-Encoding"):
            self._drop_chunks()
        else:
            self._drop(int(self.headers.get("Content-Length", "0")))
        self._answer(ENVELOPE)

    do_POST = do_PUT

    def _drop_chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            self._drop(size + 2)
        self.rfile.readline()

    def _drop(self, count):
        while count > 0:
            piece = self.rfile.read(min(count, 1 << 16))
            if not piece:
                raise ConnectionError("cut")
            count -= len(piece)

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""

    def handle(self):
        # What clients break off is what the soak is about.
        try:
            super().handle()
        except (OSError, ValueError):
            pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
