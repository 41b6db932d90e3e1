#!/usr/bin/env python3
"""Measures how long requests take at a steady rate, through imgate and its peers and past them.

usage: latency.py --imgate PATH [--rate 5000] [--seconds 10] [--rounds 3] [--only direct,imgate] [--out DIR]

Every target gets the same requests, signed beforehand, at the same rate, from 64 connections of one wrk
thread that pause between requests. `direct` is the upstream without a proxy: what a target takes beyond
it is what it adds. How far the figures go is told in README.md.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from checks import CheckError, check  # noqa: E402
from processes import Processes, StartError, cpu_seconds, end_on_sigterm  # noqa: E402
from run import CONNECTIONS, MAX_SECONDS, MeasureError, Requests, seed  # noqa: E402
from signing import PATH, User  # noqa: E402
from targets import CACHED, LABELS, PEERS, Stage, Target  # noqa: E402

DIRECT = "direct"
NAMES = [DIRECT, "nginx", CACHED, "imgate"]
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
WARM_SECONDS = 2


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--imgate", help="the imgate binary, built with --release")
    parser.add_argument("--rate", type=int, default=5000, help="requests per second, all connections together")
    parser.add_argument("--seconds", type=int, default=10, help=f"length of each run, at most {MAX_SECONDS}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each target is measured")
    parser.add_argument("--sessions", type=int, default=1000, help="how many users take turns")
    parser.add_argument("--only", help=f"comma-separated, of: {', '.join(NAMES)}")
    parser.add_argument("--out", help="folder for latency.json and latency.md")
    given = parser.parse_args()
    given.names = given.only.split(",") if given.only else NAMES
    if not set(given.names) <= set(NAMES):
        parser.error(f"targets are: {', '.join(NAMES)}")
    if "imgate" in given.names and not (given.imgate and os.access(given.imgate, os.X_OK)):
        parser.error("--imgate must name its binary, or --only leave it out")
    if not 1 <= given.seconds <= MAX_SECONDS or given.rounds < 1 or given.rate < 1:
        parser.error("--seconds, --rounds or --rate is out of range")
    return given


def paced(target, seconds, rate, requests):
    """Runs wrk at a rate; returns the requests answered and the percentiles, in milliseconds."""
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", PEERS / "wrk-paced.lua"]
    url = f"http://127.0.0.1:{target.port}{PATH}"
    argv += [url, "--", requests.path, str(CONNECTIONS), str(rate)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    text = ended.stdout + ended.stderr
    fault = re.search(r"Non-2xx.*|Socket errors.*", text)
    if ended.returncode != 0 or fault:
        raise MeasureError(f"{target.name}: {fault.group(0) if fault else text}")
    shares = dict(re.findall(r"^\s+(\d+)%\s+([\d.]+(?:us|ms|s))$", text, re.MULTILINE))
    count = int(re.search(r"(\d+) requests in", text).group(1))
    return count, {share: milliseconds(shares[share]) for share in ("50", "90", "99")}


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * UNITS[unit]


def measure(target, given, requests):
    """One warm-up and one run."""
    requests.sign(given.rate * WARM_SECONDS * 2)
    paced(target, WARM_SECONDS, given.rate, requests)
    requests.sign(given.rate * given.seconds * 2)
    before = cpu_seconds(target.pid)
    count, shares = paced(target, given.seconds, given.rate, requests)
    cpu = sum(cpu_seconds(target.pid)) - sum(before)
    return {"requests": count, "rate": count / given.seconds, "cpu_us": cpu / count * 1e6} | shares


def measure_all(targets, given, requests):
    samples = []
    for number in range(given.rounds):
        shift = number % len(targets)
        for target in targets[shift:] + targets[:shift]:
            sample = {"target": target.name, "round": number + 1} | measure(target, given, requests)
            samples.append(sample)
            print(f"round {number + 1}  {row(sample)}", flush=True)
    return samples


def row(sample):
    label = LABELS.get(sample["target"], "the upstream itself")
    return (
        f"{label:34} p50 {sample['50']:.3f} ms  p90 {sample['90']:.3f} ms  p99 {sample['99']:.3f} ms  "
        f"{sample['rate']:.0f} requests/s"
    )


def summarise(samples):
    """The medians over the rounds, as a table in Markdown."""
    rows = ["| Target | p50 | p90 | p99 | requests/s | CPU per request |", "|---|---:|---:|---:|---:|---:|"]
    for name in dict.fromkeys(sample["target"] for sample in samples):
        own = [sample for sample in samples if sample["target"] == name]
        median = {key: statistics.median(s[key] for s in own) for key in ("50", "90", "99", "rate", "cpu_us")}
        cells = [f"{median[key]:.2f} ms" for key in ("50", "90", "99")]
        cells += [f"{median['rate']:.0f}", f"{median['cpu_us']:.1f} us"]
        rows.append(f"| {LABELS.get(name, 'the upstream itself')} | {' | '.join(cells)} |")
    return "\n".join(rows)


def compare(given, folder):
    users = [User.random(number, int(time.time())) for number in range(given.sessions)]
    with Processes(folder) as processes:
        stage = Stage(folder, processes)
        upstream = stage.start_shared()
        seed(stage.redis, users)
        direct = Target(DIRECT, stage.upstream, upstream, None)
        binaries = {"imgate": str(pathlib.Path(given.imgate or ".").resolve())}
        targets = [direct if name == DIRECT else stage.start(name, binaries) for name in given.names]
        for target in targets:
            if target is not direct:
                check(target, users)
        return measure_all(targets, given, Requests(folder, users))


def main():
    given = options()
    end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="latency-") as folder:
            samples = compare(given, folder)
    except (CheckError, MeasureError, StartError) as error:
        sys.exit(f"latency: {error}")
    except KeyboardInterrupt:
        sys.exit("latency: ended before it was done")
    table = summarise(samples)
    if given.out:
        out = pathlib.Path(given.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "latency.json").write_text(json.dumps(samples, indent=1))
        (out / "latency.md").write_text(table + "\n")
    print(f"\n{table}")


if __name__ == "__main__":
    main()
