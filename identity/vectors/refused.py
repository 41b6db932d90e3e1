"""Requests that must be refused, each with its cause.

Where only the form is wrong the MAC is right, so that nothing but the form can be the reason.
"""

import base64

from rfc9421 import KEYS, Request, SESSION, SESSION_2, headers, mac, serialise, signature_base

GET = Request(query="a=1&b=%41")
POST = Request(method="POST", path="/msg/send_msg", body='{"a":1}')


def cases():
    return [*components(), *parameters(), *layout(), *values(), *digests(), *other_requests(), *bodies()]


def case(name, cause, request, signed, **seen):
    """`signed` are the headers, `seen` is what the gateway sees instead of what was signed."""
    signature_input, signature, digest = signed
    return {
        "name": name,
        "cause": cause,
        **request.but(**seen).fields(),
        "signature_input": signature_input,
        "signature": signature,
        "content_digest": digest,
    }


def components():
    m, a, p, q = GET.lines()
    tail = serialise(GET).split(")", 1)[1]

    def covering(name, lines, text=None):
        covered = " ".join(f'"{component}"' for component, _ in lines) if text is None else text
        return case(name, "components", GET, headers(GET, params=f"({covered}){tail}", lines=lines))

    std = '"@method" "@authority" "@path" "@query"'
    yield covering("components in another order", [a, m, p, q])
    yield covering("method not covered", [a, p, q])
    yield covering("authority not covered", [m, p, q])
    yield covering("path not covered", [m, a, q])
    yield covering("query not covered", [m, a, p])
    yield covering("nothing covered", [])
    yield covering("a header more is covered", [m, a, p, q, ("date", "x")])
    yield covering("target-uri instead", [m, ("@target-uri", "https://im.example.com/ping?a=1&b=%41")])
    yield covering("component twice", [m, m, a, p, q])
    yield covering("component with a parameter", [m, a, p, q], std.replace('path"', 'path";req'))
    yield covering("two spaces between components", [m, a, p, q], std.replace('" "@path', '"  "@path'))
    yield covering("space before the closing bracket", [m, a, p, q], std + " ")
    yield covering("space after the opening bracket", [m, a, p, q], " " + std)
    yield covering("component in upper case", [m, a, p, q], std.replace("@method", "@METHOD"))
    yield covering("components without quotes", [m, a, p, q], std.replace('"', ""))
    body = serialise(POST)
    swapped = body.replace('"@query" "content-digest"', '"content-digest" "@query"')
    *first, query, digest = POST.lines()
    yield case("digest before query", "components", POST, headers(POST, params=swapped, lines=[*first, digest, query]))


def parameters():
    params = serialise(GET)

    def with_(name, cause, old, new):
        assert old in params
        return case(name, cause, GET, headers(GET, params=params.replace(old, new, 1)))

    for name, text in GET.parameters().items():
        yield with_(f"{name} missing", "missing_parameter", f";{name}={text}", "")
        yield with_(f"{name} twice", "duplicate_parameter", f";{name}={text}", f";{name}={text};{name}={text}")
    yield with_("expires", "unknown_parameter", ";tag", ";expires=1700000060;tag")
    yield with_("parameter nobody knows", "unknown_parameter", ";tag", ';x="y";tag')
    yield with_("parameter that is a flag", "unknown_parameter", ";tag", ";x;tag")

    for name, text in [
        ("negative", "-1700000000"), ("a float", "1700000000.0"), ("with a leading zero", "01700000000"),
        ("two zeros", "00"), ("with a plus", "+1700000000"), ("of 16 digits", "1000000000000000"), ("empty", ""),
        ("a string", '"1700000000"'), ("a date", "@1700000000"), ("in hex", "0x6553f100"), ("with an exponent", "1e9"),
        ("with a space before it", " 1700000000"), ("with a space after it", "1700000000 "),
    ]:  # fmt: skip
        yield with_(f"created {name}", "created", "created=1700000000", f"created={text}")
    yield with_("created is a flag", "created", "created=1700000000", "created")

    for name, text in [
        ("too short", '"abcdefghijklmno"'), ("too long", '"' + "a" * 65 + '"'), ("empty", '""'),
        ("in standard base64", '"abcdefghijklmno+"'), ("padded", '"abcdefghijklmnop=="'), ("with a space", '"abcdefgh ijklmnop"'),
        ("with an escape", '"abcdefghijklmnop\\""'), ("with an escaped letter", '"\\abcdefghijklmnop"'), ("a token", "abcdefghijklmnop"),
        ("a byte sequence", ":YWJjZGVmZ2hpamtsbW5vcA==:"), ("not closed", '"abcdefghijklmnop'), ("with a colon", '"abcdefgh:ijklmnop"'),
    ]:  # fmt: skip
        yield with_(f"nonce {name}", "nonce", f'nonce="{GET.nonce}"', f"nonce={text}")

    for name, text in [
        ("too short", SESSION[:-1]), ("too long", SESSION + "A"), ("with stray bits", SESSION[:-1] + "9"), ("empty", ""),
        ("in standard base64", "/" + SESSION[1:]), ("padded", SESSION + "=="), ("a path", "../../../../etc/passwd"),
        ("a pattern", "*" * 22),
    ]:  # fmt: skip
        yield with_(f"keyid {name}", "keyid", f'keyid="{SESSION}"', f'keyid="{text}"')
    yield with_("keyid a token", "keyid", f'keyid="{SESSION}"', f"keyid={SESSION}")

    for name in ["none", "hmac-sha512", "HMAC-SHA256", "ed25519", "rsa-pss-sha512", ""]:
        yield with_(f"alg `{name}`", "alg", '"hmac-sha256"', f'"{name}"')
    yield with_("alg a token", "alg", '"hmac-sha256"', "hmac-sha256")
    for name in ["IMGATE", "imgate2", "other", ""]:
        yield with_(f"tag `{name}`", "tag", '"imgate"', f'"{name}"')
    yield with_("tag a token", "tag", '"imgate"', "imgate")
    yield with_("space at the end", "tag", 'tag="imgate"', 'tag="imgate" ')
    yield with_("space after a semicolon", "syntax", ";nonce", "; nonce")
    yield with_("space before a semicolon", "created", ";nonce", " ;nonce")
    yield with_("space after the components", "syntax", ");", ") ;")
    yield with_("parameter name in upper case", "syntax", "created", "Created")
    yield with_("empty parameter", "syntax", ";nonce", ";;nonce")
    yield with_("semicolon at the end", "syntax", 'tag="imgate"', 'tag="imgate";')


def layout():
    """Labels, several signatures, bytes that do not belong, size."""
    signed_input, signature, _ = headers(GET)

    def with_(name, cause, signed_input=signed_input, signature=signature):
        return case(name, cause, GET, (signed_input, signature, None))

    for name, label in [("upper case", "Sig"), ("a digit", "1sig"), ("nothing", ""), ("a hyphen", "-sig")]:
        yield case(f"label begins with {name}", "label", GET, headers(GET, label=label))
    yield with_("no input at all", "label", signed_input="")
    yield with_("input without a label", "label", signed_input=signed_input.removeprefix("sig="))
    yield with_("space before the label", "label", signed_input=" " + signed_input)
    yield with_("space after the label", "label", signed_input=signed_input.replace("sig=", "sig =", 1))
    yield with_("space after the equals sign", "components", signed_input=signed_input.replace("sig=", "sig= ", 1))
    yield with_("input is an item", "components", signed_input="sig=?1")
    yield with_("labels differ", "label_mismatch", signature=signature.replace("sig", "gis", 1))
    yield with_("labels differ in length", "label_mismatch", signature=signature.replace("sig", "sig1", 1))
    other_input, other, _ = headers(GET, label="b")
    yield with_("two signatures", "multiple", f"{signed_input}, {other_input}", f"{signature}, {other}")
    yield with_("two inputs, one signature", "multiple", f"{signed_input},{other_input}")
    yield with_("one input, two signatures", "multiple", signature=f"{signature}, {other}")
    yield with_("same label twice", "multiple", f"{signed_input}, {signed_input}", f"{signature}, {signature}")
    yield with_("comma at the end", "multiple", signed_input + ",")
    for name, text in [("tab", "\t"), ("carriage return", "\r"), ("line feed", "\n"), ("NUL", "\0"), ("DEL", "\x7f"), ("accent", "\u00e9")]:
        yield with_(f"{name} in the input", "encoding", signed_input.replace(" ", text, 1))
    yield with_("line feed at the end of the input", "encoding", signed_input + "\n")
    yield case("input too long", "input_too_long", GET, headers(GET, label="s" * 400))


def values():
    """The signature's own spelling."""
    signed_input, signature, _ = headers(GET)
    encoded = signature.removeprefix("sig=:").removesuffix(":")
    raw = base64.b64decode(encoded)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = encoded[:-2] + last[last.index(encoded[-2]) + 1] + "="
    assert base64.b64decode(stray) == raw

    for name, text in [
        ("empty", ""), ("only a label", "sig"), ("empty bytes", "sig=::"), ("one colon", "sig=:"), ("no colons", f"sig={encoded}"),
        ("a string", f'sig="{encoded}"'), ("in hex", f"sig=:{raw.hex()}:"), ("of 31 bytes", f"sig=:{base64.b64encode(raw[:31]).decode()}:"),
        ("of 33 bytes", f"sig=:{base64.b64encode(raw + raw[:1]).decode()}:"), ("of 64 bytes", f"sig=:{base64.b64encode(raw * 2).decode()}:"),
        ("without padding", f"sig=:{encoded[:-1]}:"), ("with more padding", f"sig=:{encoded}=:"), ("with stray bits", f"sig=:{stray}:"),
        ("in base64url", f"sig=:-_{encoded[2:]}:"), ("with a space inside", f"sig=:{encoded[:20]} {encoded[20:]}:"),
        ("with a line feed inside", f"sig=:{encoded[:20]}\n{encoded[20:]}:"), ("with a space before", f" {signature}"),
        ("with a space after", f"{signature} "), ("with a parameter", f"{signature};x=1"), ("with a space after the label", f"sig =:{encoded}:"),
        ("beyond ASCII", f"sig=:{encoded[:-2]}\u00e9:"),
    ]:  # fmt: skip
        yield case(f"signature {name}", "signature_value", GET, (signed_input, text, None))


def digests():
    digest = POST.digest()
    encoded = digest.removeprefix("sha-256=:").removesuffix(":")

    def with_(name, cause, text):
        request = POST.but()
        lines = [*POST.lines()[:-1], ("content-digest", text)]
        signed_input, signature, _ = headers(request, lines=lines)
        return case(name, cause, request, (signed_input, signature, text))

    for name, text in [
        ("empty", ""), ("of two members", f"{digest}, {digest}"), ("with sha-512 as well", f"{digest}, sha-512=:AAAA:"), ("sha-512", f"sha-512=:{encoded}:"),
        ("in upper case", digest.replace("sha", "SHA")), ("without padding", f"sha-256=:{encoded[:-1]}:"), ("with a space", f"sha-256=: {encoded}:"),
        ("with a space after", digest + " "), ("with a parameter", digest + ";x"), ("without colons", f"sha-256={encoded}"), ("too short", "sha-256=:AAAA:"),
        ("in the old form", f"SHA-256={encoded}"),
    ]:  # fmt: skip
        yield with_(f"content-digest {name}", "digest_value", text)
    signed_input, signature, _ = headers(POST)
    yield case("content-digest covered but absent", "digest_absent", POST, (signed_input, signature, None))
    bare = POST.but(body=None)
    signed_input, signature, _ = headers(bare)
    yield case("content-digest not covered", "digest_uncovered", POST, (signed_input, signature, digest))


def other_requests():
    """Well formed, but not signed for this request or not by this session."""

    def seen(name, request, **changes):
        return case(name, "mismatch", request, headers(request), **changes)

    yield seen("another method", GET, method="DELETE")
    yield seen("method in lower case", GET, method="get")
    yield seen("another authority", GET, authority="evil.example.com")
    yield seen("authority with a port", GET, authority="im.example.com:443")
    yield seen("another path", GET, path="/pong")
    yield seen("path in another case", GET, path="/Ping")
    yield seen("path with a slash more", GET, path="/ping/")
    yield seen("path with a dot segment", GET, path="/./ping")
    yield seen("path escaped", GET, path="/%70ing")
    yield seen("path unescaped", GET.but(path="/%70ing"), path="/ping")
    yield seen("escape in another case", GET.but(path="/%2fa"), path="/%2Fa")
    yield seen("query in another order", GET, query="b=%41&a=1")
    yield seen("query unescaped", GET, query="a=1&b=A")
    yield seen("query with more", GET, query="a=1&b=%41&c=2")
    yield seen("query with a bare ampersand", GET, query="a=1&b=%41&")
    yield seen("query dropped", GET, query=None)
    yield seen("query added", GET.but(query=None), query="a=1")
    yield seen("bare question mark", GET.but(query=None), query="")
    yield seen("bare question mark, honestly signed", GET.but(query=""))
    yield seen("plus for a space", GET.but(query="q=a%20b"), query="q=a+b")
    yield seen("query moved into the path", GET, path="/ping?a=1&b=%41", query=None)
    yield seen("path with a space", GET.but(path="/a b"))
    yield seen("path beyond ASCII", GET.but(path="/\u00e9"))
    yield seen("path with a tab", GET.but(path="/a\tb"))
    yield seen("query with a line feed", GET.but(query="a\nb"))
    yield seen("method with a line feed", GET.but(method="GET\nX"))
    yield seen("authority with a line feed", GET.but(authority="a\nb"))
    yield seen("another session's secret", GET, secret=KEYS[1])
    yield seen("body swapped with its digest kept", POST.but(), path="/msg/revoke_msg")

    # Two targets, one base, if line feeds were let through.
    hidden = GET.but(path='/a\n"@query": ?x', query="y")
    shown = GET.but(path="/a", query='x\n"@query": ?y')
    assert signature_base(hidden) == signature_base(shown)
    yield case("line feed poses as another line", "mismatch", hidden, headers(hidden))
    yield case("line feed poses as another line, from the query", "mismatch", shown, headers(shown))

    signed_input, signature, digest = headers(POST)
    swapped = POST.but(body='{"a":2}')
    yield case("body and digest swapped together", "mismatch", swapped, (signed_input, signature, swapped.digest()))
    yield case("created moved", "mismatch", POST, (signed_input.replace("1700000000", "1700000001"), signature, digest))
    yield case("nonce changed", "mismatch", POST, (signed_input.replace("bm9u", "bm9v", 1), signature, digest))
    yield case("keyid changed", "mismatch", POST, (signed_input.replace(SESSION, SESSION_2), signature, digest))
    reordered = serialise(POST, ["nonce", "created", "alg", "keyid", "tag"])
    yield case("parameters reordered after signing", "mismatch", POST, ("sig=" + reordered, signature, digest))
    value = bytearray(mac(POST, signature_base(POST)))
    for name, index in [("first", 0), ("last", 31)]:
        flipped = bytes(byte ^ (i == index) for i, byte in enumerate(value))
        text = f"sig=:{base64.b64encode(flipped).decode()}:"
        yield case(f"{name} byte of the MAC changed", "mismatch", POST, (signed_input, text, digest))
    zero = f"sig=:{base64.b64encode(bytes(32)).decode()}:"
    yield case("MAC of zeros", "mismatch", POST, (signed_input, zero, digest))


def bodies():
    yield case("body cut short", "digest_mismatch", POST, headers(POST), body='{"a":1')
    yield case("body too long", "digest_mismatch", POST, headers(POST), body='{"a":1} ')
    yield case("another body", "digest_mismatch", POST, headers(POST), body='{"a":2}')
    yield case("body gone", "digest_mismatch", POST, headers(POST), body=None)
    yield case("body empty", "digest_mismatch", POST, headers(POST), body="")
    yield case("body where none was signed", "body_uncovered", GET, headers(GET), body="x")
