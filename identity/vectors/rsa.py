"""RSASSA-PKCS1-v1_5 with SHA-256 from the text of RFC 8017 section 8.2, so that vectors need no library.

Keys grow from a seed, so that they are the same every time. They protect nothing.
"""

import hashlib

E = 65537
# The DER in front of a SHA-256 digest. Source: RFC 8017 section 9.2, note 1.
_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def _is_prime(n):
    if any(n % p == 0 for p in _SMALL_PRIMES):
        return False
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19):
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        if all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def _prime(seed, bits):
    """The first prime from the number that the seed gives, with its two highest bits set."""
    start = int.from_bytes(hashlib.shake_256(seed).digest(bits // 8), "big") | (3 << (bits - 2)) | 1
    return next(n for n in range(start, 2**bits, 2) if (n - 1) % E and _is_prime(n))


class Key:
    """A key of `bits` bits, with `n` and `e` as anybody may know them."""

    def __init__(self, seed, bits, e=E):
        p, q = _prime(seed + b"p", bits // 2), _prime(seed + b"q", bits // 2)
        self.n, self.e, self.length = p * q, e, bits // 8
        self._d = pow(e, -1, (p - 1) * (q - 1)) if e % 2 and (p - 1) % e and (q - 1) % e else None
        assert self.n.bit_length() == bits

    def sign(self, message):
        """The signature of `message`, as long as the modulus."""
        digest = _PREFIX + hashlib.sha256(message).digest()
        padded = b"\x00\x01" + b"\xff" * (self.length - len(digest) - 3) + b"\x00" + digest
        return pow(int.from_bytes(padded, "big"), self._d, self.n).to_bytes(self.length, "big")
