"""Puts `imgate.py` to the test: reads a job per line, writes a result per line (see ../README.md)."""

import base64
import json
import sys
import time

from imgate import Client, Session, derive_key, session_token, signature_headers


def key(secret, info):
    return derive_key(base64.b64decode(secret), info.encode()).hex()


def sign(secret, session, method, url, body, created, nonce):
    session = Session(session, base64.b64decode(secret), 1)
    body = None if body == "-" else base64.b64decode(body)
    headers = signature_headers(session, method, url, body, int(created), nonce)
    return "\t".join([headers.get("Content-Digest", "-"), headers["Signature-Input"], headers["Signature"]])


def token(secret, session, expires, platform):
    return session_token(Session(session, base64.b64decode(secret), int(platform)), int(expires))


def outcome(client, path, value):
    try:
        answer = client.post(path, value)
    except OSError:
        return "error"
    return f"{answer.status} {answer.err_code}"


def post(base_url, secret, session, platform, behind, path, value):
    """Posts twice by a clock that is behind, then makes a token by it."""
    session = Session(session, base64.b64decode(secret), int(platform))
    client = Client(base_url, session, clock=lambda: time.time() - int(behind))
    outcomes = [outcome(client, path, json.loads(value)) for _ in range(2)]
    return "\t".join([*outcomes, client.session_token()])


for line in sys.stdin:
    name, *fields = line.rstrip("\n").split("\t")
    print({"key": key, "sign": sign, "token": token, "post": post}[name](*fields))
