"""From samples to a table, JSON and Markdown."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

from targets import CACHED, LABELS


def summarise(samples):
    """The median of each figure per target, in the order of `LABELS`."""
    rows = {}
    for name in LABELS:
        mine = [sample for sample in samples if sample["target"] == name]
        if mine:
            figures = [key for key, value in mine[0].items() if isinstance(value, int | float)]
            rows[name] = {key: statistics.median(sample[key] for sample in mine) for key in figures}
    for row in rows.values():
        row["ratio"] = row["cpu_us"] / rows[CACHED]["cpu_us"] if CACHED in rows else None
    return rows


def table(rows):
    """The medians as a Markdown table."""
    lines = [
        "| Target | us CPU per request | user + system | requests/s | of nginx + Lua cached | RSS |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(
            f"| {LABELS[name]} | {row['cpu_us']:.1f} | {row['user_us']:.1f} + {row['system_us']:.1f} "
            f"| {row['rate']:.0f} | {ratio} | {row['rss'] / 2**20:.0f} MB |"
        )
    return "\n".join(lines)


def verdict(rows):
    """The two ratios that imgate is judged by."""

    def ratio(peer):
        if "imgate" not in rows or peer not in rows:
            return "-"
        return f"{rows['imgate']['cpu_us'] / rows[peer]['cpu_us']:.2f}"

    return f"imgate/nginx+lua cached: {ratio(CACHED)}   imgate/pingora bare: {ratio('pingora')}"


def write(folder, samples, rows, options):
    """Writes `compare.json` and `compare.md` into `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = _about(options)
    whole = {"about": about, "medians": rows, "samples": samples}
    (folder / "compare.json").write_text(json.dumps(whole, indent=1) + "\n")
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    text = f"# CPU time of the proxy per request\n\n{table(rows)}\n\n{verdict(rows)}\n\n{facts}\n\n{_rounds(samples)}\n"
    (folder / "compare.md").write_text(text)


def _rounds(samples):
    lines = ["| Round | Target | us CPU per request | requests/s |", "|---|---|---|---|"]
    for s in samples:
        lines.append(f"| {s['round']} | {LABELS[s['target']]} | {s['cpu_us']:.1f} | {s['rate']:.0f} |")
    return "\n".join(lines)


def _about(options):
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load at the end": os.getloadavg()[0],
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "sessions": options.sessions,
    }


def _processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(program, flag):
    ended = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    return (ended.stdout + ended.stderr).splitlines()[0].strip()
