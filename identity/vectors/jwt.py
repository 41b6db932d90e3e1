"""Tokens of admins and key sets, good and bad, each with what it is about. In the manner of Wycheproof.

The list follows RFC 8725. `make.py` writes what is here to `jwt.json`.
"""

import base64
import hashlib
import hmac

import ed25519
import p256
import rsa
from assertion import b64, pem, text

NOW = 1_700_000_000
ISSUER = "https://id.example.com"
AUDIENCE = "imgate-admin"
LEEWAY = 10
MAX_AGE = 3600

ED_SEED, ED_OTHER_SEED = bytes(range(50, 82)), bytes(range(60, 92))
EC_SECRET = int.from_bytes(hashlib.sha256(b"imgate vectors: P-256").digest(), "big") % p256.N
RSA = rsa.Key(b"imgate vectors: RSA", 2048)
SECRET = "a secret of the vectors, which is 48 bytes long.."
OPENIM_SECRET = "openIM123, and more of it so that it is long enough"


def number(value, length=None):
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def ed_jwk(seed=ED_SEED, **more):
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(ed25519.public_key(seed))} | more


def ec_jwk(secret=EC_SECRET, **more):
    x, y = p256.public_key(secret)
    return {"kty": "EC", "crv": "P-256", "x": number(x, 32), "y": number(y, 32)} | more


def rsa_jwk(key=RSA, **more):
    return {"kty": "RSA", "n": number(key.n), "e": number(key.e)} | more


def public_pem(key):
    """SubjectPublicKeyInfo of an RSA key, as `openssl pkey -pubout` writes it."""

    def der(tag, content):
        size = len(content)
        length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
        return bytes([tag]) + length + content

    def integer(value):
        return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    numbers = der(0x30, integer(key.n) + integer(key.e))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    return pem("PUBLIC KEY", der(0x30, algorithm + der(0x03, b"\x00" + numbers)))


def ed_sign(message, seed=ED_SEED):
    return ed25519.sign(seed, message)


def ec_sign(message):
    r, s = p256.sign(EC_SECRET, message)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def hs_sign(message, secret=SECRET):
    return hmac.new(secret.encode(), message, hashlib.sha256).digest()


CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice@example.com", "roles": ["im-admin", "audit"], "iat": NOW - 60, "exp": NOW + 600}
ED = {"alg": "EdDSA", "kid": "ed-1", "typ": "JWT"}
EC = {"alg": "ES256", "kid": "ec-1", "typ": "JWT"}
RS = {"alg": "RS256", "kid": "rs-1", "typ": "JWT"}
HS = {"alg": "HS256", "typ": "JWT"}


def jwt(header=ED, claims=CLAIMS, sign=ed_sign):
    message = b64(text(header).encode()) + "." + b64(claims if isinstance(claims, bytes) else text(claims).encode())
    return message + "." + b64(sign(message.encode()))


def without(name, members=CLAIMS):
    return {key: value for key, value in members.items() if key != name}


# Named sets that tokens are checked against. `secret` is HS256's, all others are JWKS.
KEYS = {
    "all": {"keys": [ed_jwk(kid="ed-1", use="sig", alg="EdDSA"), ec_jwk(kid="ec-1", use="sig", alg="ES256"), rsa_jwk(kid="rs-1", use="sig", alg="RS256"), ed_jwk(ED_OTHER_SEED, kid="ed-2")]},
    "ed_unnamed": {"keys": [ed_jwk()]},
    "ed_named": {"keys": [ed_jwk(kid="ed-1")]},
    "rs_only": {"keys": [rsa_jwk(kid="rs-1")]},
    "secret": SECRET,
}


def case(comment, token, cause=None, keys="all", typ=None, claims=None):
    found = {"comment": comment, "keys": keys, "type": typ, "cause": cause, "token": token}
    if cause is None:
        claims = claims or CLAIMS
        found |= {"subject": claims["sub"], "roles": claims.get("roles", []), "expires_at": claims["exp"]}
    return found


def accepted():
    yield case("EdDSA", jwt())
    yield case("ES256", jwt(EC, sign=ec_sign))
    yield case("RS256", jwt(RS, sign=RSA.sign))
    yield case("HS256 under a secret", jwt(HS, sign=hs_sign), keys="secret")
    yield case("the second key of an algorithm, as in a rotation", jwt(ED | {"kid": "ed-2"}, sign=lambda m: ed_sign(m, ED_OTHER_SEED)))
    yield case("no kid, and one key without a name", jwt(without("kid", ED)), keys="ed_unnamed")
    yield case("no kid, and one key with a name", jwt(without("kid", ED)), keys="ed_named")
    yield case("no typ", jwt(without("typ", ED)))
    yield case("typ in lower case", jwt(ED | {"typ": "jwt"}))
    yield case("typ with application/", jwt(ED | {"typ": "application/JWT"}))
    yield case("access token where one is asked for", jwt(ED | {"typ": "at+jwt"}), typ="at+jwt")
    yield case("access token with application/", jwt(ED | {"typ": "Application/AT+JWT"}), typ="at+jwt")
    yield case("type of the operator's own", jwt(ED | {"typ": "example-admin+jwt"}), typ="example-admin+jwt")
    yield case("unknown header parameters are ignored, as RFC 7515 wants it", jwt(ED | {"x5t": "AAAA", "example": {"a": [1]}}))
    for comment, claims in [
        ("audience in a list", CLAIMS | {"aud": ["other", AUDIENCE]}),
        ("audience alone in a list", CLAIMS | {"aud": [AUDIENCE]}),
        ("no roles", without("roles")),
        ("roles empty", CLAIMS | {"roles": []}),
        ("role beyond ASCII", CLAIMS | {"roles": ["\u7ba1\u7406\u5458"]}),
        ("nbf is past", CLAIMS | {"nbf": NOW - 60}),
        ("nbf within the leeway", CLAIMS | {"nbf": NOW + LEEWAY}),
        ("iat within the leeway", CLAIMS | {"iat": NOW + LEEWAY}),
        ("exp within the leeway", CLAIMS | {"exp": NOW - LEEWAY + 1}),
        ("as long a life as may be", CLAIMS | {"iat": NOW - 600, "exp": NOW - 600 + MAX_AGE}),
        ("unknown claims are ignored", CLAIMS | {"jti": "1", "scope": "a b", "example": {"roles": ["im-root"], "f": 1.5, "n": None}}),
        ("longest subject", CLAIMS | {"sub": "s" * 255}),
        ("64 roles of 128 bytes, and still below 16 KiB", CLAIMS | {"roles": [f"{i:064}" for i in range(64)]}),
    ]:
        yield case(comment, jwt(claims=claims), claims=claims)
    yield case("whitespace in the JSON", jwt(claims=b" " + text(CLAIMS).encode() + b"\r\n\t"))


def header_refused():
    for name in ["none", "None", "NONE", "nOnE", ""]:
        message = b64(text(ED | {"alg": name}).encode()) + "." + b64(text(CLAIMS).encode())
        yield f"alg `{name}` without a signature", "jwt_alg", message + "."
        yield f"alg `{name}` with the signature of another", "jwt_alg", jwt(ED | {"alg": name})
    for name in ["eddsa", "EDDSA", "Ed25519", "ES256", "ES256K", "RS256", "PS256", "HS256", "EdDSA ", "EdDSA\u0000"]:
        yield f"alg `{name}` for an Ed25519 key", "jwt_alg", jwt(ED | {"alg": name})
    yield "alg EdDSA for a P-256 key", "jwt_alg", jwt(EC | {"alg": "EdDSA"}, sign=ec_sign)
    yield "alg RS384 for an RSA key", "jwt_alg", jwt(RS | {"alg": "RS384"}, sign=RSA.sign)
    yield "alg PS256 for an RSA key", "jwt_alg", jwt(RS | {"alg": "PS256"}, sign=RSA.sign)
    confused = lambda secret: lambda m: hmac.new(secret, m, hashlib.sha256).digest()
    yield "HS256 with the RSA key in PEM as its secret", "jwt_alg", jwt(HS | {"kid": "rs-1"}, sign=confused(public_pem(RSA).encode()))
    yield "HS256 with the modulus as its secret", "jwt_alg", jwt(HS | {"kid": "rs-1"}, sign=confused(RSA.n.to_bytes(256, "big")))
    yield "HS256 with the Ed25519 key as its secret", "jwt_alg", jwt(HS | {"kid": "ed-1"}, sign=confused(ed25519.public_key(ED_SEED)))
    yield "HS256 with the JWK as its secret", "jwt_alg", jwt(HS | {"kid": "ed-1"}, sign=confused(text(ed_jwk()).encode()))
    for value in [None, 1, ["EdDSA"], {"alg": "EdDSA"}]:
        yield f"alg is {text(value)}", "jwt_header", jwt(ED | {"alg": value})
    yield "alg missing", "jwt_header", jwt(without("alg", ED))
    for kid in ["../../../../dev/null", "x' UNION SELECT 'k", "https://evil.example.com/k", "ed-1\u0000", "ED-1", "ed-1 ", "ed", "*"]:
        yield f"kid `{kid}` finds nothing", "jwt_kid_unknown", jwt(ED | {"kid": kid})
    yield "kid of another key", "jwt_signature", jwt(ED | {"kid": "ed-2"})
    yield "kid of a key of another algorithm", "jwt_alg", jwt(ED | {"kid": "rs-1"})
    yield "no kid, and several keys", "jwt_kid_missing", jwt(without("kid", ED))
    for value in [None, 1, [], "", "k" * 257]:
        yield f"kid is {text(value)[:20] or 'empty'}", "jwt_header", jwt(ED | {"kid": value})
    evil, known = ed_jwk(ED_OTHER_SEED), ed_jwk()
    for name, value in [("jku", "https://evil.example.com/jwks"), ("x5u", "https://evil.example.com/x5u"), ("x5c", ["MIIB"]), ("crit", ["exp"]), ("crit", []), ("b64", False), ("b64", True), ("zip", "DEF"), ("cty", "JWT"), ("cty", "jwt"), ("enc", "A256GCM")]:
        yield f"{name} {text(value)} in the header", f"jwt_{name}_in_header", jwt(ED | {name: value})
    yield "a key in the header, which signed", "jwt_jwk_in_header", jwt(ED | {"jwk": evil}, sign=lambda m: ed_sign(m, ED_OTHER_SEED))
    yield "a key in the header, the known one", "jwt_jwk_in_header", jwt(ED | {"jwk": known})
    yield "b64 with crit", "jwt_crit_in_header", jwt(ED | {"b64": False, "crit": ["b64"]})
    for comment, head in [
        ("alg twice", '{"alg":"none","alg":"EdDSA","kid":"ed-1"}'),
        ("alg twice, once escaped", '{"alg":"EdDSA","\\u0061lg":"none","kid":"ed-1"}'),
        ("kid twice", '{"alg":"EdDSA","kid":"ed-2","kid":"ed-1"}'),
        ("a member of a member twice", '{"alg":"EdDSA","kid":"ed-1","x":{"y":1,"y":2}}'),
        ("header is a list", "[]"),
        ("header is a text", '"EdDSA"'),
        ("header is empty", ""),
        ("header is cut", '{"alg":"EdDSA","kid":"ed-1"'),
        ("header and more", text(ED) + "{}"),
        ("header with a comment", '{"alg":"EdDSA",/**/"kid":"ed-1"}'),
        ("header with a byte order mark", "\ufeff" + text(ED)),
    ]:
        yield comment, "jwt_header", jwt(head)
    yield "typ of an access token", "jwt_type", jwt(ED | {"typ": "at+jwt"})
    yield "typ of an assertion for a sidecar", "jwt_type", jwt(ED | {"typ": "imgate-assertion+jwt"})
    yield "typ with another prefix", "jwt_type", jwt(ED | {"typ": "text/JWT"})
    yield "typ empty", "jwt_type", jwt(ED | {"typ": ""})
    yield "typ is a number", "jwt_header", jwt(ED | {"typ": 1})


def claims_refused():
    for name in ["exp", "iat", "iss", "aud", "sub"]:
        yield f"{name} missing", f"jwt_{name}_missing", without(name)
    for name in ["exp", "iat", "nbf"]:
        for value in [str(NOW + 60), NOW + 0.5, float(NOW), -1, -NOW, None, True, [NOW], {}, 2**63, 2**64, 253_402_300_800, NOW * 1000]:
            yield f"{name} is {text(value)}", f"jwt_{name}_malformed", CLAIMS | {name: value}
        for literal in ["1e400", "-1e400", "1.7e9", "1700000000.0", "-0", "9" * 400]:
            claims = text(CLAIMS | {name: 0}).replace(f'"{name}":0', f'"{name}":{literal}')
            cause = "jwt_claims" if "e400" in literal or "99" in literal else f"jwt_{name}_malformed"
            yield f"{name} is {literal[:20]}", cause, claims
        for literal in ["NaN", "Infinity", "0x10", "01700000000", "+1700000000"]:
            yield f"{name} is {literal}", "jwt_claims", text(CLAIMS | {name: 0}).replace(f'"{name}":0', f'"{name}":{literal}')
    yield "expired to the second", "jwt_expired", CLAIMS | {"exp": NOW - LEEWAY}
    yield "expired at the epoch", "jwt_expired", CLAIMS | {"exp": 0}
    yield "nbf ahead", "jwt_not_yet_valid", CLAIMS | {"nbf": NOW + LEEWAY + 1}
    yield "iat ahead", "jwt_not_yet_issued", CLAIMS | {"iat": NOW + LEEWAY + 1}
    yield "lives a second too long", "jwt_too_long_lived", CLAIMS | {"exp": CLAIMS["iat"] + MAX_AGE + 1}
    yield "lives for ever", "jwt_too_long_lived", CLAIMS | {"exp": 253_402_300_799}
    for issuer in [ISSUER + "/", ISSUER[:-1], ISSUER + ".evil.example", ISSUER.upper(), " " + ISSUER, "", ISSUER + "\u0000"]:
        yield f"issuer `{issuer}`", "jwt_issuer", CLAIMS | {"iss": issuer}
    for value in [None, 1, [ISSUER], {}]:
        yield f"issuer is {text(value)}", "jwt_iss_malformed", CLAIMS | {"iss": value}
    for audience in ["other", AUDIENCE + "s", AUDIENCE[:-1], AUDIENCE.upper(), "", [], ["other"], [AUDIENCE + "s", ""], f"other {AUDIENCE}", "*"]:
        yield f"audience {text(audience) or 'empty'}", "jwt_audience", CLAIMS | {"aud": audience}
    for value in [None, 1, {AUDIENCE: 1}, [1], [[AUDIENCE]], [AUDIENCE, None], [AUDIENCE] * 17]:
        yield f"audience is {text(value)[:40]}", "jwt_aud_malformed", CLAIMS | {"aud": value}
    for value in ["", None, 1, ["a"], "s" * 256, "a\nb", "a\u0000", "\u0085"]:
        yield f"subject is {text(value)[:20] or 'empty'}", "jwt_sub_malformed", CLAIMS | {"sub": value}
    for value in ["im-admin", None, {}, [1], [None], [""], [["im-admin"]], ["a\u0000b"], ["r" * 129], ["r"] * 65]:
        yield f"roles is {text(value)[:20]}", "jwt_roles_malformed", CLAIMS | {"roles": value}
    good = text(CLAIMS)[:-1]
    for member in [f'"exp":{NOW + 600}', '"sub":"root"', '"\\u0073ub":"root"', '"aud":"other"', '"iss":"x"', '"roles":["root"]', f'"iat":{NOW}', '"x":{"a":1,"a":1}', '"x":[{"a":1,"a":2}]']:
        yield f"twice: {member}", "jwt_claims", f"{good},{member}}}"
    for comment, claims in [
        ("claims are a list", text([CLAIMS])),
        ("claims are a text", '"x"'),
        ("claims are empty", ""),
        ("claims are cut", good),
        ("claims and more", good + "}{}"),
        ("claims end in a NUL", good + "}\u0000"),
        ("claims nested too deep", good + ',"x":' + "[" * 1000 + "]" * 1000 + "}"),
        ("a lone surrogate", good + ',"x":"\\ud800"}'),
        ("claims are a token, that is a nested one", jwt()),
    ]:
        yield comment, "jwt_claims", claims
    yield "claims are not UTF-8", "jwt_claims", good.encode() + b',"x":"\xff"}'


def form_refused():
    good = jwt()
    head, claims, signature = good.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    yield "empty", "jwt_parts", ""
    yield "two dots alone", "jwt_header", ".."
    yield "a part less", "jwt_parts", f"{head}.{claims}"
    yield "a part more", "jwt_parts", good + ".x"
    yield "a dot more at the end", "jwt_parts", good + "."
    yield "five parts, as an encrypted token has", "jwt_parts", f"{good}.x.y"
    yield "JSON serialisation, flattened", "jwt_parts", text({"protected": head, "payload": claims, "signature": signature})
    yield "JSON serialisation, general", "jwt_parts", text({"payload": claims, "signatures": [{"protected": head, "signature": signature}]})
    for where, parts in [("header", (head + "=", claims, signature)), ("claims", (head, claims + "==", signature)), ("signature", (head, claims, signature + "=="))]:
        yield f"padding behind the {where}", "jwt_encoding", ".".join(parts)
    yield "stray bits in the signature", "jwt_encoding", good[:-1] + chr(ord(good[-1]) + 1)
    yield "signature in plain base64", "jwt_encoding", f"{head}.{claims}.{base64.b64encode(b'?>~' * 22)[:86].decode()}"
    yield "a line break at the end", "jwt_encoding", good + "\n"
    yield "a space in front", "jwt_encoding", " " + good
    yield "a line break inside", "jwt_encoding", f"{head}.{claims[:10]}\n{claims[10:]}.{signature}"
    yield "a letter beyond ASCII", "jwt_encoding", f"{head}.{claims}.\u00e9{signature}"
    yield "a percent escape", "jwt_encoding", f"{head}.{claims}%3D.{signature}"
    yield "longer than 8 KiB", "jwt_too_long", jwt(claims=CLAIMS | {"x": "x" * 6000})
    yield "longer than 8 KiB and nothing", "jwt_too_long", "." * 8193
    yield "signature gone", "jwt_signature", f"{head}.{claims}."
    yield "signature of 63 bytes", "jwt_signature", f"{head}.{claims}.{b64(raw[:63])}"
    yield "bytes behind the signature", "jwt_signature", f"{head}.{claims}.{b64(raw + b'x')}"
    yield "signature of zeros", "jwt_signature", f"{head}.{claims}.{b64(bytes(64))}"
    raised = int.from_bytes(raw[32:], "little") + ed25519.L
    yield "s of EdDSA beyond the order", "jwt_signature", f"{head}.{claims}.{b64(raw[:32] + raised.to_bytes(32, 'little'))}"
    yield "another claim under the same signature", "jwt_signature", f"{head}.{b64(text(CLAIMS | {'sub': 'root'}).encode())}.{signature}"
    yield "another header under the same signature", "jwt_signature", f"{b64(text(ED | {'x': 1}).encode())}.{claims}.{signature}"
    yield "the same claims in another order", "jwt_signature", f"{head}.{b64(text(dict(reversed(CLAIMS.items()))).encode())}.{signature}"
    yield "another key", "jwt_signature", jwt(sign=lambda m: ed_sign(m, bytes(32)))


def curve_refused():
    good = jwt(EC, sign=ec_sign)
    message = good.rsplit(".", 1)[0]
    r, s = p256.sign(EC_SECRET, message.encode())

    def with_numbers(r, s):
        return f"{message}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    for comment, token in [
        ("r and s zero, the psychic signature", with_numbers(0, 0)),
        ("r zero", with_numbers(0, s)),
        ("s zero", with_numbers(r, 0)),
        ("r and s the order", with_numbers(p256.N, p256.N)),
        ("r one and s one", with_numbers(1, 1)),
        ("r and s swapped", with_numbers(s, r)),
        ("all bits set", with_numbers(2**256 - 1, 2**256 - 1)),
    ]:
        yield "ES256: " + comment, "jwt_signature", token

    def integer(value):
        content = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return bytes([0x02, len(content)]) + content

    der = integer(r) + integer(s)
    yield "ES256: DER instead of two numbers", "jwt_signature", f"{message}.{b64(bytes([0x30, len(der)]) + der)}"
    yield "ES256: a zero in front", "jwt_signature", f"{message}.{b64(bytes(1) + r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
    yield "ES256: signature gone", "jwt_signature", message + "."


def rsa_refused():
    good = jwt(RS, sign=RSA.sign)
    message, signature = good.rsplit(".", 1)
    raw = base64.urlsafe_b64decode(signature + "==")
    value = int.from_bytes(raw, "big")
    for comment, changed in [
        ("gone", b""),
        ("zero", bytes(256)),
        ("one", bytes(255) + b"\x01"),
        ("a byte short", raw[:-1]),
        ("a zero in front", b"\x00" + raw),
        ("a byte behind", raw + b"\x00"),
        ("negated", (RSA.n - value).to_bytes(256, "big")),
        ("of another key", rsa.Key(b"imgate vectors: another RSA", 2048).sign(message.encode())),
    ]:
        yield "RS256: signature " + comment, "jwt_signature", f"{message}.{b64(changed)}"
    if (value + RSA.n).bit_length() <= 2048:
        yield "RS256: signature plus the modulus", "jwt_signature", f"{message}.{b64((value + RSA.n).to_bytes(256, 'big'))}"


def openim_token(secret):
    """As OpenIM mints it for its admin: HS256, no kid, no audience. Source: openimsdk/tools tokenverify."""
    claims = {"UserID": "imAdmin", "PlatformID": 10, "exp": NOW + 600, "nbf": NOW - 300, "iat": NOW}
    return jwt(HS, claims, lambda m: hs_sign(m, secret))


def elsewhere_refused():
    yield case("OpenIM's own token against a JWKS", openim_token(OPENIM_SECRET), "jwt_kid_missing")
    yield case("OpenIM's own token against one key", openim_token(OPENIM_SECRET), "jwt_alg", keys="ed_unnamed")
    yield case("OpenIM's own token against a secret", openim_token(OPENIM_SECRET), "jwt_signature", keys="secret")
    yield case("OpenIM's own token, should the secrets be the same", openim_token(SECRET), "jwt_iss_missing", keys="secret")
    yield case("plain token where an access token is asked for", jwt(), "jwt_type", typ="at+jwt")
    yield case("no typ where an access token is asked for", jwt(without("typ", ED)), "jwt_type", typ="at+jwt")
    yield case("a kid where the key has no name", jwt(), "jwt_kid_unknown", keys="ed_unnamed")
    yield case("a kid where there is a secret", jwt(HS | {"kid": "hs-1"}, sign=hs_sign), "jwt_kid_unknown", keys="secret")
    yield case("HS256 with the PEM as its secret, one RSA key, no kid", jwt(HS, sign=lambda m: hs_sign(m, public_pem(RSA))), "jwt_alg", keys="rs_only")
    for name in ["none", "EdDSA", "HS384", "HS512", "hs256"]:
        yield case(f"alg `{name}` under a secret", jwt(HS | {"alg": name}, sign=hs_sign), "jwt_alg", keys="secret")
    short = jwt(HS, sign=lambda m: hs_sign(m)[:16])
    yield case("HS256 signature cut to half", short, "jwt_signature", keys="secret")
    yield case("HS256 signature gone", jwt(HS, sign=lambda m: b""), "jwt_signature", keys="secret")
    yield case("HS256 under another secret", jwt(HS, sign=lambda m: hs_sign(m, "")), "jwt_signature", keys="secret")


def tokens():
    yield from accepted()
    for comment, cause, token in [*header_refused(), *form_refused(), *curve_refused(), *rsa_refused()]:
        yield case(comment, token, cause)
    for comment, cause, claims in claims_refused():
        yield case(comment, jwt(claims=claims), cause)
    yield from elsewhere_refused()


def key_sets():
    """Comment, the set as text or object, and the names of the keys that are kept or why the set is refused."""
    one = ed_jwk(kid="ed-1")
    encrypting = rsa_jwk(kid="enc-1", use="enc", alg="RSA-OAEP")
    yield "one key", {"keys": [one]}, ["ed-1"]
    yield "members beside `keys` are ignored", {"keys": [one], "x": 1}, ["ed-1"]
    yield "one of each", KEYS["all"], ["ed-1", "ec-1", "rs-1", "ed-2"]
    yield "one key without a name", {"keys": [ed_jwk()]}, ["unnamed"]
    yield "key_ops of a verifier", {"keys": [one | {"key_ops": ["verify"]}]}, ["ed-1"]
    yield "a key for encryption is passed over", {"keys": [encrypting, one]}, ["ed-1"]
    yield "a key for another operation is passed over", {"keys": [one | {"key_ops": ["encrypt"], "kid": "x"}, one]}, ["ed-1"]
    yield "other types and curves are passed over", {"keys": [{"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA", "kid": "a"}, {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "kid": "b"}, {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "c"}, one]}, ["ed-1"]
    yield "an RSA key for PS256 is passed over", {"keys": [rsa_jwk(kid="ps", alg="PS256"), one]}, ["ed-1"]
    yield "a name is shared with a key that is passed over", {"keys": [encrypting | {"kid": "ed-1"}, one]}, ["ed-1"]
    yield "certificates beside a key are ignored", {"keys": [one | {"x5c": ["MIIB"], "x5t": "AA"}]}, ["ed-1"]
    yield "64 keys", {"keys": [ed_jwk(kid=str(i)) for i in range(64)]}, [str(i) for i in range(64)]
    big = rsa.Key(b"imgate vectors: large RSA", 4096)
    yield "RSA of 4096 bits", {"keys": [rsa_jwk(big, kid="big")]}, ["big"]

    yield "no JSON", "keys", "form"
    yield "a list", [one], "form"
    yield "one key and no set", one, "form"
    yield "`keys` is no list", {"keys": one}, "form"
    yield "a key that is no object", {"keys": [one, "x"]}, "form"
    yield "kty missing", {"keys": [without("kty", one)]}, "form"
    yield "x missing", {"keys": [without("x", one)]}, "form"
    yield "x padded", {"keys": [one | {"x": one["x"] + "="}]}, "form"
    yield "kid is a number", {"keys": [one | {"kid": 1}]}, "form"
    yield "use is a list", {"keys": [one | {"use": ["sig"]}]}, "form"
    yield "`keys` twice", '{"keys":[],"keys":[%s]}' % text(one), "form"
    yield "a member of a key twice", '{"keys":[%s,"x":"AA"}]}' % text(one)[:-1], "form"
    yield "no keys", {"keys": []}, "empty"
    yield "none for us", {"keys": [encrypting]}, "empty"
    yield "a private key", {"keys": [one | {"d": "AA"}]}, "private"
    yield "a private RSA key for encryption", {"keys": [one, encrypting | {"dp": "AA"}]}, "private"
    yield "a private key of an unknown type", {"keys": [one, {"kty": "X", "d": "AA"}]}, "private"
    yield "a secret", {"keys": [{"kty": "oct", "k": b64(SECRET.encode()), "kid": "hs", "alg": "HS256"}, one]}, "private"
    yield "a name twice", {"keys": [one, ec_jwk(kid="ed-1")]}, "duplicate_kid"
    yield "a key twice", {"keys": [one, one]}, "duplicate_kid"
    yield "a name that is empty", {"keys": [one | {"kid": ""}]}, "kid"
    yield "a name that is too long", {"keys": [one | {"kid": "k" * 257}]}, "kid"
    yield "an unnamed key beside another", {"keys": [one, ec_jwk()]}, "unnamed"
    yield "two unnamed keys", {"keys": [ed_jwk(), ec_jwk()]}, "unnamed"
    yield "65 keys", {"keys": [ed_jwk(kid=str(i)) for i in range(65)]}, "too_many"
    yield "an Ed25519 key for ES256", {"keys": [one | {"alg": "ES256"}]}, "alg"
    yield "an RSA key for HS256", {"keys": [rsa_jwk(kid="r", alg="HS256")]}, "alg"
    yield "a P-256 key for RS256", {"keys": [ec_jwk(kid="e", alg="RS256")]}, "alg"
    for bits in [512, 1024, 2040]:
        yield f"RSA of {bits} bits", {"keys": [rsa_jwk(rsa.Key(b"imgate vectors: small", bits), kid="r")]}, "rsa"
    yield "RSA of 1024 bits with zeros in front", {"keys": [rsa_jwk(kid="r") | {"n": number(RSA.n >> 1024 | 1, 256)}]}, "rsa"
    yield "RSA of 4104 bits", {"keys": [rsa_jwk(kid="r") | {"n": number(1 << 4103 | 1)}]}, "rsa"
    yield "RSA of an even modulus", {"keys": [rsa_jwk(kid="r") | {"n": number(RSA.n - 1)}]}, "rsa"
    for exponent in [0, 1, 2, 3, 65536, 2**33 + 1, 2**64 + 65537]:
        yield f"RSA of exponent {exponent}", {"keys": [rsa_jwk(kid="r") | {"e": number(exponent, 1) if not exponent else number(exponent)}]}, "rsa"
    x, y = p256.public_key(EC_SECRET)
    yield "P-256 point off the curve", {"keys": [ec_jwk(kid="e") | {"y": number(y ^ 1, 32)}]}, "point"
    yield "P-256 point of zeros", {"keys": [ec_jwk(kid="e") | {"x": b64(bytes(32)), "y": b64(bytes(32))}]}, "point"
    yield "P-256 coordinate of 31 bytes", {"keys": [ec_jwk(kid="e") | {"x": b64(x.to_bytes(32, "big")[1:])}]}, "point"
    yield "P-256 coordinate of 33 bytes", {"keys": [ec_jwk(kid="e") | {"x": number(x, 33)}]}, "point"
    yield "P-256 coordinate beyond the field", {"keys": [ec_jwk(kid="e") | {"x": number(2**256 - 1, 32)}]}, "point"
    yield "Ed25519 key of 31 bytes", {"keys": [one | {"x": b64(bytes(range(31)))}]}, "point"
    yield "Ed25519 key of 33 bytes", {"keys": [one | {"x": b64(bytes(range(33)))}]}, "point"
    yield "Ed25519 key off the curve", {"keys": [one | {"x": b64(b"\x02" + bytes(31))}]}, "point"
    for comment, point in [("neutral", b"\x01" + bytes(31)), ("of order 2", (2**255 - 20).to_bytes(32, "little")), ("of order 4", bytes(32))]:
        yield f"Ed25519 point that is {comment}, which anything verifies", {"keys": [one | {"x": b64(point)}]}, "point"


def key_set(comment, jwks, outcome):
    kept = isinstance(outcome, list)
    return {"comment": comment, "jwks": text(jwks), "kept": outcome if kept else None, "cause": None if kept else outcome}


def vectors():
    return {
        "now": NOW,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "leeway": LEEWAY,
        "max_age": MAX_AGE,
        "keys": {name: text(keys) for name, keys in KEYS.items()},
        "rsa_pem": public_pem(RSA),
        "tokens": list(tokens()),
        "key_sets": [key_set(*found) for found in key_sets()],
    }
