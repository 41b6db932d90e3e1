#!/usr/bin/env python3
"""Measures the CPU time a proxy spends per request, imgate beside its peers, all in one run.

usage: run.py --imgate PATH --pingora PATH [--seconds 8] [--rounds 3] [--only nginx,imgate] [--out DIR]

Every target is started with one worker, checked, then driven in turn by one wrk thread with 64
connections. What is compared and how far the figures go is told in README.md.
"""

import argparse
import collections
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import report  # noqa: E402
from checks import CheckError, check  # noqa: E402
from processes import Processes, StartError, cpu_seconds, end_on_sigterm, resident_bytes  # noqa: E402
from signing import PATH, User, write_list  # noqa: E402
from targets import LABELS, PEERS, Stage  # noqa: E402

CONNECTIONS = 64
# Enough to open the connections and to fill the caches with all sessions.
WARM_SECONDS = 1
WARM_LIST = 80_000
# More would let signatures of one list grow older than the clock skew that is allowed.
MAX_SECONDS = 30


class MeasureError(Exception):
    """A run whose figures mean nothing."""


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--imgate", help="the imgate binary, built with --release")
    parser.add_argument("--pingora", help="the binary of pingora-bare/, built with --release")
    parser.add_argument("--seconds", type=int, default=8, help=f"length of each run, at most {MAX_SECONDS}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each target is measured")
    parser.add_argument("--sessions", type=int, default=1000, help="how many users take turns")
    parser.add_argument("--only", help=f"comma-separated, of: {', '.join(LABELS)}")
    parser.add_argument("--out", help="folder for compare.json and compare.md")
    given = parser.parse_args()
    given.names = given.only.split(",") if given.only else list(LABELS)
    for name in given.names:
        if name not in LABELS:
            parser.error(f"no target named {name}; there are: {', '.join(LABELS)}")
    given.binaries = {}
    for name, path in (("imgate", given.imgate), ("pingora", given.pingora)):
        if name in given.names:
            if not path or not os.access(path, os.X_OK):
                parser.error(f"--{name} must name its binary, or --only leave it out")
            given.binaries[name] = str(pathlib.Path(path).resolve())
    if not 1 <= given.seconds <= MAX_SECONDS or given.rounds < 1 or given.sessions < 1:
        parser.error("--seconds, --rounds or --sessions is out of range")
    return given


def seed(port, users):
    """Writes sessions, tokens and the store mark to Redis."""
    now = int(time.time())
    pairs = [("imgate:store", "1")]
    for user in users:
        pairs += [(f"imgate:session:{user.session}", user.record(now)), (f"im:token:{user.name}", user.token)]
    words = ["MSET", *(word for pair in pairs for word in pair)]
    command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(command.encode())
        if link.recv(64) != b"+OK\r\n":
            raise StartError("redis took no records")


def wrk(target, seconds, requests):
    """Runs wrk over a list of signed requests; returns how many were answered, and the rate."""
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", PEERS / "wrk.lua"]
    url = f"http://127.0.0.1:{target.port}{PATH}"
    ended = subprocess.run([*argv, url, "--", requests.path], capture_output=True, text=True, check=False)
    text = ended.stdout + ended.stderr
    fault = re.search(r"Non-2xx.*|Socket errors.*", text)
    if ended.returncode != 0 or fault:
        raise MeasureError(f"{target.name}: {fault.group(0) if fault else text}\n{last_refusals(target)}")
    if int(_found(r"Signed requests used: (\d+)", text)) > requests.count and target.verifies:
        raise MeasureError(f"{target.name}: used up {requests.count} signed requests")
    return int(_found(r"(\d+) requests in", text)), float(_found(r"Requests/sec:\s+([\d.]+)", text))


def last_refusals(target):
    """What the target's own access log says of its last answers that were not good."""
    if not target.access_log or not target.access_log.exists():
        return ""
    # nginx writes what it buffers every second.
    time.sleep(1.5)
    with open(target.access_log, encoding="utf-8", errors="replace") as file:
        return "".join(collections.deque((line for line in file if '"status":200' not in line), maxlen=3))


def _found(pattern, text):
    match = re.search(pattern, text)
    if not match:
        raise MeasureError(f"wrk said nothing like {pattern}:\n{text}")
    return match.group(1)


class Requests:
    """The file of signed requests, written anew for each run."""

    def __init__(self, folder, users):
        self.path = str(pathlib.Path(folder) / "requests.list")
        self.count = 0
        self._users = users

    def sign(self, count):
        """Signs `count` requests now, each session at least once."""
        self.count = max(count, len(self._users))
        write_list(self.path, self._users, self.count)


def measure(target, seconds, requests):
    """One warm-up and one run."""
    requests.sign(WARM_LIST)
    warm, rate = wrk(target, WARM_SECONDS, requests)
    # Twice what the warm-up suggests: it began cold.
    requests.sign(int(rate * seconds * 2))
    before = cpu_seconds(target.pid)
    count, rate = wrk(target, seconds, requests)
    after = cpu_seconds(target.pid)
    user, system = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
    figures = {"cpu_us": user + system, "user_us": user, "system_us": system, "rate": rate}
    return figures | {"requests": count, "warm_requests": warm, "rss": resident_bytes(target.pid)}


def measure_all(targets, given, requests):
    samples = []
    for number in range(given.rounds):
        # Each round begins with another target, so that a drift of the machine favours none.
        shift = number % len(targets)
        for target in targets[shift:] + targets[:shift]:
            sample = {"target": target.name, "round": number + 1} | measure(target, given.seconds, requests)
            samples.append(sample)
            print(
                f"round {number + 1}  {target.label:34} {sample['cpu_us']:6.1f} us/request "
                f"({sample['user_us']:.1f} + {sample['system_us']:.1f})  {sample['rate']:7.0f} requests/s",
                flush=True,
            )
    return samples


def check_logs(targets, samples):
    """Refuses figures of a target that saved work by losing lines of its access log."""
    for target in targets:
        if not target.access_log:
            continue
        sent = sum(s["requests"] + s["warm_requests"] for s in samples if s["target"] == target.name)
        deadline = time.monotonic() + 5
        while (lines := _lines(target.access_log)) < sent:
            if time.monotonic() > deadline:
                raise MeasureError(f"{target.name}: {lines} access log lines for {sent} requests")
            time.sleep(0.2)


def _lines(path):
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def compare(given, folder):
    users = [User.random(number, int(time.time())) for number in range(given.sessions)]
    with Processes(folder) as processes:
        stage = Stage(folder, processes)
        stage.start_shared()
        seed(stage.redis, users)
        targets = [stage.start(name, given.binaries) for name in given.names]
        for target in targets:
            check(target, users)
        samples = measure_all(targets, given, Requests(folder, users))
        check_logs(targets, samples)
    return samples


def main():
    given = options()
    end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="compare-") as folder:
            samples = compare(given, folder)
    except (CheckError, MeasureError, StartError) as error:
        sys.exit(f"compare: {error}")
    except KeyboardInterrupt:
        sys.exit("compare: ended before it was done")
    rows = report.summarise(samples)
    if given.out:
        report.write(given.out, samples, rows, given)
    print(f"\n{report.table(rows)}\n\n{report.verdict(rows)}")


if __name__ == "__main__":
    main()
