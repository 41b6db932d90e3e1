"""What a target must do before it is worth measuring."""

import http.client
import time

from signing import BODY, PATH, SEEN_PATH, headers
from targets import ANSWER


class CheckError(Exception):
    """A target does not do its job."""


def check(target, users):
    """Sends good and bad requests to `target` and looks at what comes back."""
    user = users[0]
    good = user.request()
    _expect(target, "a good request", _send(target, good), (200, ANSWER))
    _check_forwarded(target, user)
    if target.verifies:
        _check_refusals(target, user, good)


def _check_forwarded(target, user):
    status, text = _send(target, user.request(path=SEEN_PATH))
    if status != 200:
        raise CheckError(f"{target.name}: {SEEN_PATH} answered {status}: {text}")
    seen = dict(line.split("=", 1) for line in text.splitlines())
    _expect(target, "the length forwarded", seen["length"], str(len(BODY)))
    if target.verifies:
        # Compared here, so that no token reaches the error text.
        _expect(target, "whether the user's token was forwarded", seen["token"] == user.token, True)
        _expect(target, "whether credentials were left", bool(seen["credentials"]), False)
        _expect(target, "whether an operation id was sent", bool(seen["operationid"]), True)


def _check_refusals(target, user, good):
    now = int(time.time())
    forged = headers(user.request())
    first = forged["Signature"][5]
    forged["Signature"] = forged["Signature"].replace(f":{first}", ":B" if first == "A" else ":A", 1)
    unsigned = {name: value for name, value in headers(user.request()).items() if not name.startswith("Signature")}
    cases = {
        "a replay": _send(target, good),
        "a forged signature": _send(target, user.request(), fields=forged),
        "no signature": _send(target, user.request(), fields=unsigned),
        "an old signature": _send(target, user.request(created=now - 120)),
        "a signature from the future": _send(target, user.request(created=now + 120)),
        "another body": _send(target, user.request(), body=BODY.replace("hello", "HELLO")),
        "another path": _send(target, user.request(path=SEEN_PATH), path=PATH),
    }
    for case, (status, _) in cases.items():
        _expect(target, f"the status of {case}", status, 401)


def _send(target, signed, path=None, fields=None, body=BODY):
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=5)
    try:
        connection.request("POST", path or signed.path, body=body, headers=fields or headers(signed))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _expect(target, what, found, expected):
    if found != expected:
        raise CheckError(f"{target.name}: {what} is {found!r}, expected {expected!r}")
