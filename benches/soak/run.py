#!/usr/bin/env python3
"""Keeps a gateway under mixed load for a long time while its peers are killed, paused and restarted.

usage: run.py --imgate PATH --standin PATH [--seconds 1200] [--users 16] [--out DIR]

Ends with a verdict: whether memory and descriptors stayed flat, whether everything that broke healed, and
whether anything failed while nothing was broken. README.md tells how it is reached.
"""

import argparse
import itertools
import json
import pathlib
import signal
import statistics
import sys
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "compare"))

from load import Load, wait_until_well  # noqa: E402
from processes import StartError, end_on_sigterm, resident_bytes  # noqa: E402
from stage import Stage  # noqa: E402

HEAL_SECONDS = 20
CALM_SECONDS = 3
# What is left of the gateway's own work when nobody asks it anything.
IDLE_SECONDS = 15
# Memory that allocators move back and forth, and connections that come and go with chance.
MEMORY_SHARE, MEMORY_SLACK = 1.10, 16 << 20
DESCRIPTORS_SLACK = 12


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--imgate", required=True, help="the imgate binary")
    parser.add_argument("--standin", required=True, help="the openim-standin binary")
    parser.add_argument("--seconds", type=int, default=1200)
    parser.add_argument("--users", type=int, default=16, help="how many users, each with a session and a socket")
    parser.add_argument("--out", help="folder for soak.json")
    given = parser.parse_args()
    given.imgate, given.standin = (str(pathlib.Path(path).resolve()) for path in (given.imgate, given.standin))
    return given


def kill_redis(stage):
    """Redis goes without a word, and comes back with what it knew."""
    stage.redis("SAVE")
    stage.kill("redis")
    time.sleep(2)
    stage.start("redis")


def pause_redis(stage):
    stage.signal("redis", signal.SIGSTOP)
    time.sleep(2)
    stage.signal("redis", signal.SIGCONT)


def restart_openim(stage):
    stage.restart_openim()


def restart_sidecar(stage):
    stage.kill("sink")
    time.sleep(1)
    stage.start("sink")


def reload_often(stage):
    for extra in [True, False] * 5:
        stage.configure(extra)
        stage.reload()
        time.sleep(0.1)


FAULTS = [kill_redis, reload_often, restart_openim, pause_redis, restart_sidecar]


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def sample(stage, began, what):
    pid = stage.pid("gateway")
    return {"at": round(time.monotonic() - began, 1), "what": what, "rss": resident_bytes(pid), "descriptors": descriptors(pid)}


def metric(stage, name):
    url = f"http://127.0.0.1:{stage.port['admin']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise StartError(f"no metric {name}")


def soak(stage, load, seconds):
    """Breaks one thing after the other; a sample is taken at the end of each calm."""
    began, samples, unhealed = time.monotonic(), [], []
    for fault in itertools.chain([None], itertools.cycle(FAULTS)):
        name = fault.__name__ if fault else "nothing"
        if fault:
            fault(stage)
        if not wait_until_well(stage, HEAL_SECONDS):
            unhealed.append(name)
        # Clients that still wait for what was broken are done by then.
        time.sleep(1)
        load.tally.begin_calm()
        time.sleep(CALM_SECONDS)
        load.tally.end_calm()
        samples.append(sample(stage, began, name))
        last = samples[-1]
        print(f"{last['at']:7.1f} s  {name:16} {last['rss'] / 2**20:7.1f} MiB  {last['descriptors']:4} descriptors", flush=True)
        if last["at"] > seconds and len(samples) > len(FAULTS):
            return samples, unhealed


def come_to_rest(stage, before):
    """Waits until the gateway holds no more than before the load; what it holds in the end."""
    deadline = time.monotonic() + IDLE_SECONDS
    while descriptors(stage.pid("gateway")) > before["descriptors"] and time.monotonic() < deadline:
        time.sleep(0.2)
    return sample(stage, time.monotonic(), "rest")


def verdict(before, samples, after, unhealed, load, tunnels):
    """What is wrong, in words; nothing if all was well."""
    # The first round fills caches and pools.
    warm = samples[len(FAULTS) :] or samples
    half = max(1, len(warm) // 2)
    early, late = warm[:half], warm[-half:]
    of = lambda part, key: statistics.median(one[key] for one in part)  # noqa: E731
    faults = []
    if of(late, "rss") > of(early, "rss") * MEMORY_SHARE + MEMORY_SLACK:
        faults.append(f"memory grew from {of(early, 'rss') / 2**20:.1f} to {of(late, 'rss') / 2**20:.1f} MiB")
    if of(late, "descriptors") > of(early, "descriptors") + DESCRIPTORS_SLACK:
        faults.append(f"descriptors grew from {of(early, 'descriptors')} to {of(late, 'descriptors')}")
    if after["descriptors"] > before["descriptors"]:
        faults.append(f"{after['descriptors']} descriptors are held at rest, {before['descriptors']} were before")
    if tunnels:
        faults.append(f"{tunnels:.0f} sockets are counted though none is left")
    faults += [f"did not heal in {HEAL_SECONDS} s: {name}" for name in unhealed]
    in_calm = load.tally.in_calm
    faults += [f"{len(in_calm)} failed while nothing was broken, such as: {in_calm[0]}"] if in_calm else []
    return faults


def main():
    given = options()
    end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder, Stage(folder, given.imgate, given.standin) as stage:
            stage.start_all(given.users)
            wait_until_well(stage, HEAL_SECONDS)
            load = Load(stage)
            before = come_to_rest(stage, {"descriptors": 0})
            load.start()
            samples, unhealed = soak(stage, load, given.seconds)
            load.stop()
            after = come_to_rest(stage, before)
            faults = verdict(before, samples, after, unhealed, load, metric(stage, "imgate_tunnels"))
    except StartError as error:
        sys.exit(f"soak: {error}")
    except KeyboardInterrupt:
        sys.exit("soak: ended before it was done")
    tally = load.tally
    for kind, asked in sorted(tally.asked.items()):
        print(f"{kind:8} {asked:8} times, {tally.failed.get(kind, 0)} failed")
    print(f"at rest: {before['descriptors']} descriptors before, {after['descriptors']} after; {after['rss'] / 2**20:.1f} MiB")
    if given.out:
        pathlib.Path(given.out).mkdir(parents=True, exist_ok=True)
        report = {"before": before, "samples": samples, "after": after, "asked": tally.asked, "failed": tally.failed, "faults": faults}
        (pathlib.Path(given.out) / "soak.json").write_text(json.dumps(report, indent=1))
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "flat: memory, descriptors and clients as at the beginning")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
