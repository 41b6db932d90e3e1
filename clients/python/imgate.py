"""Calls imgate: signs requests, corrects its clock, makes the token a stock OpenIM SDK carries.

Standard library only, Python 3.10 or newer. Copy this file, then:

    session = Session(id=login["session_id"], secret=base64.b64decode(login["secret"]), platform=5)
    client = Client("https://im.example.com", session)
    answer = client.post("/friend/get_friend_id", {"userID": "u1"})
    openim_sdk.login(user_id, client.session_token())
"""

import base64
import dataclasses
import hashlib
import hmac
import json
import secrets
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

CLOCK_SKEW = 20103
TIMEOUT = 10  # seconds
TOKEN_LIFE = 12 * 3600  # seconds; the gateway takes at most a day, and clocks differ


@dataclasses.dataclass(frozen=True)
class Session:
    """What the login gave us. `secret` is 32 bytes and never leaves the device."""

    id: str
    secret: bytes = dataclasses.field(repr=False)
    platform: int


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer; `body` is OpenIM's envelope. Act on `err_code`: OpenIM sends errors with status 200."""

    status: int
    body: dict
    server_time: int | None = None

    @property
    def err_code(self):
        return self.body.get("errCode")


def derive_key(secret: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt, of which one block is the whole key."""
    pseudorandom = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(pseudorandom, info + b"\x01", hashlib.sha256).digest()


def authority(scheme: str, host: str) -> str:
    """The host as it is signed: lower case, without the default port."""
    default = {"https": ":443", "http": ":80"}[scheme]
    host = host.lower()
    return host[: -len(default)] if host.endswith(default) else host


def signature_headers(session: Session, method: str, url: str, body: bytes | None, created: int, nonce: str) -> dict:
    """The headers that sign a request (RFC 9421). `url` must be sent exactly as it is signed here.

    `body` is None when there is none: what has no bytes has no digest.
    """
    parts = urlsplit(url)
    lines = [
        ("@method", method),
        ("@authority", authority(parts.scheme, parts.netloc)),
        ("@path", parts.path or "/"),
        ("@query", "?" + parts.query),
    ]
    headers = {}
    if body is not None:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers["Content-Digest"] = f"sha-256=:{digest}:"
        lines.append(("content-digest", headers["Content-Digest"]))
    covered = " ".join(f'"{name}"' for name, _ in lines)
    params = f'({covered});created={created};nonce="{nonce}";alg="hmac-sha256";keyid="{session.id}";tag="imgate"'
    base = "".join(f'"{name}": {value}\n' for name, value in lines) + f'"@signature-params": {params}'
    mac = hmac.new(derive_key(session.secret, b"imgate/v1/http"), base.encode(), hashlib.sha256).digest()
    headers["Signature-Input"] = f"sig={params}"
    headers["Signature"] = f"sig=:{base64.b64encode(mac).decode()}:"
    return headers


def session_token(session: Session, expires: int) -> str:
    """What an OpenIM SDK takes as its token. Whoever has it is the user until then: treat it as a secret."""
    signed = f"ig1.{session.id}.{expires}.{session.platform}"
    mac = hmac.new(derive_key(session.secret, b"imgate/v1/sdk"), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


class Client:
    """Speaks for one session to one gateway."""

    def __init__(self, base_url: str, session: Session, clock=time.time):
        self.base_url, self.session, self._clock = base_url, session, clock
        self._offset = 0  # seconds the gateway's clock is ahead of ours, as far as we know

    def now(self) -> int:
        return int(self._clock()) + self._offset

    def session_token(self, life: int = TOKEN_LIFE) -> str:
        return session_token(self.session, self.now() + life)

    def post(self, path: str, value: object) -> Answer:
        """Sends a signed POST. Only a refused clock is tried again, once: such a request was not acted on.

        After a timeout nobody knows whether it was: ask, or send again what may happen twice.
        """
        body = json.dumps(value).encode()
        answer = self._send(path, body)
        if answer.err_code == CLOCK_SKEW and answer.server_time is not None:
            self._offset = answer.server_time - int(self._clock())
            answer = self._send(path, body)
        return answer

    def _send(self, path: str, body: bytes) -> Answer:
        url = self.base_url + path
        # Each attempt is signed anew: a nonce is good once.
        headers = signature_headers(self.session, "POST", url, body, self.now(), secrets.token_urlsafe(16))
        request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers}, method="POST")
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as refusal:  # a status of 400 or more is an answer, too
            response = refusal
        with response:
            return answer_of(response)


def answer_of(response) -> Answer:
    server_time = response.headers.get("X-Server-Time")
    try:
        body = json.load(response)
    except ValueError:  # not from imgate: a proxy on the way, perhaps
        body = {}
    return Answer(response.status, body, int(server_time) if server_time else None)
