#!/usr/bin/env python3
"""What reloads and upgrades under full load cost: failed requests, dropped sockets, memory.

Starts a gateway before an upstream of its own, keeps clients and WebSockets busy, reloads the configuration
(SIGHUP, each time another one) and replaces the binary (SIGUSR2), and prints a table. Exits with 1 if
anything was lost. Needs nothing but Python and the gateway's binary.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

CONFIG = """
watch: false
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
public_url: https://im.example.com
access_log: {{ output: "off" }}
limits: {{ drain_timeout: 20s, keepalive_timeout: 60s, upgrade_timeout: 60s }}
identity: {{ store: {{ memory: {{}} }} }}
upstreams:
  api: {{ servers: ["127.0.0.1:{port}"], keepalive: {keepalive} }}
chains:
  socket: [{{ verify_socket: {{ mode: passthrough }} }}]
routes:
  - {{ path: /ws, websocket: api, chain: socket }}
  - {{ prefix: /api/, upstream: api, public: true }}
  - {{ prefix: /generation-{generation}/, upstream: api, public: true }}
"""
TARGET = "/ws?sendID=bob&token=0123456789abcdef&platformID=2&operationID=op&isBackground=false"
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"errCode":0}'


async def upstream(reader, writer):
    """Answers requests; echoes whatever comes after a handshake."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                writer.write(SWITCH)
                while data := await reader.read(4096):
                    writer.write(data)
                return
            length = [l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")]
            if length:
                await reader.readexactly(int(length[0].split(b":")[1]))
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass  # The gateway closed it, or all is over.
    finally:
        writer.close()


class Gateway:
    """A gateway, and the processes that take over from it."""

    def __init__(self, binary, port, folder):
        self.port, self.folder, self.generation = port, folder, 0
        self.write()
        self.log = open(os.path.join(folder, "log"), "w+")
        self.child = subprocess.Popen([os.path.abspath(binary), "run", "-c", "imgate.yaml"], cwd=folder,
                                      stderr=self.log, stdin=subprocess.DEVNULL)
        self.pid = self.child.pid

    def write(self):
        self.generation += 1
        # Another pool now and then, so that upstreams are opened anew, too.
        text = CONFIG.format(port=self.port, generation=self.generation, keepalive=32 + self.generation // 10 % 2)
        path = os.path.join(self.folder, "imgate.yaml")
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def lines(self, message):
        with open(self.log.name) as file:
            lines = [json.loads(line) for line in file if line.startswith("{") and line.endswith("\n")]
        return [line for line in lines if line.get("message", "").startswith(message)]

    async def said(self, message, count):
        give_up = time.monotonic() + 60
        while len(lines := self.lines(message)) < count:
            if time.monotonic() > give_up:
                sys.exit(f"the gateway never said {message!r}:\n{open(self.log.name).read()[-3000:]}")
            await asyncio.sleep(0.01)
        return lines

    async def reload(self, count):
        self.write()
        os.kill(self.pid, signal.SIGHUP)
        await self.said("configuration reloaded", count)

    async def upgrade(self, count):
        os.kill(self.pid, signal.SIGUSR2)
        self.pid = (await self.said("upgrade: the successor serves", count))[-1]["pid"]

    def memory(self):
        """Resident memory, in MiB."""
        with open(f"/proc/{self.pid}/status") as file:
            return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) / 1024

    def end(self):
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        self.child.wait(60)


class Load:
    """Clients, their sockets, and what went wrong."""

    def __init__(self, address):
        self.address, self.stop, self.requests, self.failures, self.dropped = address, False, 0, [], 0
        self.echoes, self.times = 0, []

    async def client(self, keep):
        reader = writer = None
        while not self.stop:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(*self.address)
                began = time.perf_counter()
                writer.write(b"POST /api/x HTTP/1.1\r\nHost: im.example.com\r\nContent-Length: 2\r\n\r\n{}")
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
                length = next(l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                self.times.append(time.perf_counter() - began)
                self.requests += 1
                if b" 200 " not in head.split(b"\r\n")[0]:
                    self.failures.append(head.split(b"\r\n")[0].decode())
                if not keep or b"connection: close" in head.lower():
                    writer.close()
                    writer = None
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.failures.append(repr(error))
                writer = None

    async def socket(self):
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(f"GET {TARGET} HTTP/1.1\r\nHost: im.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            sys.exit(f"no socket: {head}")
        try:
            while not self.stop:
                writer.write(b"still here")
                await asyncio.wait_for(reader.readexactly(10), 15)
                self.echoes += 1
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            self.dropped += 1
        writer.close()

    def row(self, what, count, seconds, before, after):
        times = sorted(self.times) or [0]
        p50, p99 = (times[int(len(times) * q)] * 1000 for q in (0.5, 0.99))
        return (f"| {what} | {count} | {seconds:.0f} s | {self.requests} | {len(self.failures)} | {self.dropped} "
                f"| {p50:.1f} / {p99:.1f} ms | {before:.1f} → {after:.1f} MiB |")


async def measure(gateway, address, arguments, what):
    load = Load(address)
    tasks = [asyncio.create_task(load.client(i % 4 != 0)) for i in range(arguments.clients)]
    # Sockets of an old process end with its drain timeout, which is no loss; so upgrades are made without.
    if what == "reloads":
        tasks += [asyncio.create_task(load.socket()) for _ in range(arguments.sockets)]
    change, count = (gateway.reload, arguments.reloads) if what == "reloads" else (gateway.upgrade, arguments.upgrades)
    warm = min(50, count // 10) if what == "reloads" else 0
    for i in range(warm):
        await change(i + 1)
    before, began = gateway.memory(), time.monotonic()
    for i in range(warm, count):
        await change(i + 1)
    seconds, after = time.monotonic() - began, gateway.memory()
    load.stop = True
    await asyncio.gather(*tasks)
    print(load.row(what, count, seconds, before, after), flush=True)
    for failure in load.failures[:5]:
        print("  ", failure, file=sys.stderr)
    return not load.failures and not load.dropped


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imgate", required=True, help="the gateway's binary")
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--sockets", type=int, default=20)
    arguments = parser.parse_args()
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(arguments.imgate, server.sockets[0].getsockname()[1], folder)
        try:
            host, port = (await gateway.said("listening", 1))[0]["address"].rsplit(":", 1)
            print("| what | times | took | requests | failed | sockets dropped | latency p50 / p99 | resident memory |")
            print("|---|---|---|---|---|---|---|---|")
            good = [await measure(gateway, (host, int(port)), arguments, what) for what in ("reloads", "upgrades")]
        finally:
            gateway.end()
    sys.exit(0 if all(good) else 1)


asyncio.run(main())
