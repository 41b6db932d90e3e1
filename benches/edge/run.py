#!/usr/bin/env python3
"""Measures what connections cost at the edge, imgate beside nginx and HAProxy, all in one run.

usage: run.py --imgate PATH [--only nginx,imgate] [--connections 4000] [--out DIR]

For each proxy, one worker: resident memory per idle connection that carried a request, in the clear and
under TLS; CPU time per TLS handshake, full and resumed; and what clients that send a byte of a head per
second cost the others. What is done and how far the figures go is told in README.md.
"""

import argparse
import contextlib
import json
import os
import pathlib
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "compare"))

from processes import (  # noqa: E402
    Processes,
    StartError,
    cpu_seconds,
    end_on_sigterm,
    free_ports,
    nginx_worker,
    resident_bytes,
)

PEERS = pathlib.Path(__file__).parent / "peers"
LABELS = {"nginx": "nginx", "haproxy": "HAProxy", "imgate": "imgate"}
REQUEST = b"GET /ping HTTP/1.1\r\nHost: im.example.com\r\n\r\n"
HANDSHAKES = 400
PROBES = 300
SLOW_SECONDS = 15


class MeasureError(Exception):
    """A run whose figures mean nothing."""


class Proxy:
    """A proxy that listens, plain and under TLS."""

    def __init__(self, name, pid, plain, tls):
        self.name, self.pid, self.plain, self.tls = name, pid, plain, tls


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--imgate", help="the imgate binary, built with --release")
    parser.add_argument("--only", help=f"comma-separated, of: {', '.join(LABELS)}")
    parser.add_argument("--connections", type=int, default=4000, help="how many are held idle, and how many slow")
    parser.add_argument("--out", help="folder for edge.json and edge.md")
    given = parser.parse_args()
    given.names = given.only.split(",") if given.only else list(LABELS)
    if not set(given.names) <= set(LABELS):
        parser.error(f"proxies are: {', '.join(LABELS)}")
    if "imgate" in given.names and not (given.imgate and os.access(given.imgate, os.X_OK)):
        parser.error("--imgate must name its binary, or --only leave it out")
    return given


def certificate(folder):
    """A self-signed certificate on P-256, as files for each proxy."""
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=im.example.com", "-addext", "subjectAltName=DNS:im.example.com"]
    argv += ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run(argv, check=True, capture_output=True)
    (folder / "tls.pem").write_text((folder / "tls.crt").read_text() + (folder / "tls.key").read_text())


def write(folder, template, **values):
    """A configuration, with its ports and folder filled in."""
    values |= {"dir": folder, "user": "user root;" if os.geteuid() == 0 else ""}
    text = (PEERS / template).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    (folder / template).write_text(text)
    return str(folder / template)


def start(name, imgate, folder, processes, upstream):
    plain, tls = free_ports(2)
    ports = {"plain": plain, "tls": tls, "upstream": upstream}
    if name == "imgate":
        argv = [str(pathlib.Path(imgate).resolve()), "run", "--config", write(folder, "imgate.yaml", **ports)]
        return Proxy(name, processes.start(name, argv, plain), plain, tls)
    if name == "haproxy":
        argv = ["haproxy", "-db", "-f", write(folder, "haproxy.cfg", **ports)]
        return Proxy(name, processes.start(name, argv, plain), plain, tls)
    argv = ["nginx", "-c", write(folder, "nginx.conf", **ports), "-e", str(folder / "nginx.err")]
    return Proxy(name, nginx_worker(processes.start(name, argv, plain)), plain, tls)


def client_tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def wrapped(context, port, session=None):
    return context.wrap_socket(connect(port), server_hostname="im.example.com", session=session)


def ask(stream):
    """One request and its answer, which is short."""
    stream.sendall(REQUEST)
    answer = stream.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise MeasureError(f"not answered: {answer[:200]}")
    while b"errDlt" not in answer:
        answer += stream.recv(4096)


def memory_per_connection(proxy, count, opened):
    """Resident bytes per connection that is idle after one request."""
    # What the first requests allocate once is not charged to connections.
    with contextlib.ExitStack() as held:
        for _ in range(20):
            ask(held.enter_context(opened()))
    time.sleep(1)
    before = resident_bytes(proxy.pid)
    with contextlib.ExitStack() as held:
        for _ in range(count):
            ask(held.enter_context(opened()))
        time.sleep(1)
        return (resident_bytes(proxy.pid) - before) / count


def cpu_per_handshake(proxy, resumed):
    """CPU seconds of the proxy per TLS 1.3 handshake; the request that follows is charged to it."""
    context = client_tls()
    session = None
    with wrapped(context, proxy.tls) as first:
        ask(first)
        session = first.session
    before = sum(cpu_seconds(proxy.pid))
    for _ in range(HANDSHAKES):
        with wrapped(client_tls() if not resumed else context, proxy.tls, session if resumed else None) as stream:
            ask(stream)
            if stream.session_reused != resumed:
                raise MeasureError(f"{proxy.name}: resumed {stream.session_reused}, wanted {resumed}")
            if resumed:
                # A ticket of TLS 1.3 is used once.
                session = stream.session
    return (sum(cpu_seconds(proxy.pid)) - before) / HANDSHAKES


def probe(proxy):
    """Milliseconds per request of one good client, one after the other."""
    took = []
    with connect(proxy.plain) as stream:
        for _ in range(PROBES):
            began = time.perf_counter()
            ask(stream)
            took.append((time.perf_counter() - began) * 1e3)
    return {"p50": statistics.median(took), "p99": statistics.quantiles(took, n=100)[98]}


def slow_clients(proxy, count):
    """Clients that send one byte of a head per second, while one good client goes on."""
    quiet = probe(proxy)
    before, began = resident_bytes(proxy.pid), time.monotonic()
    cpu = sum(cpu_seconds(proxy.pid))
    alive, peak, beside = [connect(proxy.plain) for _ in range(count)], 0, None
    poller = select.poll()
    by_number = {stream.fileno(): stream for stream in alive}
    for number in by_number:
        poller.register(number, select.POLLIN | select.POLLHUP)
    sent, cut = 0, None
    while by_number and time.monotonic() - began < SLOW_SECONDS:
        for stream in list(by_number.values()):
            with contextlib.suppress(OSError):
                stream.send(REQUEST[sent : sent + 1])
        sent += 1
        peak = max(peak, resident_bytes(proxy.pid))
        if sent == 3:
            beside = probe(proxy)
        wait_until = began + sent
        while (left := wait_until - time.monotonic()) > 0 and by_number:
            for number, _ in poller.poll(left * 1000):
                poller.unregister(number)
                by_number.pop(number).close()
    cut = time.monotonic() - began if not by_number else None
    for stream in by_number.values():
        stream.close()
    spent = sum(cpu_seconds(proxy.pid)) - cpu
    memory = (peak - before) / count
    return {"quiet": quiet, "beside": beside, "memory": memory, "cut_after": cut, "cpu_seconds": spent}


def measure(proxy, count):
    context = client_tls()
    figures = {"plain": memory_per_connection(proxy, count, lambda: connect(proxy.plain))}
    figures["tls"] = memory_per_connection(proxy, count // 2, lambda: wrapped(context, proxy.tls))
    figures["full"] = cpu_per_handshake(proxy, resumed=False)
    figures["resumed"] = cpu_per_handshake(proxy, resumed=True)
    figures["slow"] = slow_clients(proxy, count // 2)
    return figures


def table(results):
    rows = [
        ("memory per idle connection, plain", lambda f: f"{f['plain'] / 1024:.1f} KiB"),
        ("memory per idle connection, TLS", lambda f: f"{f['tls'] / 1024:.1f} KiB"),
        ("CPU per full handshake and a request", lambda f: f"{f['full'] * 1e6:.0f} us"),
        ("full handshakes/s on one core", lambda f: f"{1 / f['full']:.0f}"),
        ("CPU per resumed handshake and a request", lambda f: f"{f['resumed'] * 1e6:.0f} us"),
        ("memory per slow client", lambda f: f"{f['slow']['memory'] / 1024:.1f} KiB"),
        ("slow clients were cut after", lambda f: f"{f['slow']['cut_after']:.1f} s" if f["slow"]["cut_after"] else "never"),
        ("a good client meanwhile, p50 (before)", lambda f: both(f, "p50")),
        ("a good client meanwhile, p99 (before)", lambda f: both(f, "p99")),
    ]
    lines = [f"| | {' | '.join(LABELS[name] for name in results)} |", "|---|" + "---:|" * len(results)]
    lines += [f"| {label} | {' | '.join(show(f) for f in results.values())} |" for label, show in rows]
    return "\n".join(lines)


def both(figures, share):
    slow = figures["slow"]
    return f"{slow['beside'][share]:.2f} ms ({slow['quiet'][share]:.2f})"


def compare(given, folder):
    certificate(folder)
    results = {}
    with Processes(folder) as processes:
        (upstream,) = free_ports(1)
        argv = ["nginx", "-c", write(folder, "upstream.conf", upstream=upstream), "-e", str(folder / "upstream.err")]
        processes.start("upstream", argv, upstream)
        for name in given.names:
            proxy = start(name, given.imgate, folder, processes, upstream)
            results[name] = measure(proxy, given.connections)
            print(f"{name}: {json.dumps(results[name])}", flush=True)
    return results


def main():
    given = options()
    end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="edge-") as folder:
            results = compare(given, pathlib.Path(folder))
    except (MeasureError, StartError) as error:
        sys.exit(f"edge: {error}")
    except KeyboardInterrupt:
        sys.exit("edge: ended before it was done")
    text = table(results)
    if given.out:
        out = pathlib.Path(given.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "edge.json").write_text(json.dumps(results, indent=1))
        (out / "edge.md").write_text(text + "\n")
    print(f"\n{text}")


if __name__ == "__main__":
    main()
