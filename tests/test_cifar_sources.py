"""Downloads from a real server on this machine that cuts, stalls, lies or is dead."""

import hashlib
import http.server
import io
import pickle
import socket
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from resnet_lib.data import DownloadError, cifar, cifar10, cifar100, load
from resnet_lib.data.download import fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/<kind>: a source with that fault. Requests are noted as (kind, Range header)."""

    content = CONTENT

    def do_GET(self):
        kind, wanted = self.path.strip("/"), self.headers.get("Range")
        self.server.seen.append((kind, wanted))
        body, begin = self.content, 0
        if kind == "missing":
            self.send_error(404)
            return
        if kind == "corrupt":
            body = body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]
        if kind.startswith("longer"):
            body = body + b"more"
        if kind == "page":  # a captive portal that answers everything
            body, wanted = b"<html>Please log in</html>", None
        if wanted and kind != "no-range":
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body) or kind == "416":
                self.send_error(416)
                return
            self.send_response(206)
            stated = begin + 5 if kind == "wrong-range" else begin
            self.send_header("Content-Range", f"bytes {stated}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if not kind.endswith("no-length") and kind != "page":
            self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        rest = body[begin:]
        if kind == "cut" or (kind == "cut-once" and not wanted):
            rest = rest[: min(100_000, len(rest) // 2)]
        if kind == "slow":
            for k in range(0, len(rest), 500):
                self.wfile.write(rest[k : k + 500])
                time.sleep(0.02)  # 25 kB/s
        elif kind == "stall":
            self.wfile.write(rest[:1000])
            self.wfile.flush()
            time.sleep(1.5)
        else:
            self.wfile.write(rest)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the client left a slow source, as it should
            self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        running.url = f"http://127.0.0.1:{running.server_port}/"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def dead_url():
    with socket.socket() as free:  # bound, never listening
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}/"


def get(server, tmp_path, *kinds, **options):
    urls = [k if "://" in k else server.url + k for k in kinds]
    options = {"sha256": DIGEST, "size": len(CONTENT), "timeout": 0.6, "progress": False, **options}
    return fetch(urls, tmp_path / "file.bin", **options)


def kinds(server):
    return [kind for kind, _ in server.seen]


def whole(tmp_path):
    """The file is there, right, and nothing else is."""
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]
    return True


def test_the_first_good_source_is_enough(server, tmp_path):
    assert get(server, tmp_path, "good", "other") == tmp_path / "file.bin"
    assert whole(tmp_path) and kinds(server) == ["good"]


def test_a_cut_connection_is_continued_where_it_broke(server, tmp_path):
    get(server, tmp_path, "cut-once")
    assert whole(tmp_path)
    assert server.seen == [("cut-once", None), ("cut-once", "bytes=100000-")]


def test_a_piece_of_an_earlier_call_is_continued(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:123_456])
    get(server, tmp_path, "good")
    assert whole(tmp_path) and server.seen == [("good", "bytes=123456-")]


def test_a_whole_piece_needs_no_server(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    get(server, tmp_path, "good")
    assert whole(tmp_path) and server.seen == []


@pytest.mark.parametrize("kind", ["no-range", "416", "good"])
@pytest.mark.parametrize("piece", [CONTENT[:5000], b"rubbish" * 500, CONTENT + b"too much"])
def test_an_odd_piece_or_server_ends_in_the_right_file(server, tmp_path, kind, piece):
    (tmp_path / "file.bin.part").write_bytes(piece)
    get(server, tmp_path, kind)
    assert whole(tmp_path)


def test_a_source_that_keeps_cutting_is_left_and_continued_elsewhere(server, tmp_path):
    get(server, tmp_path, "cut", "good", retries=2)
    assert whole(tmp_path)
    assert kinds(server) == ["cut"] * 3 + ["good"]
    assert server.seen[-1][1] is not None


@pytest.mark.parametrize("kind", ["corrupt", "missing", "longer", "wrong-range", "stall"])
def test_a_bad_source_is_left_for_the_next(server, tmp_path, kind):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:500])
    get(server, tmp_path, kind, "good")
    assert whole(tmp_path) and kinds(server)[-1] == "good" and kind in kinds(server)


def test_a_corrupted_file_is_never_accepted(server, tmp_path):
    with pytest.raises(DownloadError, match="another checksum"):
        get(server, tmp_path, "corrupt", "longer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["no-length", "longer-no-length", "page"])
def test_without_a_stated_length_the_checksum_still_decides(server, tmp_path, kind):
    get(server, tmp_path, kind, "good")
    assert whole(tmp_path) and ("good" in kinds(server)) == (kind != "no-length")


def test_a_source_that_does_not_stop_is_left_at_the_stated_size(server, tmp_path):
    with pytest.raises(DownloadError, match="sends more than 300,000 bytes"):
        get(server, tmp_path, "longer-no-length")


def test_a_dead_source_is_left_for_the_next(server, tmp_path, dead_url):
    get(server, tmp_path, dead_url, "good")
    assert whole(tmp_path)


def test_a_slow_source_is_left_for_the_next_which_continues(server, tmp_path):
    begin = time.monotonic()
    get(server, tmp_path, "slow", "good", min_speed=100_000, patience=0.3)
    assert time.monotonic() - begin < 5  # alone it would take 12 s
    assert whole(tmp_path) and kinds(server) == ["slow", "good"]
    assert int(server.seen[1][1].removeprefix("bytes=").rstrip("-")) >= 1000


def test_a_source_slow_but_within_the_limit_is_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "content", CONTENT[:20_000])
    digest = hashlib.sha256(CONTENT[:20_000]).hexdigest()
    options = {"sha256": digest, "size": 20_000, "min_speed": 5_000, "patience": 0.2}
    get(server, tmp_path, "slow", "good", **options)
    assert kinds(server) == ["slow"]


def test_when_all_fail_the_message_says_what_each_did_and_what_to_do(server, tmp_path, dead_url):
    with pytest.raises(DownloadError) as caught:
        get(server, tmp_path, "missing", "corrupt", dead_url, "stall")
    message = str(caught.value)
    for words in ("HTTP status 404", "another checksum", "no connection", "nothing more arrived"):
        assert words in message
    for words in ("file.bin", "300,000 bytes", DIGEST, str(tmp_path)):
        assert words in message
    assert not (tmp_path / "file.bin").exists()
    get(server, tmp_path, "good")  # and what had arrived does not stand in the way later
    assert whole(tmp_path)


# The archive: the right structure, few and random pictures


def archive_bytes(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def fake(request, server, tmp_path, monkeypatch):
    """(archive description that points at the server, its bytes, its pictures by file)."""
    import torchvision.datasets

    real = getattr(cifar, request.param)
    reader = getattr(torchvision.datasets, request.param)
    count = 10 if request.param == "CIFAR10" else 100
    key = "labels" if count == 10 else "fine_labels"
    rng = np.random.default_rng(1)
    files, pictures = {}, {}
    for name, _ in reader.train_list + reader.test_list:
        pictures[name] = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": pictures[name], key: list(range(count))}, protocol=2)
    names = [f"class {k:03}" for k in range(count)]
    files[reader.meta["filename"]] = pickle.dumps({reader.meta["key"]: names}, protocol=2)

    def summed(listed):
        return [[name, hashlib.md5(files[name]).hexdigest()] for name, _ in listed]

    monkeypatch.setattr(reader, "train_list", summed(reader.train_list))
    monkeypatch.setattr(reader, "test_list", summed(reader.test_list))
    meta = {**reader.meta, "md5": hashlib.md5(files[reader.meta["filename"]]).hexdigest()}
    monkeypatch.setattr(reader, "meta", meta)
    packed = archive_bytes({f"{reader.base_folder}/{n}": c for n, c in files.items()})
    monkeypatch.setattr(Handler, "content", packed)
    urls = (server.url + "missing", server.url + "cut-once")
    sha = hashlib.sha256(packed).hexdigest()
    made = replace(real, size=len(packed), sha256=sha, urls=urls)
    return made, packed, np.concatenate([pictures[n] for n, _ in reader.train_list])


def test_the_archive_is_downloaded_unpacked_and_read_once(fake, server, tmp_path):
    archive, _, pictures = fake
    got = cifar._cifar(archive, tmp_path, progress=False)
    assert got.name == archive.name and got.classes[1] == "class 001"
    assert got.shape == (3, 32, 32)
    assert np.array_equal(got.train.x.numpy().reshape(len(pictures), -1), pictures)
    assert got.train.y[:3].tolist() == [0, 1, 2]
    before = len(server.seen)
    assert cifar._cifar(archive, tmp_path).fingerprint == got.fingerprint
    assert len(server.seen) == before
    # A file damaged on the disk: unpacked anew from the archive that is there.
    damaged = next(p for p in tmp_path.rglob("*") if p.name in ("data_batch_2", "train"))
    damaged.write_bytes(b"x")
    assert cifar._cifar(archive, tmp_path).fingerprint == got.fingerprint
    assert len(server.seen) == before


def test_an_archive_put_there_by_hand_is_used_if_it_is_right(fake, server, tmp_path):
    archive, packed, _ = fake
    (tmp_path / archive.file).write_bytes(packed)
    assert len(cifar._cifar(archive, tmp_path).test) > 0 and server.seen == []


def test_a_wrong_archive_put_there_by_hand_is_not_used(fake, server, tmp_path):
    archive, packed, _ = fake
    (tmp_path / archive.file).write_bytes(packed[:-1])
    assert len(cifar._cifar(archive, tmp_path, progress=False).test) > 0
    nowhere = replace(archive, urls=())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / archive.file).write_bytes(packed[:-1])
    with pytest.raises(DownloadError, match="that is there has another checksum"):
        cifar._cifar(nowhere, tmp_path / "other")


def test_offline_the_message_says_what_to_do(tmp_path, monkeypatch, dead_url):
    monkeypatch.delenv("RESNET_LIB_DATA", raising=False)
    for name, function in (("CIFAR10", cifar10), ("CIFAR100", cifar100)):
        archive = replace(getattr(cifar, name), urls=(dead_url,))
        monkeypatch.setattr(cifar, name, archive)
        with pytest.raises(DownloadError) as caught:
            function(tmp_path)
        for words in (archive.file, archive.sha256, str(tmp_path), 'load("shapes10")'):
            assert words in str(caught.value)
        assert ("RESNET_LIB_DATA" in str(caught.value)) == (name == "CIFAR10")


def test_a_picture_folder_can_stand_in_for_cifar10(tmp_path, monkeypatch):
    from PIL import Image

    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "my set" / part / name).mkdir(parents=True)
            picture = Image.new("RGB", (32, 32), (9, 9, 9))
            picture.save(tmp_path / "my set" / part / name / "0.jpg")
    monkeypatch.setenv("RESNET_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RESNET_LIB_DATA", str(tmp_path / "my set"))
    assert load("cifar10").name == "my set" and load("cifar10").shape == (3, 32, 32)
    monkeypatch.setenv("RESNET_LIB_DATA", str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"gone.*no such folder"):
        load("cifar10")


def test_every_source_is_encrypted_and_every_checksum_whole():
    for archive in (cifar.CIFAR10, cifar.CIFAR100):
        assert len(archive.urls) >= 3 and all(u.startswith("https://") for u in archive.urls)
        assert all(archive.file in u for u in archive.urls)
        assert len(archive.sha256) == 64 and archive.size > 160_000_000
