"""Make these buckets where they are missing: `python make_buckets.py NAME…`.

Endpoint and credentials come from the environment, AWS_ENDPOINT_URL and its kin. Running it again changes nothing.
"""

import sys

import boto3
from botocore.exceptions import ClientError


def make(names: list[str]) -> None:
    store = boto3.client("s3")
    for name in names:
        try:
            store.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":  # no access, or no such account
                raise
            store.create_bucket(Bucket=name)


if __name__ == "__main__":
    make(sys.argv[1:])
