"""Sealed session records, spelled a second time, with AES-GCM from the package `cryptography`.

`python3 identity/vectors/sealed.py` prints `sealed.json`; the output is the same every time, so a diff is
a change of format. `sealed.py open` reads a JSON list of {keys, session_id, record} from standard input
and prints the secrets of each record, or `null` where it does not open. `tests/python.rs` runs both.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEYS = {"k2": bytes(range(32)), "k-1_old": bytes(range(32, 64))}
SECRET = bytes(range(64, 96))
PREVIOUS = bytes(range(96, 128))
SESSION = base64.urlsafe_b64encode(bytes(range(16))).decode().rstrip("=")
SESSION_2 = base64.urlsafe_b64encode(b"\xff" * 16).decode().rstrip("=")
PLAIN = base64.b64encode(SECRET).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def text(value):
    return "" if value is None else str(value)


def associated_data(session, record, slot):
    """Twelve fields, each behind its length; see `seal/bound.rs`."""
    previous = record.get("previous") or {}
    fields = [
        "imgate/v1/seal",
        slot,
        session,
        text(record["v"]),
        record["user_id"],
        record["device_id"],
        text(record["platform_id"]),
        text(record["issued_at"]),
        text(record["expires_at"]),
        text(record["revoked_at"]),
        text(previous.get("until")),
        previous.get("secret", "") if slot == "secret" else "",
    ]
    encoded = [field.encode() for field in fields]
    return b"".join(len(field).to_bytes(4, "big") + field for field in encoded)


def seal_one(session, record, slot, secret, key_id, keys=KEYS):
    data = associated_data(session, record, slot)
    # Not random, so that the vectors stay the same; a real nonce is.
    nonce = hashlib.sha256(data + secret).digest()[:12]
    return f"s1.{key_id}.{b64url(nonce + AESGCM(keys[key_id]).encrypt(nonce, secret, data))}"


def seal(session, fields, secret=SECRET, previous=None, key_id="k2", previous_key_id=None):
    """A whole record; `previous` is (secret, until)."""
    record = {"v": 1, "user_id": None, "secret": None} | fields
    if previous:
        record["previous"] = {"until": previous[1]}
        sealed = seal_one(session, record, "previous.secret", previous[0], previous_key_id or key_id)
        record["previous"] = {"secret": sealed, "until": previous[1]}
    record["secret"] = seal_one(session, record, "secret", secret, key_id)
    return record


def open_one(session, record, slot, sealed, keys):
    scheme, key_id, data = sealed.split(".")
    assert scheme == "s1"
    data = base64.b64decode(data, altchars=b"-_", validate=True)
    return AESGCM(keys[key_id]).decrypt(data[:12], data[12:], associated_data(session, record, slot))


def open_record(case):
    lines = [line.split() for line in case["keys"].splitlines()]
    keys = {key_id: base64.b64decode(key) for key_id, key in lines}
    record, session, secrets = json.loads(case["record"]), case["session_id"], []
    try:
        secrets.append(open_one(session, record, "secret", record["secret"], keys))
        if previous := record.get("previous"):
            secrets.append(open_one(session, record, "previous.secret", previous["secret"], keys))
    except InvalidTag:
        return None
    return [base64.b64encode(secret).decode() for secret in secrets]


def fields(**changes):
    record = {
        "user_id": "u1",
        "device_id": "d1",
        "platform_id": 2,
        "issued_at": 1_700_000_000,
        "expires_at": 1_702_592_000,
        "revoked_at": None,
    }
    return record | changes


def accepted():
    old = (PREVIOUS, 1_700_000_600)
    cases = [
        ("as created", SESSION, seal(SESSION, fields()), None),
        ("revoked", SESSION, seal(SESSION, fields(revoked_at=1_700_000_001)), None),
        ("revoked at zero is not the same as never", SESSION, seal(SESSION, fields(revoked_at=0)), None),
        ("with a previous secret", SESSION, seal(SESSION, fields(), previous=old), PREVIOUS),
        ("previous secret until zero", SESSION, seal(SESSION, fields(), previous=(PREVIOUS, 0)), PREVIOUS),
        ("sealed with another key", SESSION, seal(SESSION, fields(), key_id="k-1_old"), None),
        (
            "its two secrets sealed with two keys",
            SESSION,
            seal(SESSION, fields(), previous=old, previous_key_id="k-1_old"),
            PREVIOUS,
        ),
        ("another session", SESSION_2, seal(SESSION_2, fields(user_id="u2", platform_id=5)), None),
        ("no name for the device", SESSION, seal(SESSION, fields(device_id="")), None),
        ("device beyond ASCII", SESSION, seal(SESSION, fields(device_id='\u4f60\u597d "\U0001f600\u0000\\')), None),
        ("the largest times", SESSION, seal(SESSION, fields(issued_at=0, expires_at=2**64 - 1)), None),
        ("the longest user id", SESSION, seal(SESSION, fields(user_id="~" * 64)), None),
    ]
    return [
        {
            "name": name,
            "session_id": session,
            "record": dump(record),
            "secret": PLAIN,
            "previous": previous and base64.b64encode(previous).decode(),
        }
        for name, session, record, previous in cases
    ]


def dump(record):
    return json.dumps(record, separators=(",", ":"))


def changed(record, path, value):
    """A copy in which the value at the end of the path is another; `None` takes it out."""
    copy = json.loads(dump(record))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


REMOVED = object()


def refused():
    one = seal(SESSION, fields())
    # Everything a record can have, so that every field can be edited.
    full = seal(SESSION, fields(revoked_at=1_700_000_001), previous=(PREVIOUS, 1_700_000_600))
    later = seal(SESSION, fields(revoked_at=1_700_000_001), secret=PREVIOUS, previous=(SECRET, 1_700_000_600))
    split = seal(SESSION, fields(user_id="u", device_id="1d1"))
    current, previous = full["secret"], full["previous"]["secret"]
    edits = [
        ("user", ["user_id"], "u2"),
        ("device", ["device_id"], "d2"),
        ("platform", ["platform_id"], 1),
        ("beginning", ["issued_at"], 1_700_000_001),
        ("end", ["expires_at"], 1_702_592_001),
        ("revoked at another time", ["revoked_at"], 1_700_000_002),
        ("no longer revoked", ["revoked_at"], None),
        ("longer grace", ["previous", "until"], 1_700_000_601),
        ("previous secret taken out", ["previous"], REMOVED),
        ("current secret in both places", ["previous", "secret"], current),
        ("previous secret in both places", ["secret"], previous),
        ("previous secret of another record", ["previous", "secret"], later["previous"]["secret"]),
        ("current secret of another record", ["secret"], later["secret"]),
    ]
    swapped = changed(changed(full, ["secret"], previous), ["previous", "secret"], current)
    sealed = one["secret"]
    flipped = sealed[:-1] + ("A" if sealed[-1] != "A" else "B")
    cases = [(f"edited: {name}", SESSION, changed(full, path, value), "broken_seal") for name, path, value in edits]
    cases += [
        ("current and previous secret swapped", SESSION, swapped, "broken_seal"),
        ("record of another session", SESSION_2, one, "broken_seal"),
        ("a character moved to the next field", SESSION, changed(split, ["user_id"], "u1") | {"device_id": "d1"}, "broken_seal"),
        ("previous secret added", SESSION, one | {"previous": full["previous"]}, "broken_seal"),
        ("another tag", SESSION, one | {"secret": flipped}, "broken_seal"),
        ("another key of ours named", SESSION, one | {"secret": sealed.replace("k2", "k-1_old")}, "broken_seal"),
        ("unknown key", SESSION, one | {"secret": sealed.replace("k2", "k3")}, "broken_seal_unknown_key"),
        ("unknown scheme", SESSION, one | {"secret": sealed.replace("s1", "s2", 1)}, "broken_seal_malformed"),
        ("truncated", SESSION, one | {"secret": sealed[:-4]}, "broken_seal_malformed"),
        ("a byte more", SESSION, one | {"secret": sealed + "AA"}, "broken_seal_malformed"),
        ("padded", SESSION, one | {"secret": sealed + "="}, "broken_seal_malformed"),
        ("a fourth part", SESSION, one | {"secret": sealed + ".A"}, "broken_seal_malformed"),
        ("plain", SESSION, one | {"secret": PLAIN}, "broken_seal_plain"),
        ("previous secret plain", SESSION, changed(full, ["previous", "secret"], PLAIN), "broken_seal_mixed"),
        ("another version", SESSION, one | {"v": 2}, "broken_record_version"),
    ]
    return [{"name": n, "session_id": s, "record": dump(r), "cause": cause} for n, s, r, cause in cases]


def vectors():
    keys = "".join(f"{key_id} {base64.b64encode(key).decode()}\n" for key_id, key in KEYS.items())
    return {"keys": keys, "accepted": accepted(), "refused": refused()}


if __name__ == "__main__":
    if sys.argv[1:] == ["open"]:
        json.dump([open_record(case) for case in json.load(sys.stdin)], sys.stdout)
    else:
        print(json.dumps(vectors(), indent=1, ensure_ascii=True))
