"""The gateway and its peers as processes that can be killed and started again, and the users they know."""

import base64
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from processes import StartError, free_ports
from signing import User

HERE = pathlib.Path(__file__).resolve().parent
START_SECONDS = 20
PLATFORM = 2
# OpenIM's own default, which the stand-in has, too.
OPENIM_SECRET = "openIM123"

CONFIG = """
listeners: [{{ address: "127.0.0.1:{gateway}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
public_url: https://im.example.com
access_log: {{ output: {{ file: /dev/null }} }}
limits: {{ request_timeout: 3s }}
identity:
  store: {{ redis: {{ url: "redis://127.0.0.1:{redis}", timeout: 500ms }} }}
  admin_users: [imAdmin]
upstreams:
  openim_api: {{ servers: ["127.0.0.1:{api}"], connect_timeout: 1s, idle_timeout: 2s }}
  openim_ws: {{ servers: ["127.0.0.1:{ws}"], connect_timeout: 1s }}
  backend: {{ servers: ["127.0.0.1:{sink}"], connect_timeout: 1s, idle_timeout: 2s }}
chains:
  user: [{{ operation_id: {{}} }}, {{ verify_signature: {{}} }}, {{ bind_identity: {{}} }}, {{ resolve_token: {{}} }}, {{ strip_credentials: {{}} }}, {{ inject_token: {{}} }}]
  socket: [{{ operation_id: {{}} }}, {{ verify_socket: {{ mode: passthrough }} }}]
  open: [{{ operation_id: {{}} }}, {{ strip_credentials: {{}} }}]
routes:
  - {{ path: /ws, websocket: openim_ws, chain: socket }}
  - {{ table: {table}, upstream: openim_api, chain: user }}
  - {{ prefix: /login/, upstream: backend, chain: open, public: true }}
  - {{ prefix: /files/, upstream: backend, chain: open, public: true, stream: true, max_body: 8MiB }}
{more}
"""

# What a reload adds and takes away.
MORE = "  - { path: /extra, upstream: backend, chain: open, public: true }"


class Stage:
    """All processes; a context that ends them."""

    def __init__(self, folder, imgate, standin):
        self._folder, self._imgate, self._standin = pathlib.Path(folder), imgate, standin
        names = ["gateway", "admin", "redis", "api", "ws", "sink"]
        self.port = dict(zip(names, free_ports(len(names)), strict=True))
        self._running = {}
        self.users = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in list(self._running):
            self.kill(name)

    def start_all(self, count):
        """Starts everything, with so many users who have a session and a token each."""
        self.configure(extra=False)
        (self._folder / "openim.secret").write_text(OPENIM_SECRET)
        names = [f"user_{number}" for number in range(count)]
        for name in ["redis", "sink"]:
            self.start(name)
        self.start("openim", [word for name in names for word in ("--user", name)])
        self.users = [self._create(name) for name in names]
        self.mint()
        self.command("store", "mark")
        self.start("gateway")

    def configure(self, extra):
        """Writes the configuration, with a route more or without it."""
        table = HERE.parent.parent / "conf" / "openim-user.yaml"
        text = CONFIG.format(**self.port, table=table, more=MORE if extra else "")
        (self._folder / "imgate.yaml").write_text(text)

    def start(self, name, more=()):
        argv, port = self._command_line(name)
        with open(self._folder / f"{name}.log", "ab") as out:
            process = subprocess.Popen(
                [*argv, *more], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._folder, start_new_session=True
            )
        self._running[name] = process
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"{name} did not start:\n{(self._folder / f'{name}.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _command_line(self, name):
        port = self.port
        return {
            "redis": (["redis-server", "--port", str(port["redis"]), "--save", "", "--appendonly", "no", "--dir", str(self._folder)], port["redis"]),
            "openim": ([self._standin, "--api", f"127.0.0.1:{port['api']}", "--ws", f"127.0.0.1:{port['ws']}"], port["api"]),
            "sink": ([sys.executable, str(HERE / "sink.py"), str(port["sink"])], port["sink"]),
            "gateway": ([self._imgate, "run", "-c", "imgate.yaml"], port["gateway"]),
        }[name]

    def kill(self, name):
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def pid(self, name):
        process = self._running[name]
        if process.poll() is not None:
            raise StartError(f"{name} ended by itself with {process.returncode}")
        return process.pid

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    def reload(self):
        self.signal("gateway", signal.SIGHUP)

    def command(self, *words):
        """Runs `imgate` and gives what it says."""
        argv = [self._imgate, *words, "-c", "imgate.yaml"]
        ran = subprocess.run(argv, cwd=self._folder, capture_output=True, text=True, timeout=60, check=False)
        if ran.returncode:
            raise StartError(f"imgate {words[0]} {words[1]}: {ran.stderr}")
        return ran.stdout

    def _create(self, name):
        told = json.loads(self.command("session", "create", "--user", name, "--platform", str(PLATFORM)))
        return User(name, told["session_id"], base64.b64decode(told["secret"]), "")

    def mint(self):
        """Gets every user a token from the OpenIM that runs now."""
        for user in self.users:
            self.command("token", "mint", "--user", user.name, "--platform", str(PLATFORM), "--admin-secret-file", "openim.secret")

    def token(self, user):
        """The user's token in Redis."""
        return self.redis("GET", f"im:token:{user.name}")

    def redis(self, *words):
        """Runs a command that has a short reply."""
        command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port["redis"]), timeout=5) as link:
            link.sendall(command.encode())
            reply = link.makefile("rb")
            first = reply.readline().decode().strip()
            return reply.read(int(first[1:])).decode() if first.startswith("$") else first[1:]

    def restart_openim(self):
        self.kill("openim")
        time.sleep(1)
        self.start("openim", [word for user in self.users for word in ("--user", user.name)])
        self.mint()


def _listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0
