"""ECDSA over P-256 from the text of FIPS 186-5, slow and plain, so that vectors need no library."""

import hashlib
import hmac

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def _add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0] and (p[1] + q[1]) % P == 0:
        return None
    if p == q:
        slope = (3 * p[0] * p[0] - 3) * pow(2 * p[1], -1, P) % P
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, P) % P
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def _mul(scalar, point):
    result = None
    while scalar > 0:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def public_key(secret):
    """The point of a secret number."""
    return _mul(secret, G)


def _nonce(secret, digest):
    """RFC 6979 section 3.2, for SHA-256 and a curve of 256 bits."""
    seed = secret.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    v, k = b"\x01" * 32, bytes(32)
    for tag in (b"\x00", b"\x01"):
        k = hmac.new(k, v + tag + seed, hashlib.sha256).digest()
        v = hmac.new(k, v, hashlib.sha256).digest()
    # The first candidate is as good as always below N.
    nonce = int.from_bytes(hmac.new(k, v, hashlib.sha256).digest(), "big")
    assert 0 < nonce < N
    return nonce


def sign(secret, message):
    """The numbers r and s of the signature of `message`."""
    digest = hashlib.sha256(message).digest()
    nonce = _nonce(secret, digest)
    r = _mul(nonce, G)[0] % N
    return r, pow(nonce, -1, N) * (int.from_bytes(digest, "big") + r * secret) % N


# RFC 6979 appendix A.2.5, SHA-256 of "sample".
_SECRET = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
assert public_key(_SECRET)[0] == 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
assert sign(_SECRET, b"sample") == (
    0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
    0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
)
