"""Signs and verifies requests with the package `http-message-signatures`, for `tests/python.rs`.

`agree.py sign` and `agree.py verify` read a JSON list of requests from standard input and write a list
to standard output: the headers of each request, or `null` where the signature holds and the reason where
it does not.
"""

import base64
import datetime
import json
import sys
from types import SimpleNamespace

from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)

COVERED = ("@method", "@authority", "@path", "@query")


class OneKey(HTTPSignatureKeyResolver):
    def __init__(self, request):
        self.key_id, self.key = request["key_id"], base64.b64decode(request["key"])

    def resolve_public_key(self, key_id):
        return self.key if key_id == self.key_id else None

    resolve_private_key = resolve_public_key


def handler(kind, request):
    return kind(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=OneKey(request))


def body(request):
    return None if request["body"] is None else request["body"].encode()


def sign(request):
    message = SimpleNamespace(method=request["method"], url=request["url"], headers={})
    handler(HTTPMessageSigner, request).sign(
        message,
        key_id=request["key_id"],
        created=datetime.datetime.fromtimestamp(request["created"], tz=datetime.timezone.utc),
        nonce=request["nonce"],
        label="theirs",
        tag="imgate",
        covered_component_ids=COVERED,
        body=body(request),
    )
    return message.headers


def verify(request):
    message = SimpleNamespace(method=request["method"], url=request["url"], headers=request["headers"])
    try:
        results = handler(HTTPMessageVerifier, request).verify(
            message, max_age=None, expect_tag="imgate", require_components=COVERED, body=body(request)
        )
    except InvalidSignature as reason:
        return str(reason) or type(reason).__name__
    return None if len(results) == 1 else f"{len(results)} signatures"


if __name__ == "__main__":
    work = {"sign": sign, "verify": verify}[sys.argv[1]]
    json.dump([work(request) for request in json.load(sys.stdin)], sys.stdout)
