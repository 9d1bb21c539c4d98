"""Places in object stores: the verbs of a Path, conditional writes, and faults in one line."""

from __future__ import annotations

import http.server
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deblur import bucket as bucket_module
from deblur import place as module
from deblur.errors import ConfigError, StoreError, may_pass
from deblur.place import ObjectPlace, place


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest) -> ObjectPlace:
    """An empty prefix: in this process, and on a server."""
    if request.param == "s3":
        found = place(f"{request.getfixturevalue('bucket')}/deep/folder")
    else:
        pytest.importorskip("obstore", reason="deblur[objects] is not installed")
        found = place("memory://bucket/deep/folder")
    assert isinstance(found, ObjectPlace)
    found.delete_tree()
    return found


def test_addresses() -> None:
    assert place("a/b") == Path("a/b")
    assert place("file:///a/b%20c") == Path("/a/b c")
    there = place("s3://bucket/a//b/")
    assert str(there / "c.json") == "s3://bucket/a/b/c.json"
    assert (there.name, there.parent.name, there.with_name("x").name) == ("b", "a", "x")
    assert str(there.parent.parent) == "s3://bucket"
    assert pickle.loads(pickle.dumps(there)) == there == place(there)
    assert (there / "c" / "d").relative_to(there).as_posix() == "c/d"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://me:secret@bucket/a", "AWS_ACCESS_KEY_ID"),
        ("s3://bucket/a?X-Amz-Signature=secret", "AWS_ACCESS_KEY_ID"),
        ("s3:///a", "s3://bucket/folder"),
        ("s3://bucket/../a", "s3://bucket/folder"),
        ("ftp://host/a", "s3://, gs://, az://"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused(address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        place(address)
    assert "secret" not in str(caught.value)


def test_verbs_of_a_path(folder: ObjectPlace) -> None:
    assert not folder.exists()
    (folder / "a.json").write_bytes(b"hello")
    (folder / "sub/one").write_text("é")
    (folder / "sub/deep/two").write_bytes(b"")
    (folder.parent / "folder-beside").write_bytes(b"x")  # shares the prefix as text only
    assert (folder / "a.json").is_file()
    assert not (folder / "sub").is_file()
    assert (folder / "sub").is_dir()
    assert not (folder / "su").exists()
    assert (folder / "a.json").read_bytes() == b"hello"
    assert (folder / "sub/one").read_text() == "é"
    assert (folder / "sub/deep/two").read_bytes() == b""
    assert (folder / "a.json").open("rb").read() == b"hello"
    assert list((folder / "sub/one").open()) == ["é"]
    assert (folder / "a.json").stat().st_size == 5
    assert {p.name for p in folder.iterdir()} == {"a.json", "sub"}
    assert [p.name for p in folder.glob("*.json")] == ["a.json"]
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("[ot]*")) == ["sub/deep/two", "sub/one"]
    assert {p.name: s.st_size for p, s in folder.walk()} == {"a.json": 5, "one": 2, "two": 0}
    with pytest.raises(OSError, match="not empty"):
        folder.rmdir()
    (folder / "a.json").unlink()
    (folder / "a.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "a.json").unlink()
    folder.delete_tree()
    assert not folder.exists()
    assert (folder.parent / "folder-beside").read_bytes() == b"x"


@pytest.mark.parametrize("size", [0, 1, 3, 10])
def test_the_tail_of_an_object(folder: ObjectPlace, size: int) -> None:
    data = bytes(range(size))
    (folder / "a").write_bytes(data)
    assert (folder / "a").read_tail(3) == (data[-3:], size)


def test_nothing_there(folder: ObjectPlace) -> None:
    for ask in (folder.read_bytes, folder.stat, folder.open, lambda: folder.read_tail(3)):
        with pytest.raises(FileNotFoundError, match="no such object"):
            ask()
    assert list(folder.iterdir()) == []


def test_one_of_many_creates(folder: ObjectPlace) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: (folder / "claim").create(b"%d" % n), range(8)))
    assert made.count(True) == 1
    assert (folder / "claim").read_bytes() == b"%d" % made.index(True)
    assert [p.name for p in folder.iterdir()] == ["claim"]  # the probe left nothing


def test_one_of_many_replaces(folder: ObjectPlace) -> None:
    at = folder / "current"
    assert at.create(b"old")
    version = at.stat().e_tag
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: at.replace_if(version, b"%d" % n), range(8)))
    assert made.count(True) == 1
    assert at.read_bytes() == b"%d" % made.index(True)
    assert not (folder / "absent").replace_if(version, b"x")


def test_a_server_that_ignores_conditions_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = ObjectPlace._put
    monkeypatch.setattr(ObjectPlace, "_put", lambda self, data, mode: put(self, data, "overwrite"))
    monkeypatch.setattr(module, "_PROBED", [])
    with pytest.raises(StoreError, match="ignores conditional writes") as caught:
        (place(bucket) / "claim").create(b"1")
    assert bucket in str(caught.value)
    assert list(place(bucket).iterdir()) == []


def test_no_bucket(bucket: str) -> None:
    there = place(f"{bucket}-absent/archive")
    for ask in (there.read_bytes, there.is_dir, lambda: there.write_bytes(b"1"), lambda: there.create(b"1")):
        with pytest.raises(StoreError, match=f"there is no bucket {bucket}-absent: create it"):
            ask()


def test_no_server(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=f"{bucket}/a: the server can't be reached: check AWS_ENDPOINT_URL"):
        (place(bucket) / "a").read_bytes()


def test_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "RETRIES", 0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="no credentials were found: set AWS_ACCESS_KEY_ID"):
        (place(bucket) / "a").read_bytes()


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """A server that answers every request with the status and the code that a test puts into this list."""
    pytest.importorskip("obstore", reason="deblur[objects] is not installed")
    answers: list[tuple[int, str]] = []
    asked: list[str] = []

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, code = answers[0]
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        settings = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
        for name, value in (settings | {"ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setattr(bucket_module, "RETRIES", 2)
        yield answers
        server.shutdown()
    told = answers[0][0]
    assert len(asked) == (3 if told in (429, 503) else 1)  # throttling is met with tries, a refusal is not


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "InvalidAccessKeyId", "access was refused: check AWS_ACCESS_KEY_ID"),
        (403, "AccessDenied", "access was refused"),
        (503, "SlowDown", "overloaded, 2 more tries did not help: use fewer workers"),
        (429, "TooManyRequests", "overloaded"),
        (404, "NoSuchBucket", "there is no bucket s3://b: create it"),
    ],
)
def test_refusals(refusal: list[tuple[int, str]], status: int, code: str, told: str) -> None:
    refusal.append((status, code))
    with pytest.raises(StoreError, match=told) as caught:
        place("s3://b/a").read_bytes()
    assert str(caught.value).startswith("s3://b/a: ")
    assert may_pass(caught.value) == (status in (429, 503))  # a unit is tried again for these
    assert "\n" not in str(caught.value)


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigError, match=r"pip install 'deblur\[objects\]'"):
        place("s3://another/a").read_bytes()
