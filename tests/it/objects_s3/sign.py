"""Signs requests to object storage with botocore: a job of JSON a line, a result of JSON a line."""

import json
import sys
from functools import cache

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.session import get_session

ACCESS, SECRET, REGION = sys.argv[1:4]


@cache
def client(endpoint):
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
    )
    return get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=config,
    )


def url(job):
    """A URL that carries its signature in the query."""
    operation, params = job["operation"], job["params"]
    return client(job["endpoint"]).generate_presigned_url(operation, Params=params, ExpiresIn=600)


def headers(job):
    """The headers that sign a request whose body is not signed, as OpenIM hands them out for parts."""
    request = AWSRequest(method=job["method"], url=job["url"])
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", REGION).add_auth(request)
    return dict(request.headers.items())


def form(job):
    """The fields of a form that uploads one object."""
    return client(job["endpoint"]).generate_presigned_post(job["bucket"], job["key"], ExpiresIn=600)["fields"]


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(globals()[job["kind"]](job)))
