"""A bucket of an object store: the connection to it, and what its faults mean to people.

Through obstore, which is imported when first used. Credentials and endpoints come from the environment.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from deblur.errors import ConfigError, StoreError
from deblur.redact import without_secrets

SCHEMES = ("s3", "gs", "az", "memory")
RETRIES = 6  #: of a request that the server can't serve now
ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "memory": "nothing",
}
NO_BUCKET = ("nosuchbucket", "bucket does not exist", "containernotfound", "container does not exist")


@lru_cache(maxsize=64)
def connection(root: str, environment: tuple[tuple[str, str], ...]) -> Any:
    """The connection to a bucket under the environment's settings; shared by the process."""
    store = module("obstore.store")
    scheme, _, bucket = root.partition("://")
    if scheme == "memory":
        return _memory(bucket)
    endpoint = dict(environment).get(ENDPOINT[scheme]) or dict(environment).get("AWS_ENDPOINT", "")
    options: dict[str, Any] = {"timeout": timedelta(minutes=5), "connect_timeout": timedelta(seconds=10)}
    if endpoint.startswith("http://"):
        options["allow_http"] = True
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2}
    retry = {"max_retries": RETRIES, "retry_timeout": timedelta(minutes=3), "backoff": backoff}
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
    try:
        return kind(bucket, client_options=options, retry_config=retry)
    except exceptions().BaseError as error:
        raise fault(root, error) from None


@cache
def _memory(bucket: str) -> Any:
    """A store of this process, for tests."""
    return module("obstore.store").MemoryStore()


def module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError("addresses of object stores need obstore: pip install 'deblur[objects]'") from None


def obstore() -> Any:
    return module("obstore")


def exceptions() -> Any:
    return module("obstore.exceptions")


def fault(where: str, error: BaseException) -> StoreError:
    """A fault of the store in one line: where, what, and what to do."""
    scheme = where.partition(":")[0]
    text = without_secrets(" ".join(str(error).split())).partition(" Debug source")[0]
    lower = text.lower()
    bucket = "/".join(where.split("/")[:3])
    causes: tuple[tuple[tuple[str, ...], bool, str], ...] = (
        (NO_BUCKET, False, f"there is no bucket {bucket}: create it, or correct the address"),
        (
            ("/latest/api", "/latest/meta-data", "computemetadata", "must be specified", "identity/oauth2"),
            False,
            f"no credentials were found: set {CREDENTIALS[scheme]}",
        ),
        (
            ("invalidaccesskeyid", "signaturedoesnotmatch", "accessdenied", "401 un", "403 forb"),
            False,
            f"access was refused: check {CREDENTIALS[scheme]}, and what they may do there",
        ),
        (
            ("slowdown", "503 serv", "429 too", "throttl", "serverbusy"),
            True,
            f"the server is overloaded, {RETRIES} more tries did not help: use fewer workers, or try later",
        ),
        (
            ("not implemented", "notimplemented"),
            False,
            "the server lacks conditional writes: they are needed there",
        ),
        (
            ("error sending request", "connect", "dns", "timed out", "timeout"),
            True,
            f"the server can't be reached: check {ENDPOINT.get(scheme, 'the address')} and the network",
        ),
    )
    for words, passing, said in causes:
        if any(word in lower for word in words):
            found = StoreError(f"{where}: {said}")
            found.passing = passing
            return found
    return StoreError(f"{where}: {text[:300]}")
