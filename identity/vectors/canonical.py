"""Signatures of schemes that a configuration gives, each scheme written down a second time as plain code.

`SCHEMES` has, for each scheme, what the configuration says and a function that signs the way an app would,
without reading that configuration.
"""

import base64
import hashlib
import hmac

from rfc9421 import KEYS, SESSION, SESSION_2, Request

MILLIS = 1700000000123


def sha256(body):
    return hashlib.sha256((body or "").encode()).digest()


def b64(raw):
    return base64.b64encode(raw).decode()


def b64url(raw):
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def hkdf(secret):
    """HKDF-SHA256 with an empty salt, one block of output."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, b"imgate/v1/canonical\x01", hashlib.sha256).digest()


def http_date(millis):
    """IMF-fixdate, from the calendar of the standard library."""
    import email.utils

    return email.utils.formatdate(millis // 1000, usegmt=True)


def iso8601(millis):
    import datetime

    return datetime.datetime.fromtimestamp(millis // 1000, datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def target(r):
    return (r.path or "/") + ("" if r.query is None else "?" + r.query)


def plain(r, millis, nonce):
    text = "\n".join([r.method, r.path or "/", str(millis), nonce, sha256(r.body).hex()])
    return text, {
        "x-app-session": r.session,
        "x-app-time": str(millis),
        "x-app-nonce": nonce,
        "x-app-signature": mac(r.secret, text).hex(),
    }


def aws(r, millis, nonce):
    at, digest = iso8601(millis), sha256(r.body).hex()
    text = (
        f"{r.method}\n{r.path or '/'}\n{r.query or ''}\n"
        f"host:{r.authority}\nx-amz-content-sha256:{digest}\nx-amz-date:{at}\n\n"
        f"host;x-amz-content-sha256;x-amz-date\n{digest}"
    )
    signature = mac(b64(r.secret).encode(), text).hex()
    return text, {
        "authorization": f"AWS4-HMAC-SHA256 Credential={r.session}, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
        "x-amz-content-sha256": digest,
        "x-amz-date": at,
    }


def apisix(r, millis, nonce):
    at, digest = http_date(millis), "SHA-256=" + b64(sha256(r.body))
    text = f"{r.session}\n{r.method} {target(r)}\ndate: {at}\ndigest: {digest}\n"
    signature = b64(mac(b64(r.secret).encode(), text))
    return text, {
        "authorization": f'Signature keyId="{r.session}",algorithm="hmac-sha256",'
        f'headers="@request-target date digest",signature="{signature}"',
        "date": at,
        "digest": digest,
    }


def url_safe(r, millis, nonce):
    at, digest = str(millis // 1000), b64url(sha256(r.body))
    text = f"v1:{at}:{nonce}:{r.session}:{digest}:{r.method} {r.authority} {target(r)}"
    return text, {"x-credential": f"{r.session}.{at}.{digest}.{b64url(mac(hkdf(r.secret), text))}", "x-nonce": nonce}


def bars(r, millis, nonce):
    """Bars may stand in a path, but in nothing behind it."""
    at, digest = str(millis), b64(sha256(r.body))
    text = f"{r.method}|{target(r)}|{at}|{digest}"
    return text, {
        "x-key": r.session,
        "x-time": at,
        "x-sign": b64(mac(r.secret.hex().encode(), text)),
        "x-digest": digest,
    }


SCHEMES = {
    "plain": (
        plain,
        {
            "headers": {
                "X-App-Session": "{session}",
                "X-App-Time": "{timestamp}",
                "X-App-Nonce": "{nonce}",
                "X-App-Signature": "{signature}",
            },
            "string_to_sign": "{method}\n{path}\n{timestamp}\n{nonce}\n{digest}",
            "encoding": "hex",
            "digest": "hex",
            "key": "raw",
            "timestamp": "ms",
        },
    ),
    "aws": (
        aws,
        {
            "headers": {
                "Authorization": "AWS4-HMAC-SHA256 Credential={session}, "
                "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
                "X-Amz-Content-Sha256": "{digest}",
                "X-Amz-Date": "{timestamp}",
            },
            "string_to_sign": "{method}\n{path}\n{query}\nhost:{authority}\nx-amz-content-sha256:{digest}\n"
            "x-amz-date:{timestamp}\n\nhost;x-amz-content-sha256;x-amz-date\n{digest}",
            "encoding": "hex",
            "digest": "hex",
            "key": "base64",
            "timestamp": "iso8601",
        },
    ),
    "apisix": (
        apisix,
        {
            "headers": {
                "Authorization": 'Signature keyId="{session}",algorithm="hmac-sha256",'
                'headers="@request-target date digest",signature="{signature}"',
                "Date": "{timestamp}",
                "Digest": "SHA-256={digest}",
            },
            "string_to_sign": "{session}\n{method} {target}\ndate: {timestamp}\ndigest: SHA-256={digest}\n",
            "encoding": "base64",
            "digest": "base64",
            "key": "base64",
            "timestamp": "http_date",
        },
    ),
    "url_safe": (
        url_safe,
        {
            "headers": {"X-Credential": "{session}.{timestamp}.{digest}.{signature}", "X-Nonce": "{nonce}"},
            "string_to_sign": "v1:{timestamp}:{nonce}:{session}:{digest}:{method} {authority} {target}",
            "encoding": "base64url",
            "digest": "base64url",
            "key": "hkdf",
            "timestamp": "s",
        },
    ),
    "bars": (
        bars,
        {
            "headers": {"X-Key": "{session}", "X-Time": "{timestamp}", "X-Sign": "{signature}", "X-Digest": "{digest}"},
            "string_to_sign": "{method}|{target}|{timestamp}|{digest}",
            "encoding": "base64",
            "digest": "base64",
            "key": "hex",
            "timestamp": "ms",
        },
    ),
}


def schemes():
    return {name: config for name, (_, config) in SCHEMES.items()}


def accepted():
    post = Request(method="POST", path="/friend/get_friend_list", body='{"userID":"u1"}')
    cases = [
        ("POST with a body", post),
        ("GET without a body", Request()),
        ("root path", Request(path="/")),
        ("empty path counts as root", Request(path="")),
        ("escapes in the path stay as sent", Request(path="/object/%41%2fb%2e/c|d;e=f:g#h")),
        ("authority with a port", Request(authority="im.example.com:8443")),
        ("body beyond ASCII", post.but(body="\u4f60\u597d \U0001f600\u0000\r\n")),
        ("another session", post.but(session=SESSION_2, secret=KEYS[1])),
    ]
    queries = [
        ("query stays as sent", Request(query="b=2&a=%41&a=1&c=?|\\n:")),
        ("query and body", post.but(query="v=1")),
    ]
    for scheme, (sign, _) in SCHEMES.items():
        for name, request in cases + ([] if scheme == "plain" else queries):
            yield accept(scheme, name, request, sign)


def accept(scheme, name, request, sign, millis=MILLIS):
    text, headers = sign(request, millis, request.nonce)
    return {
        "scheme": scheme,
        "name": name,
        **request.fields(),
        "session_id": request.session,
        "millis": millis,
        "nonce": request.nonce,
        "string_to_sign": text,
        "headers": headers,
    }


def refused():
    """Requests that must be refused, each with its cause; where only the form is wrong the MAC is right."""
    post = Request(method="POST", path="/friend/get_friend_list", body='{"userID":"u1"}')
    yield from other_requests(post)
    yield from other_spellings(post)
    yield from injected_lines(post)


def refuse(scheme, name, cause, headers, request, **seen):
    """`headers` were signed for one request, `seen` is what differs in the one the gateway gets."""
    return {"scheme": scheme, "name": name, "cause": cause, **request.but(**seen).fields(), "headers": headers}


def other_requests(post):
    for scheme, (sign, config) in SCHEMES.items():
        _, headers = sign(post, MILLIS, post.nonce)
        sent = "digest" in "".join(config["headers"].values())
        for name, seen in [
            ("method", {"method": "PUT"}),
            ("path", {"path": "/friend/get_friend_lisu"}),
            ("path in another spelling", {"path": "/friend/get%5Ffriend_list"}),
            ("query added", {"query": "a=1"}),
            ("secret", {"secret": KEYS[2]}),
        ]:
            yield refuse(scheme, f"other {name}", "mismatch", headers, post, **seen)
        if scheme in ("aws", "url_safe"):
            yield refuse(scheme, "other authority", "mismatch", headers, post, authority="im.example.org")
        body = "digest_mismatch" if sent else "mismatch"
        for name, text in [("other body", '{"userID":"u2"}'), ("no body", None), ("longer body", post.body + " ")]:
            yield refuse(scheme, name, body, headers, post, body=text)
        if sent:
            _, other = sign(post.but(body="{}"), MILLIS, post.nonce)
            name = next(n.lower() for n, form in config["headers"].items() if "{digest}" in form)
            if scheme != "url_safe":
                swapped = {**headers, name: other[name]}
                yield refuse(scheme, "body and digest swapped together", "mismatch", swapped, post, body="{}")
        for name in headers:
            yield refuse(scheme, f"{name} missing", "header_absent", {k: v for k, v in headers.items() if k != name}, post)
            yield refuse(scheme, f"{name} with something behind it", later(scheme, name), {**headers, name: headers[name] + "x"}, post)
            yield refuse(scheme, f"{name} too long", "header_too_long", {**headers, name: headers[name] + "0" * 512}, post)
            yield refuse(scheme, f"{name} beyond ASCII", "encoding", {**headers, name: headers[name] + "\u00e9"}, post)


def later(scheme, name):
    """What an `x` at the end of a header is taken for."""
    field = {
        "x-app-session": "session", "x-app-nonce": "mismatch", "x-nonce": "mismatch", "x-credential": "signature_value",
        "x-key": "session", "x-sign": "signature_value", "x-digest": "digest_value", "digest": "digest_value", "date": "timestamp",
    }  # fmt: skip
    return field.get(name, "form")


def other_spellings(post):
    _, p = plain(post, MILLIS, post.nonce)
    yield refuse("plain", "signature in upper case", "form", {**p, "x-app-signature": p["x-app-signature"].upper()}, post)
    yield refuse("plain", "signature too short", "signature_value", {**p, "x-app-signature": p["x-app-signature"][:-2]}, post)
    yield refuse("plain", "signature with a space before it", "form", {**p, "x-app-signature": " " + p["x-app-signature"]}, post)
    yield refuse("plain", "empty signature", "signature_value", {**p, "x-app-signature": ""}, post)
    yield refuse("plain", "time with a leading zero", "timestamp", {**p, "x-app-time": "0" + p["x-app-time"]}, post)
    yield refuse("plain", "time negative", "form", {**p, "x-app-time": "-" + p["x-app-time"]}, post)
    yield refuse("plain", "time a float", "form", {**p, "x-app-time": p["x-app-time"] + ".0"}, post)
    yield refuse("plain", "time of 16 digits", "timestamp", {**p, "x-app-time": "1" * 16}, post)
    yield refuse("plain", "time empty", "timestamp", {**p, "x-app-time": ""}, post)
    yield refuse("plain", "time a second later", "mismatch", {**p, "x-app-time": str(MILLIS + 1000)}, post)
    for name, nonce in [("too short", "abcdefg"), ("too long", "a" * 65), ("empty", "")]:
        _, h = plain(post, MILLIS, nonce)
        yield refuse("plain", f"nonce {name}", "nonce", h, post)
    for name, nonce in [("with a space", "abcdefgh abcdefgh"), ("with a bar", "abcdefgh|abcdefgh"), ("with a colon", "abcdefgh:abcdefgh")]:
        _, h = plain(post, MILLIS, nonce)
        yield refuse("plain", f"nonce {name}", "form", h, post)
    for name, session in [("too short", SESSION[:-1]), ("with stray bits", SESSION[:-1] + "9"), ("empty", "")]:
        _, h = plain(post.but(session=session), MILLIS, post.nonce)
        yield refuse("plain", f"session {name}", "session", h, post)

    _, a = apisix(post, MILLIS, post.nonce)
    def edit(name, old, new):
        assert old in a[name]
        return {**a, name: a[name].replace(old, new, 1)}

    yield refuse("apisix", "signature without its padding", "signature_value", unpad(a), post)
    yield refuse("apisix", "another algorithm", "form", edit("authorization", "hmac-sha256", "hmac-sha1"), post)
    yield refuse("apisix", "digest not covered", "form", edit("authorization", " digest", ""), post)
    yield refuse("apisix", "a space between the parts", "form", edit("authorization", ",", ", "), post)
    yield refuse("apisix", "another word first", "form", edit("authorization", "Signature ", "signature "), post)
    yield refuse("apisix", "another hash", "form", edit("digest", "SHA-256", "SHA-512"), post)
    yield refuse("apisix", "wrong day of the week", "timestamp", edit("date", "Tue", "Wed"), post)
    yield refuse("apisix", "a date that is none", "timestamp", {**a, "date": "Thu, 30 Feb 2023 22:13:20 GMT"}, post)
    yield refuse("apisix", "a bearer token", "form", {**a, "authorization": "Bearer " + "x" * 40}, post)

    _, w = aws(post, MILLIS, post.nonce)
    yield refuse("aws", "payload not signed", "form", {**w, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, post)
    yield refuse("aws", "fewer headers signed", "form", {**w, "authorization": w["authorization"].replace("host;", "", 1)}, post)
    yield refuse("aws", "date without its end", "timestamp", {**w, "x-amz-date": w["x-amz-date"][:-1]}, post)


def unpad(headers):
    value = headers["authorization"]
    assert value.endswith('="')
    return {**headers, "authorization": value[:-2] + '"'}


def injected_lines(post):
    """Honestly signed texts that another request could have: a line feed posing as the end of a field."""
    joined = post.but(path="/friend/get_friend_list\n1")
    _, h = plain(joined, MILLIS, post.nonce)
    yield refuse("plain", "line feed in the path", "mismatch", h, joined)
    split = post.but(method="POST\n/friend", path="/get_friend_list")
    _, h = plain(split, MILLIS, post.nonce)
    yield refuse("plain", "line feed in the method", "mismatch", h, split)
    fed = post.but(query="a=1\nb")
    _, h = aws(fed, MILLIS, post.nonce)
    yield refuse("aws", "line feed in the query", "mismatch", h, fed)
    marked = post.but(path="/a?b=c")
    _, h = bars(marked, MILLIS, post.nonce)
    yield refuse("bars", "question mark in the path", "mismatch", h, marked)
    bare = post.but(query="")
    _, h = apisix(bare, MILLIS, post.nonce)
    yield refuse("apisix", "bare question mark", "mismatch", h, bare)
    lower = post.but(method="post")
    _, h = apisix(lower, MILLIS, post.nonce)
    yield refuse("apisix", "method in lower case", "mismatch", h, lower)
    spaced = post.but(path="/a b")
    _, h = apisix(spaced, MILLIS, post.nonce)
    yield refuse("apisix", "space in the path", "mismatch", h, spaced)


def check():
    """The digest printed in the documentation of APISIX, and dates from elsewhere."""
    assert b64(sha256('{"name": "world"}')) == "78qzJuLwSpZ8HacsTdFCQJWxzPMOf8bYctRk2ySLpS8="
    assert http_date(1725604889000) == "Fri, 06 Sep 2024 06:41:29 GMT"
    assert iso8601(1440938160000) == "20150830T123600Z"


def vectors():
    check()
    return {"schemes": schemes(), "accepted": list(accepted()), "refused": list(refused())}


if __name__ == "__main__":
    # A client: one request in JSON on standard input, the headers that sign it on standard output.
    import json
    import sys

    job = json.load(sys.stdin)
    request = Request(**{**job["request"], "secret": base64.b64decode(job["request"]["secret"])})
    sign, _ = SCHEMES[job["scheme"]]
    print(json.dumps(sign(request, job["millis"], job["nonce"])[1]))
