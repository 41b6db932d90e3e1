"""Writes the vectors in this folder. Standard library only, and none of the code under test.

Run `python3 identity/vectors/make.py`; the output is the same every time, so a diff is a change of format.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

sys.dont_write_bytecode = True

import assertion
import canonical
import jwt
import refused
import session_token
from rfc9421 import DEFAULT_ORDER, KEYS, Request, SESSION_2, headers, http_key, signature_base

HERE = pathlib.Path(__file__).parent


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")


def http_keys():
    return [{"secret": base64.b64encode(s).decode(), "key": http_key(s).hex()} for s in KEYS]


def accepted():
    order_2 = ["tag", "alg", "keyid", "nonce", "created"]
    order_3 = ["keyid", "created", "tag", "nonce", "alg"]
    order_4 = ["created", "keyid", "alg", "nonce", "tag"]
    get = Request()
    post = Request(method="POST", path="/user/get_users_info", query=None, body='{"userIDs":["u1"]}')
    cases = [
        ("GET without a query", get, {}),
        ("GET with a query", Request(query="b=2&a=1"), {}),
        ("empty value in the query", Request(query="a="), {}),
        ("query of one key", Request(query="a"), {}),
        ("escapes in the query stay as sent", Request(query="q=%e4%BD%a0+x%20y&q=2&empty=&=v"), {}),
        ("question mark in the query", Request(query="a=?&b=??"), {}),
        ("escapes in the path stay as sent", Request(path="/object/%41%2fb%2e/c~d;e=f,g"), {}),
        ("root path", Request(path="/"), {}),
        ("empty path counts as root", Request(path="", query="a=1"), {}),
        ("authority with a port", Request(authority="im.example.com:8443"), {}),
        ("authority in IPv6", Request(authority="[2001:db8::1]:8443"), {}),
        ("POST with a body", post, {}),
        ("POST with an empty body", Request(method="POST", body=""), {}),
        ("POST with a body and a query", Request(method="POST", query="v=1", body="a=b"), {}),
        ("body beyond ASCII", Request(method="POST", body="\u4f60\u597d \U0001f600\u0000\r\n"), {}),
        ("POST without a body", Request(method="POST"), {}),
        ("method that few know", Request(method="M-SEARCH"), {}),
        ("parameters in reverse", get, {"order": order_2}),
        ("parameters shuffled, with a body", post, {"order": order_3}),
        ("parameters as another library writes them", post, {"order": order_4}),
        ("another label", get, {"label": "sig1"}),
        ("label of all legal characters", post, {"label": "*a-b_c.d*9"}),
        ("created is zero", Request(created="0"), {}),
        ("created of 15 digits", Request(created="999999999999999"), {}),
        ("shortest nonce", Request(nonce="abcdefghijklmnop"), {}),
        ("longest nonce", Request(nonce="-_" * 32), {}),
        ("another session", Request(session=SESSION_2, secret=KEYS[1]), {}),
    ]
    return [accept(name, request, **how) for name, request, how in cases]


def accept(name, request, label="sig", order=DEFAULT_ORDER):
    signature_input, signature, digest = headers(request, label=label, order=order)
    return {
        "name": name,
        **request.fields(),
        "created": int(request.created),
        "nonce": request.nonce,
        "session_id": request.session,
        "as_we_sign": label == "sig" and order == DEFAULT_ORDER,
        "signature_base": signature_base(request, order=order),
        "signature_input": signature_input,
        "content_digest": digest,
        "signature": signature,
    }


def check_primitives():
    """RFC 4231 case 2 and RFC 5869 case 3, so that a slip here does not become the truth there."""
    mac = hmac.new(b"Jefe", b"what do ya want for nothing?", hashlib.sha256).hexdigest()
    assert mac == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    prk = hmac.new(bytes(32), b"\x0b" * 22, hashlib.sha256).digest()
    okm = hmac.new(prk, b"\x01", hashlib.sha256).hexdigest()
    assert okm == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


if __name__ == "__main__":
    check_primitives()
    write("http-key.json", http_keys())
    write("signature.json", accepted())
    write("signature-refused.json", refused.cases())
    write("canonical.json", canonical.vectors())
    write("assertion.json", assertion.vectors())
    write("jwt.json", jwt.vectors())
    write("session-token.json", session_token.vectors())
