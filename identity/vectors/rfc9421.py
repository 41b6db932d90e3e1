"""The signature profile, written down a second time."""

import base64
import dataclasses
import hashlib
import hmac

SECRET = bytes(range(32))
KEYS = [SECRET, bytes(range(255, 223, -1)), bytes(32), hashlib.sha256(b"imgate").digest()]
SESSION = base64.urlsafe_b64encode(bytes(range(16))).decode().rstrip("=")
SESSION_2 = base64.urlsafe_b64encode(b"\xff" * 16).decode().rstrip("=")
DEFAULT_ORDER = ["created", "nonce", "alg", "keyid", "tag"]


def http_key(secret):
    """HKDF-SHA256 with an empty salt, one block of output."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, b"imgate/v1/http\x01", hashlib.sha256).digest()


@dataclasses.dataclass(frozen=True)
class Request:
    method: str = "GET"
    authority: str = "im.example.com"
    path: str = "/ping"
    query: str | None = None
    body: str | None = None
    secret: bytes = SECRET
    session: str = SESSION
    created: str = "1700000000"
    nonce: str = "bm9uY2Utbm9uY2Utbm9uY2U"

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    def fields(self):
        """What the other side is told of the request."""
        return {
            "method": self.method,
            "authority": self.authority,
            "path": self.path,
            "query": self.query,
            "body": self.body,
            "secret": base64.b64encode(self.secret).decode(),
        }

    def digest(self):
        if self.body is None:
            return None
        return "sha-256=:" + base64.b64encode(hashlib.sha256(self.body.encode()).digest()).decode() + ":"

    def lines(self):
        """The covered components in order, with their values."""
        lines = [
            ("@method", self.method),
            ("@authority", self.authority),
            ("@path", self.path or "/"),
            ("@query", "?" + (self.query or "")),
        ]
        return lines if self.body is None else lines + [("content-digest", self.digest())]

    def parameters(self):
        """The parameters as they are serialised."""
        return {
            "created": self.created,
            "nonce": f'"{self.nonce}"',
            "alg": '"hmac-sha256"',
            "keyid": f'"{self.session}"',
            "tag": '"imgate"',
        }


def serialise(request, order=DEFAULT_ORDER):
    """The value of `"@signature-params"`."""
    values = request.parameters()
    covered = " ".join(f'"{name}"' for name, _ in request.lines())
    return f"({covered})" + "".join(f";{name}={values[name]}" for name in order)


def signature_base(request, order=DEFAULT_ORDER, params=None, lines=None):
    lines = request.lines() if lines is None else lines
    params = serialise(request, order) if params is None else params
    return "\n".join([f'"{name}": {value}' for name, value in lines] + [f'"@signature-params": {params}'])


def mac(request, base):
    return hmac.new(http_key(request.secret), base.encode(), hashlib.sha256).digest()


def headers(request, label="sig", order=DEFAULT_ORDER, params=None, lines=None):
    """`Signature-Input`, `Signature`, `Content-Digest`, honestly signed whatever the text is."""
    params = serialise(request, order) if params is None else params
    value = base64.b64encode(mac(request, signature_base(request, params=params, lines=lines))).decode()
    return f"{label}={params}", f"{label}=:{value}:", request.digest()
