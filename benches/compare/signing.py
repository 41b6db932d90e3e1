"""Users of the comparison, and their requests, signed in imgate's profile.

The profile itself is spelled in `identity/vectors/rfc9421.py`; here it is only made fast: the HMAC of
what all requests of a user share is kept, and each request adds its nonce.
"""

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "identity" / "vectors"))

import rfc9421  # noqa: E402

AUTHORITY = "im.example.com"
PATH = "/msg/newest_seq"
SEEN_PATH = "/msg/seen"
PLATFORM = 2
BODY = (
    '{"sendID":"user_1","recvID":"user_2","groupID":"","senderPlatformID":1,'
    '"content":{"content":"hello, this is a chat message of an ordinary length for the benchmark"},'
    '"contentType":101,"sessionType":1,"isOnlineOnly":false,"notOfflinePush":false}'
)
# Bytes of a nonce. LuaJIT hashes only a few bytes of a long string: both ends, the middle and the first
# quarter. With nonces of 24 bytes the middle of `Signature-Input` falls on the nonce; with 16 it falls
# on what all requests share, and nginx + Lua needs twice the time for the collisions.
_NONCE_BYTES = 24
_NONCE = "N" * 32
_MAC = "M" * 44


def _base64url(raw):
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclasses.dataclass(frozen=True)
class User:
    """One user with one session."""

    name: str
    session: str
    secret: bytes
    token: str

    @staticmethod
    def random(number, now):
        name = f"user_{number}"
        claims = {"UserID": name, "PlatformID": PLATFORM, "exp": now + 86400, "nbf": now, "iat": now}
        parts = [b'{"alg":"HS256","typ":"JWT"}', json.dumps(claims, separators=(",", ":")).encode(), os.urandom(32)]
        token = ".".join(_base64url(part) for part in parts)
        return User(name, _base64url(os.urandom(16)), os.urandom(32), token)

    def record(self, now):
        """The session record, as the backend writes it to Redis."""
        record = {
            "v": 1,
            "user_id": self.name,
            "secret": base64.b64encode(self.secret).decode(),
            "device_id": "d1",
            "platform_id": PLATFORM,
            "issued_at": now,
            "expires_at": now + 86400,
            "revoked_at": None,
        }
        return json.dumps(record, separators=(",", ":"))

    def request(self, path=PATH, created=None, body=BODY, nonce=None):
        """What this user signs."""
        return rfc9421.Request(
            method="POST",
            authority=AUTHORITY,
            path=path,
            body=body,
            secret=self.secret,
            session=self.session,
            created=str(int(time.time()) if created is None else created),
            nonce=nonce or _base64url(os.urandom(_NONCE_BYTES)),
        )


def headers(signed):
    """The headers of a request, twelve with `Content-Length`, as a mobile client sends them."""
    signature_input, signature, digest = rfc9421.headers(signed)
    return {
        "Host": AUTHORITY,
        "Connection": "Keep-Alive",
        "User-Agent": "okhttp/4.12.0",
        "Accept": "application/json",
        "Accept-Language": "en-GB,en;q=0.9",
        "Accept-Encoding": "gzip",
        "Signature-Input": signature_input,
        "Signature": signature,
        "Content-Digest": digest,
        "Cookie": "device=7f2d4c6b8a1e3f50; theme=dark",
        "Content-Type": "application/json",
    }


def _lua_string(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
    return f'"{escaped}"'


def _pieces(user, created):
    """The text of a request around its nonce, session and MAC."""
    request = user.request(created=created, nonce=_NONCE)
    fields = dict(headers(request))
    fields["Signature"] = f"sig=:{_MAC}:"
    fields["Content-Length"] = str(len(BODY))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    text = f"POST {PATH} HTTP/1.1\r\n{head}\r\n{BODY}"
    # For the same reason wrk would take minutes to load requests that do not differ in their middle.
    middle = len(text) // 2
    if not text.index(_MAC) + 4 < middle < text.index(_MAC) + len(_MAC) - 4:
        raise AssertionError("the MAC must lie in the middle of a request")
    before, rest = text.split(_NONCE)
    middle, rest = rest.split(user.session)
    after, end = rest.split(_MAC)
    return before, middle, after, end


def _macs(user, created):
    """The keyed hash over all that precedes the nonce in the signature base, and what follows it."""
    base = rfc9421.signature_base(user.request(created=created, nonce=_NONCE))
    before, after = base.split(_NONCE)
    return hmac.new(rfc9421.http_key(user.secret), before.encode(), hashlib.sha256), after.encode()


def write_list(path, users, count):
    """Writes `count` requests, signed now, users in turn, for `peers/wrk.lua`."""
    created = int(time.time())
    keyed = [(user.session, *_macs(user, created)) for user in users]
    noise = base64.urlsafe_b64encode(os.urandom(_NONCE_BYTES * count))
    with open(path, "w", encoding="ascii") as file:
        file.writelines(_lua_string(piece) + "\n" for piece in _pieces(users[0], created))
        for i in range(count):
            session, state, after = keyed[i % len(keyed)]
            nonce = noise[32 * i : 32 * i + 32]
            mac = state.copy()
            mac.update(nonce + after)
            value = base64.b64encode(mac.digest())
            file.write(f"{nonce.decode()} {session} {value.decode()}\n")
