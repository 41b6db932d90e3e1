"""Signs tokens with the package `PyJWT`, for `interop.rs`: claims as JSON on standard input, what `interop.rs`
calls `Theirs` on standard output."""

import json
import secrets
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms


def jwk(private, alg):
    public = get_default_algorithms()[alg].to_jwk(private.public_key(), as_dict=True)
    return public | {"kid": f"theirs {alg}"}


if __name__ == "__main__":
    claims = json.load(sys.stdin)
    pairs = {
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(65537, 2048),
    }
    secret = secrets.token_urlsafe(32)
    theirs = {
        "jwks": json.dumps({"keys": [jwk(key, alg) for alg, key in pairs.items()]}),
        "tokens": [jwt.encode(claims, key, alg, headers={"kid": f"theirs {alg}"}) for alg, key in pairs.items()],
        "secret": secret,
        "secret_token": jwt.encode(claims, secret, "HS256"),
    }
    json.dump(theirs, sys.stdout)
