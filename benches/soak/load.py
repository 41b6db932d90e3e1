"""What clients do, good and bad ones, over and over until told to stop."""

import http.client
import json
import os
import pathlib
import random
import socket
import struct
import threading
import time

from signing import AUTHORITY, headers

ROWS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "it" / "faults" / "rows.json"
PATIENCE = 10
FRIENDS = "/friend/get_friend_list"


class Tally:
    """Counts what was asked and what went wrong, and what went wrong though nothing was broken."""

    def __init__(self):
        self._lock = threading.Lock()
        self.asked, self.failed = {}, {}
        self.in_calm = []
        self._calm = 0

    def begin_calm(self):
        with self._lock:
            self._calm = abs(self._calm) + 1

    def end_calm(self):
        with self._lock:
            self._calm = -abs(self._calm)

    def moment(self):
        return self._calm

    def note(self, kind, began, problem):
        """Counts one try that began at `began`; only if all of it lay in one calm is a problem a fault."""
        with self._lock:
            self.asked[kind] = self.asked.get(kind, 0) + 1
            if problem:
                self.failed[kind] = self.failed.get(kind, 0) + 1
                if began > 0 and began == self._calm:
                    self.in_calm.append(f"{kind}: {problem}")


class Load:
    """All clients; each is a thread that repeats one thing."""

    def __init__(self, stage):
        self._stage, self.tally, self._stop = stage, Tally(), threading.Event()
        self._threads = []

    def start(self):
        port, users = self._stage.port["gateway"], self._stage.users
        clients = [("rest", Rest(port, users), 0.01) for _ in range(6)]
        clients += [("upload", Upload(port), 0.1), ("upload", Upload(port), 0.1), ("bad", Bad(port), 0.02), ("bad", Bad(port), 0.02)]
        clients += [("socket", Socket(self._stage, user), 0.5) for user in users]
        for kind, client, pause in clients:
            thread = threading.Thread(target=self._repeat, args=(kind, client, pause), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=PATIENCE * 2)

    def _repeat(self, kind, client, pause):
        while not self._stop.wait(pause * random.uniform(0.5, 1.5)):
            began = self.tally.moment()
            try:
                problem = client.once()
            except (OSError, http.client.HTTPException, struct.error) as error:
                problem = f"{type(error).__name__} {error}"
            if problem:
                client.close()
            self.tally.note(kind, began, problem)
        client.close()


class Rest:
    """Signed requests on a connection that is kept."""

    def __init__(self, port, users):
        self._port, self._users, self._link = port, users, None

    def once(self):
        self._link = self._link or http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        user = random.choice(self._users)
        body = json.dumps({"userID": user.name, "pagination": {"pageNumber": 1, "showNumber": 10}})
        signed = headers(user.request(path=FRIENDS, body=body))
        self._link.request("POST", FRIENDS, body=body, headers=signed)
        answer = self._link.getresponse()
        text = answer.read()
        good = answer.status == 200 and b'"errCode":0' in text
        return None if good else f"{answer.status} {text[:100]!r}"

    def close(self):
        if self._link:
            self._link.close()
        self._link = None


class Upload(Rest):
    """Streams up, by length and in chunks, and down."""

    def __init__(self, port):
        super().__init__(port, [])
        self._turn = 0

    def once(self):
        self._link = self._link or http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        self._turn += 1
        piece = os.urandom(64 * 1024)
        fields = {"Host": AUTHORITY}
        if self._turn % 3 == 0:
            self._link.request("GET", "/files/down", headers=fields)
        elif self._turn % 3 == 1:
            self._link.request("PUT", "/files/up", body=piece * 8, headers=fields)
        else:
            chunks = (piece for _ in range(8))
            self._link.request("PUT", "/files/up", body=chunks, headers=fields | {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        answer = self._link.getresponse()
        answer.read()
        return None if answer.status == 200 else str(answer.status)


class Bad:
    """Sends the raw cases of rows.json; whatever comes back is fine, as long as something does in time."""

    def __init__(self, port):
        self._port = port
        rows = json.loads(ROWS.read_text())["rows"]
        self._cases = [case for row in rows for case in row.get("cases", []) if not case.get("slow")]

    def once(self):
        case = random.choice(self._cases)
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as link:
            try:
                for piece in case["send"]:
                    link.sendall(self._bytes(piece))
                if random.random() < 0.5:
                    link.shutdown(socket.SHUT_WR)
                    link.recv(1 << 16)
            except OSError:
                # A reset is an answer to these.
                pass
        return None

    @staticmethod
    def _bytes(piece):
        text = piece if isinstance(piece, str) else piece.get("repeat", "") * piece.get("times", 0)
        text = text.replace("$path", random.choice(["/login/x", "/files/x"])).replace("$signed", FRIENDS)
        return text.replace("$ws", "/ws?sendID=ann&token=garbage&platformID=2&operationID=op").encode("latin-1")

    def close(self):
        """Nothing is kept."""


class Socket:
    """A WebSocket that is kept and echoes now and then."""

    def __init__(self, stage, user):
        self._stage, self._user, self._link = stage, user, None

    def once(self):
        self._link = self._link or self._dial()
        payload = os.urandom(100)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._link.sendall(struct.pack("!BB", 0x82, 0x80 | len(payload)) + mask + masked)
        first, length = struct.unpack("!BB", self._read(2))
        return None if self._read(length) == payload else f"frame {first:02x} of {length} bytes"

    def _dial(self):
        target = f"/ws?sendID={self._user.name}&token={self._stage.token(self._user)}&platformID=2&operationID=op&isBackground=false"
        link = socket.create_connection(("127.0.0.1", self._stage.port["gateway"]), timeout=PATIENCE)
        head = f"GET {target} HTTP/1.1\r\nHost: {AUTHORITY}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        link.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            byte = link.recv(1)
            if not byte:
                raise ConnectionError("the handshake ended")
            answer += byte
        if b" 101 " not in answer.split(b"\r\n")[0]:
            link.close()
            raise ConnectionError(answer.split(b"\r\n")[0].decode())
        return link

    def _read(self, count):
        got = b""
        while len(got) < count:
            piece = self._link.recv(count - len(got))
            if not piece:
                raise ConnectionError("the socket ended")
            got += piece
        return got

    def close(self):
        if self._link:
            self._link.close()
        self._link = None


def wait_until_well(stage, seconds):
    """Waits until one client of each kind is served three times in a row; false if that never comes."""
    clients = [Rest(stage.port["gateway"], stage.users), Upload(stage.port["gateway"])]
    deadline, row = time.monotonic() + seconds, 0
    while row < 3 and time.monotonic() < deadline:
        try:
            problems = [client.once() for client in clients]
        except (OSError, http.client.HTTPException) as error:
            problems = [str(error)]
        row = 0 if any(problems) else row + 1
        if any(problems):
            for client in clients:
                client.close()
            time.sleep(0.1)
    for client in clients:
        client.close()
    return row == 3
