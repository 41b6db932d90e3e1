"""What is compared, and how each is started."""

import dataclasses
import os
import pathlib

from processes import free_ports, nginx_worker
from signing import AUTHORITY, PATH, SEEN_PATH

PEERS = pathlib.Path(__file__).parent / "peers"
ANSWER = (
    '{"errCode":0,"errMsg":"","errDlt":"","data":{"serverMsgID":"2c3f8a7b9d1e4f60",'
    '"clientMsgID":"7f2d4c6b8a1e3f50","sendTime":1763689200123,"status":1,"isFilter":false,"userSeq":104457701822}}'
)

CACHED = "nginx-lua"
LABELS = {
    "nginx": "nginx, forward only",
    "pingora": "Pingora 0.9.1 bare, forward only",
    CACHED: "nginx + Lua, in-process cache",
    "nginx-lua-redis": "nginx + Lua, Redis every time",
    "imgate": "imgate, full user chain, cached",
}
VERIFYING = {CACHED, "nginx-lua-redis", "imgate"}


@dataclasses.dataclass(frozen=True)
class Target:
    """A proxy that listens."""

    name: str
    port: int
    pid: int
    access_log: pathlib.Path | None

    @property
    def label(self):
        return LABELS[self.name]

    @property
    def verifies(self):
        return self.name in VERIFYING


class Stage:
    """The folder, ports and processes that targets share: an upstream and a Redis."""

    def __init__(self, folder, processes):
        self._folder = pathlib.Path(folder)
        self._processes = processes
        self.upstream, self.redis = free_ports(2)

    def start_shared(self):
        """Starts the upstream and Redis; tells the pid of the upstream's worker."""
        upstream = self._nginx("upstream", "upstream.conf", self.upstream)
        argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis), "--dir", str(self._folder)]
        self._processes.start("redis", [*argv, "--save", "", "--appendonly", "no"], self.redis)
        return upstream

    def start(self, name, binaries):
        """Starts one target by its name in `LABELS`."""
        (port,) = free_ports(1)
        if name == "nginx":
            return Target(name, port, self._nginx(name, "forward.conf", port), None)
        if name == "pingora":
            argv = [binaries[name], f"127.0.0.1:{port}", f"127.0.0.1:{self.upstream}"]
            return Target(name, port, self._processes.start(name, argv, port), None)
        log = self._folder / f"{name}.access.log"
        if name == "imgate":
            config = self._write("imgate.yaml", name, port=port, log=log)
            argv = [binaries[name], "run", "--config", config]
            return Target(name, port, self._processes.start(name, argv, port), log)
        cache = "true" if name == CACHED else "false"
        return Target(name, port, self._nginx(name, "auth.conf", port, cache=cache), log)

    def _nginx(self, name, template, port, **values):
        config = self._write(template, name, port=port, **values)
        return nginx_worker(self._processes.start(name, ["nginx", "-c", config, "-e", f"{name}.err"], port))

    def _write(self, template, name, **values):
        values |= {
            "name": name,
            "dir": self._folder,
            "peers": PEERS,
            "upstream": self.upstream,
            "redis": self.redis,
            "authority": AUTHORITY,
            "answer": ANSWER,
            "path": PATH,
            "seen": SEEN_PATH,
            # Otherwise root's nginx would drop to a user that cannot read the folder.
            "user": "user root;" if os.geteuid() == 0 else "",
        }
        text = (PEERS / template).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        path = self._folder / f"{name}{pathlib.Path(template).suffix}"
        path.write_text(text)
        return str(path)
