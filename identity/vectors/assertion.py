"""Assertions for a sidecar, made with Ed25519 in plain Python."""

import base64
import hashlib
import json

import ed25519
from rfc9421 import SESSION

SEED = bytes(range(100, 132))
OTHER_SEED = bytes(range(32))
NOW = 1_700_000_000
TYPE = "imgate-assertion+jwt"


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def text(value):
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def pem(name, der):
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN {name}-----\n{lines}\n-----END {name}-----\n"


def thumbprint(seed):
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64(ed25519.public_key(seed))}
    return b64(hashlib.sha256(text(jwk).encode()).digest())


def header(**changes):
    return {"typ": TYPE, "alg": "EdDSA", "kid": thumbprint(SEED)} | changes


def jwt(head, claims, seed=SEED):
    message = b64(text(head).encode()) + "." + b64(text(claims).encode())
    return message + "." + b64(ed25519.sign(seed, message.encode()))


USER = {
    "iss": "imgate", "aud": "sidecar", "sub": "u1", "sid": SESSION, "device": "d1", "platform": 2, "roles": [], "op": "op-1",
    "iat": NOW, "exp": NOW + 30,
}  # fmt: skip
TOKEN_USER = {"iss": "imgate", "aud": "sidecar", "sub": "u1", "platform": 5, "roles": [], "op": "op-2", "iat": NOW, "exp": NOW + 30}
ADMIN = {"iss": "imgate", "aud": "ops", "sub": "alice@example.com", "roles": ["support", "audit"], "op": "op-3", "iat": NOW, "exp": NOW + 30}


def without(name):
    return {key: value for key, value in USER.items() if key != name}


def refused():
    yield "another audience", "audience", jwt(header(), USER | {"aud": "other"})
    yield "audience as a list", "malformed", jwt(header(), USER | {"aud": ["sidecar"]})
    yield "audience as a prefix", "audience", jwt(header(), USER | {"aud": "side"})
    yield "another issuer", "issuer", jwt(header(), USER | {"iss": "imgate2"})
    yield "expired", "expired", jwt(header(), USER | {"iat": NOW - 35, "exp": NOW - 5})
    yield "issued in the future", "not_yet_valid", jwt(header(), USER | {"iat": NOW + 6, "exp": NOW + 36})
    yield "not before the future", "not_yet_valid", jwt(header(), USER | {"nbf": NOW + 6})
    yield "too long a life", "too_long_lived", jwt(header(), USER | {"exp": NOW + 31})
    for name in ["iss", "aud", "sub", "roles", "op", "iat", "exp"]:
        yield f"{name} missing", "malformed", jwt(header(), without(name))
    for value in [str(NOW + 30), NOW + 30.5, -1, None, [], 2**64]:
        yield f"exp is {value!r}", "malformed", jwt(header(), USER | {"exp": value})
    yield "exp twice", "malformed", jwt(header(), text(USER)[:-1] + f',"exp":{NOW + 20}}}')
    yield "session id with stray bits", "malformed", jwt(header(), USER | {"sid": SESSION[:-1] + "9"})
    yield "user id with a colon", "malformed", jwt(header(), USER | {"sub": "a:b"})
    yield "empty subject", "malformed", jwt(header(), ADMIN | {"aud": "sidecar", "sub": ""})
    yield "session without a platform", "malformed", jwt(header(), without("platform"))
    yield "platform 12", "malformed", jwt(header(), USER | {"platform": 12})
    yield "another key", "signature", jwt(header(), USER, OTHER_SEED)
    yield "another key id", "header", jwt(header(kid=thumbprint(OTHER_SEED)), USER)
    yield "another type", "header", jwt(header(typ="JWT"), USER)
    yield "no type", "header", jwt({"alg": "EdDSA", "kid": thumbprint(SEED)}, USER)
    for name, value in [("crit", ["x"]), ("jku", "https://evil.example"), ("x5u", "https://evil.example"), ("b64", False), ("zip", "DEF"), ("cty", "JWT"), ("x", 1)]:
        yield f"header has {name}", "header", jwt(header(**{name: value}), USER)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(ed25519.public_key(OTHER_SEED))}
    yield "header brings its own key", "signature", jwt(header(jwk=jwk), USER, OTHER_SEED)
    yield "header brings the right key", "header", jwt(header(jwk=jwk | {"x": b64(ed25519.public_key(SEED))}), USER)
    yield "alg HS256", "header", jwt(header(alg="HS256"), USER)
    yield "alg ES256", "header", jwt(header(alg="ES256"), USER)
    for name in ["none", "None", "eddsa", ""]:
        yield f"alg `{name}`", "malformed", jwt(header(alg=name), USER)
    good = jwt(header(), USER)
    message, signature = good.rsplit(".", 1)
    yield "signature gone", "signature", message + "."
    raw = base64.urlsafe_b64decode(signature + "==")
    yield "signature of 63 bytes", "signature", f"{message}.{b64(raw[:63])}"
    yield "signature of 65 bytes", "signature", f"{message}.{b64(raw + raw[:1])}"
    yield "signature cut inside a byte", "malformed", good[:-4]
    yield "signature padded", "malformed", good + "=="
    yield "signature with stray bits", "malformed", good[:-1] + chr(ord(good[-1]) + 1)
    yield "part more", "malformed", good + ".x"
    yield "part less", "malformed", message
    yield "bytes after it", "malformed", good + "\n"
    yield "JSON serialisation", "malformed", text({"payload": message.split(".")[1], "signature": signature})
    yield "empty", "malformed", ""
    yield "too long", "too_long", jwt(header(), USER | {"device": "d" * 4000})


def vectors():
    accepted = [("user with a session", USER), ("user with a token alone", TOKEN_USER), ("admin", ADMIN)]
    return {
        "private_pem": pem("PRIVATE KEY", bytes.fromhex("302e020100300506032b657004220420") + SEED),
        "public_pem": pem("PUBLIC KEY", bytes.fromhex("302a300506032b6570032100") + ed25519.public_key(SEED)),
        "kid": thumbprint(SEED),
        "now": NOW,
        "audience": "sidecar",
        "accepted": [{"name": name, "claims": claims, "token": jwt(header(), claims)} for name, claims in accepted],
        "refused": [{"name": name, "cause": cause, "token": token} for name, cause, token in refused()],
    }
