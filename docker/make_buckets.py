"""Make these buckets where they are missing: `python make_buckets.py NAME…`.

Endpoint and credentials come from the environment, AWS_ENDPOINT_URL and its kin. Running it again changes nothing.
"""

import sys

import boto3
from botocore.exceptions import ClientError

THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def make(names: list[str]) -> None:
    store = boto3.client("s3")
    for name in names:
        try:
            store.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in THERE:
                raise
        store.head_bucket(Bucket=name)  # a bucket of that name that belongs to others would be refused here


if __name__ == "__main__":
    make(sys.argv[1:])
