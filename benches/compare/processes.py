"""Processes that the comparison starts, ended by pid whatever happens."""

import os
import pathlib
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 10


class StartError(Exception):
    """A process did not come up."""


def free_ports(count):
    """Ports that nobody listens on; all are held until all are chosen, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Processes:
    """A context that ends, last first, what was started in it."""

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self._started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._started):
            # Pingora drains for minutes on SIGTERM; all of them leave at once on SIGINT.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name, argv, port):
        """Starts a server and waits until it listens on `port`."""
        log = self._folder / f"{name}.out"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._folder, start_new_session=True
            )
        self._started.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"{name} does not listen on {port}:\n{self._last_words(name)}")
            time.sleep(0.02)
        return process.pid

    def _last_words(self, name):
        texts = [path.read_text(errors="replace") for path in sorted(self._folder.glob(f"{name}.[oe]*")) if path.is_file()]
        return "\n".join(texts)[-2000:]


def _listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def nginx_worker(master):
    """The pid of nginx's one worker."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        children = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()
        if len(children) == 1:
            return int(children[0])
        time.sleep(0.02)
    raise StartError("nginx has not exactly one worker")


def cpu_seconds(pid):
    """User and system time of all threads of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def resident_bytes(pid):
    """Resident memory, shared memory included."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise StartError(f"process {pid} is gone")


def end_on_sigterm():
    """Lets SIGTERM unwind like Ctrl-C, so that contexts are left properly."""

    def stop(_number, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
