#!/usr/bin/env python3
"""Sends the raw requests of tests/it/faults/rows.json to nginx, HAProxy and imgate, and tells what each makes of them.

usage: run.py --imgate PATH [--out DIR] [--rows 1,2] [--only nginx,imgate]

What the tables show, and why the proxies differ, is told in README.md. Ends with 1 if imgate does not do
what rows.json expects of it.
"""

import argparse
import concurrent.futures
import json
import pathlib
import socket
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "compare"))

from processes import Processes, StartError, end_on_sigterm  # noqa: E402
from targets import start  # noqa: E402
from upstream import Upstream  # noqa: E402

ROWS = HERE.parent.parent / "tests" / "it" / "faults" / "rows.json"
PEERS = ["nginx", "HAProxy"]
# Longer than any of them waits for a head.
ANSWER_SECONDS = 15
# How long a connection must stay open to count as kept.
KEPT_SECONDS = 0.5
# How long what was let through may take to arrive.
ARRIVAL_SECONDS = 0.05
PATHS = {"exchange": "/login/x", "stream": "/files/x", "socket": "/login/x"}
SOCKET = "/ws?sendID=ann&token=garbage&platformID=2&operationID=op-12"


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--imgate", required=True, help="the imgate binary")
    parser.add_argument("--out", help="folder for differential.json and differential.md")
    parser.add_argument("--rows", help="comma-separated numbers; default: all")
    parser.add_argument("--only", default="nginx,HAProxy,imgate", help="comma-separated names")
    given = parser.parse_args()
    given.rows = {int(number) for number in given.rows.split(",")} if given.rows else None
    given.names = given.only.split(",")
    return given


def fill(text, way):
    text = text.replace("$path", PATHS[way]).replace("$ws", SOCKET)
    return text.replace("$signed", "/friend/get_friend_list")


class Heard:
    """What a client heard: all bytes, and whether the connection ended."""

    def __init__(self):
        self.answer, self.ended = b"", False

    def status(self):
        words = self.answer.split(b" ", 2)
        is_status = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1][:3].isdigit()
        return int(words[1][:3]) if is_status else 0

    def code(self):
        """The code of our envelope; none if the first answer has no such body."""
        try:
            envelope = json.loads(self.answer.partition(b"\r\n\r\n")[2])
            return envelope["errCode"] if isinstance(envelope["errDlt"], str) else None
        except (KeyError, TypeError, ValueError):
            return None

    def whole(self):
        head, found, body = self.answer.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return bool(found) and len(body) >= int(line.split(b":")[1])
        # An answer in chunks, which is what an error page of HAProxy or nginx is not.
        return bool(found)


def say(link, case, way):
    """Sends a case; a proxy that has heard enough may close on the rest."""
    try:
        for piece in case["send"]:
            if isinstance(piece, str):
                link.sendall(fill(piece, way).encode("latin-1"))
            elif "repeat" in piece:
                link.sendall(fill(piece["repeat"], way).encode("latin-1") * piece["times"])
            else:
                link.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def play(target, case, way):
    """One case on a connection of its own: what was heard, and what came through."""
    target.upstream.take()
    heard = Heard()
    with socket.create_connection(("127.0.0.1", target.port)) as link:
        speaker = threading.Thread(target=say, args=(link, case, way), daemon=True)
        speaker.start()
        deadline = time.monotonic() + ANSWER_SECONDS
        while not heard.ended and time.monotonic() < deadline:
            answered = heard.whole()
            link.settimeout(KEPT_SECONDS if answered else max(0.01, deadline - time.monotonic()))
            try:
                piece = link.recv(1 << 16)
            except TimeoutError:
                break
            except OSError:
                piece = b""
            heard.answer += piece
            heard.ended = not piece
    speaker.join()
    time.sleep(ARRIVAL_SECONDS)
    came, whole = target.upstream.take()
    return {"status": heard.status(), "code": heard.code(), "closed": heard.ended, "whole": whole, "bytes": len(came), "came": came.decode("latin-1").lower()}


def wrong(case, way, got):
    """Why this is not what is expected of imgate; empty if it is."""
    reasons = []
    if got["status"] not in case["status"]:
        reasons.append(f"status {got['status']}, not of {case['status']}")
    if got["status"] and case.get("closed") not in (None, got["closed"]):
        reasons.append("closed" if got["closed"] else "not closed")
    if got["status"] >= 400 and got["code"] not in case.get("code", [got["code"]]):
        reasons.append(f"errCode {got['code']}")
    if got["status"] >= 400 and got["code"] is None:
        reasons.append("no envelope")
    reached = {"nothing": got["bytes"] == 0, "unfinished": got["whole"] == 0, "whole": got["whole"] == 1, "any": got["whole"] <= 1}
    if not reached[case.get("upstream", "nothing")]:
        reasons.append(f"{got['whole']} requests and {got['bytes']} bytes came through")
    reasons += [f"{text!r} came through" for text in case.get("lacks", []) if text in got["came"]]
    once = [fill(text, way).lower() for text in case.get("once", [])] if got["whole"] else []
    reasons += [f"{text!r} came {got['came'].count(text)} times" for text in once if got["came"].count(text) != 1]
    return reasons


def compare_one(name, rows, processes, folder, imgate):
    """All cases at one proxy; each answer by row, case and way."""
    target = start(name, processes, folder, Upstream(), imgate)
    found = {}
    for row in rows:
        for case in row.get("cases", []):
            ways = case.get("on", ["exchange", "stream"])
            for way in ways if name == "imgate" else ways[:1]:
                got = play(target, case, way)
                got["wrong"] = wrong(case, way, got)
                found[row["row"], case["name"], way] = got
    return found


def compare(rows, given, folder):
    with Processes(folder) as processes, concurrent.futures.ThreadPoolExecutor() as pool:
        runs = {name: pool.submit(compare_one, name, rows, processes, folder, given.imgate) for name in given.names}
        return {name: run.result() for name, run in runs.items()}


def cell(got):
    """One answer in a table."""
    if got is None:
        return ""
    end = "closed" if got["closed"] else "kept"
    status = got["status"] or "none"
    through = f"{got['whole']} × {got['bytes']} B" if got["whole"] else ("part" if got["bytes"] else "–")
    return f"{status} {end}, {through}"


def tables(rows, found):
    """Markdown: a table per row, with what came through behind each answer."""
    lines = []
    peers = [name for name in PEERS if name in found]
    for row in rows:
        if "cases" not in row:
            continue
        lines += [f"## {row['row']}. {row['what'][0].upper()}{row['what'][1:]}", ""]
        lines += [f"| | {' | '.join(peers)} | imgate, whole | imgate, streamed |", "|---" * (len(peers) + 3) + "|"]
        for case in row["cases"]:
            ways = case.get("on", ["exchange", "stream"])
            key = lambda way: (row["row"], case["name"], way)  # noqa: B023, E731
            cells = [cell(found[peer].get(key(ways[0]))) for peer in peers]
            ours = found.get("imgate", {})
            cells += [cell(ours.get(key(ways[0]))), cell(ours.get(key(ways[1]))) if len(ways) > 1 else ""]
            lines.append(f"| {case['name']} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def write(out, rows, found):
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    flat = [
        {"row": row, "case": case, "way": way, "proxy": name, **got}
        for name, answers in found.items()
        for (row, case, way), got in answers.items()
    ]
    (folder / "differential.json").write_text(json.dumps(flat, indent=1))
    (folder / "differential.md").write_text(tables(rows, found))


def main():
    given = options()
    end_on_sigterm()
    rows = [row for row in json.loads(ROWS.read_text())["rows"] if given.rows is None or row["row"] in given.rows]
    try:
        with tempfile.TemporaryDirectory(prefix="differential-") as folder:
            found = compare(rows, given, folder)
    except StartError as error:
        sys.exit(f"differential: {error}")
    except KeyboardInterrupt:
        sys.exit("differential: ended before it was done")
    print(tables(rows, found))
    if given.out:
        write(given.out, rows, found)
    deviations = [(key, reason) for key, got in found.get("imgate", {}).items() for reason in got["wrong"]]
    for (row, case, way), reason in deviations:
        print(f"imgate, row {row:02}, {case}, {way}: {reason}")
    sys.exit(1 if deviations else 0)


if __name__ == "__main__":
    main()
