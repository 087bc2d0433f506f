"""The file system behind an `s3://` URI: set up from the environment, and giving up in seconds."""

import os
from urllib.parse import parse_qsl, urlsplit

from pyarrow import fs

OPTIONS = ("region", "scheme", "endpoint_override")
"""What a URI may say after its `?`."""

ATTEMPTS = 3
"""Of each request."""

CONNECT_SECONDS = 3.0
SILENT_SECONDS = 5.0
"""How long an endpoint may take to be there, and how long it may then say nothing, in each attempt."""


def open_s3(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path of `s3://BUCKET/FOLDER`, without asking the store anything.

    Credentials come from the environment, from `~/.aws` or from the machine's role. The endpoint is
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, the region AWS_REGION or AWS_DEFAULT_REGION; with neither, Amazon
    is asked where the bucket lies. Raises ValueError for an option that is not in OPTIONS, OSError where
    the bucket's region is not to be found.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    unknown = sorted(options.keys() - set(OPTIONS))
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown; after the ? there can be {', '.join(OPTIONS)}")
    given = options.get("endpoint_override") or _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    scheme, _, endpoint = (given or "").rstrip("/").rpartition("://")
    region = options.get("region") or _environment("AWS_REGION", "AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(parts.netloc)
    filesystem = fs.S3FileSystem(
        region=region,
        scheme=options.get("scheme") or scheme or "https",
        endpoint_override=endpoint or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request
    )
    return filesystem, f"{parts.netloc}{parts.path}".rstrip("/")


def _environment(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
