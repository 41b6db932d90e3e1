"""The token that stock SDKs carry, written down a second time."""

import base64
import hashlib
import hmac

from rfc9421 import KEYS, SECRET, SESSION, SESSION_2, http_key

EXPIRES = 1700043200


def key(secret):
    """HKDF-SHA256 with an empty salt, one block of output."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, b"imgate/v1/sdk\x01", hashlib.sha256).digest()


def sealed(signed, secret=SECRET, derive=key):
    """Appends an honest MAC, whatever the text is."""
    mac = hmac.new(derive(secret), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def vectors():
    return {"accepted": [accept(*case) for case in accepted()], "refused": list(refused())}


def accepted():
    yield "a day's token on a phone", SECRET, SESSION, EXPIRES, 2
    yield "another secret", KEYS[1], SESSION, EXPIRES, 2
    yield "another session", SECRET, SESSION_2, EXPIRES, 2
    yield "first platform", SECRET, SESSION, EXPIRES, 1
    yield "web", SECRET, SESSION, EXPIRES, 5
    yield "last platform, of two digits", SECRET, SESSION, EXPIRES, 11
    yield "expires at zero", SECRET, SESSION, 0, 2
    yield "expires in 15 digits", SECRET, SESSION, 999999999999999, 11
    yield "secret of zeros", KEYS[2], SESSION, EXPIRES, 2
    yield "secret from a hash", KEYS[3], SESSION_2, EXPIRES, 9


def accept(name, secret, session, expires, platform):
    return {
        "name": name,
        "secret": base64.b64encode(secret).decode(),
        "key": key(secret).hex(),
        "session_id": session,
        "expires": expires,
        "platform_id": platform,
        "token": sealed(f"ig1.{session}.{expires}.{platform}", secret),
    }


def refused():
    """Where only the form is wrong the MAC is right, so that nothing but the form can be the reason."""

    def case(name, cause, token, secret=SECRET):
        return {"name": name, "cause": cause, "secret": base64.b64encode(secret).decode(), "token": token}

    signed = f"ig1.{SESSION}.{EXPIRES}.2"
    good = sealed(signed)
    mac = good.rsplit(".", 1)[1]

    yield case("nothing", "form", "")
    yield case("dots", "form", "....")
    yield case("a JWT", "form", "eyJhbGciOiJIUzI1NiJ9.eyJVc2VySUQiOiJ1MSJ9.c2lnbmF0dXJl")
    for version in ["ig2", "IG1", "ig", "", "ig11", " ig1"]:
        yield case(f"version `{version}`", "form", sealed(signed.replace("ig1", version, 1)))
    yield case("a part too few", "form", sealed(f"ig1.{SESSION}.{EXPIRES}"))
    yield case("a part too many", "form", sealed(f"ig1.{SESSION}.{EXPIRES}.2.0"))
    yield case("no MAC", "form", signed)

    for name, session in [
        ("too short", SESSION[:-1]), ("too long", SESSION + "A"), ("with stray bits", SESSION[:-1] + "9"), ("empty", ""),
        ("in standard base64", "/" + SESSION[1:]), ("padded", SESSION + "=="),
    ]:  # fmt: skip
        yield case(f"session {name}", "session", sealed(f"ig1.{session}.{EXPIRES}.2"))
    for name, expires in [
        ("negative", "-1700043200"), ("with a plus", "+1700043200"), ("with a leading zero", "01700043200"), ("two zeros", "00"),
        ("empty", ""), ("of 16 digits", "1000000000000000"), ("with an exponent", "1e9"), ("in hex", "0x6553f100"), ("with a space", " 1700043200"),
    ]:  # fmt: skip
        yield case(f"expiry {name}", "expiry", sealed(f"ig1.{SESSION}.{expires}.2"))
    for name, platform in [
        ("zero", "0"), ("beyond the last", "12"), ("of admins", "10"), ("with a leading zero", "02"), ("with a plus", "+2"),
        ("negative", "-2"), ("empty", ""), ("wrapped around", "258"), ("a name", "Web"),
    ]:  # fmt: skip
        yield case(f"platform {name}", "platform", sealed(f"ig1.{SESSION}.{EXPIRES}.{platform}"))
    for name, text in [
        ("empty", ""), ("padded", mac + "="), ("too short", mac[:-1]), ("too long", mac + "A"), ("with stray bits", stray(mac)),
        ("in standard base64", "+/" + mac[2:]), ("followed by a space", mac + " "), ("in hex", "00" * 20),
    ]:  # fmt: skip
        yield case(f"MAC {name}", "mac", f"{signed}.{text}")
    yield case("90 bytes", "too_long", sealed(f"ig1.{SESSION}.1000000000000000.11"))

    yield case("MAC of another key", "mismatch", good, KEYS[1])
    yield case("MAC by the key for requests", "mismatch", sealed(signed, derive=http_key))
    yield case("another session under the MAC", "mismatch", f"ig1.{SESSION_2}.{EXPIRES}.2.{mac}")
    yield case("a later expiry under the MAC", "mismatch", f"ig1.{SESSION}.{EXPIRES + 1}.2.{mac}")
    yield case("another platform under the MAC", "mismatch", f"ig1.{SESSION}.{EXPIRES}.1.{mac}")
    yield case("MAC of zeros", "mismatch", f"{signed}.{'A' * 43}")


def stray(mac):
    """The same 32 bytes with one of the two unused bits set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return mac[:-1] + alphabet[alphabet.index(mac[-1]) | 1]
