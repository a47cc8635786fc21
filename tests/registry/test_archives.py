from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import archives
from registry.archives import Growth
from registry.errors import Problem
from tests.registry.uploading import outcome, special, tarred, zipped

LIMIT = 50 * 1024**2  # bytes


@pytest.fixture
def unpack(tmp_path):
    count = iter(range(10**6))

    def unpack(content: bytes, name: str, limit: int = LIMIT) -> dict[str, bytes]:
        place = tmp_path / f"{next(count)}"
        place.mkdir()
        packed, root = place / "packed", place / "root"
        packed.write_bytes(content)
        root.mkdir()
        growth = Growth(len(content), limit, lambda: None)
        layout = "zip" if name.endswith("zip") else "tar"
        try:
            number = archives.unpack(packed, layout, name.endswith("gz"), root, growth)
        finally:
            outside = [path.name for path in place.iterdir()]
            assert sorted(outside) == ["packed", "root"]
        found = {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
        assert number == len(found)
        return found

    return unpack


@pytest.fixture
def refusal(unpack):
    def refusal(content: bytes, name: str = "a.zip", **limits: int) -> str:
        with pytest.raises(Problem) as caught:
            unpack(content, name, **limits)
        assert caught.value.code == "bad_archive"
        return caught.value.detail

    return refusal


def both(name: str, content: bytes = b"x") -> list[tuple[bytes, str]]:
    return [
        (zipped({name: content}), "a.zip"),
        (tarred((name, content)), "a.tar"),
        (tarred((name, content), gzipped=True), "a.tgz"),
    ]


def test_files_and_directories_come_out_as_they_went_in(unpack):
    members = {"a.csv": b"1", "x/y/b.csv": b"2" * 10_000, "ü .csv": b""}
    assert unpack(zipped(members), "a.zip") == members
    assert unpack(tarred(*members.items()), "a.tar") == members
    assert unpack(tarred(*members.items(), gzipped=True), "a.tar.gz") == members
    with_directory = tarred(special("x", tarfile.DIRTYPE), ("x/a", b"1"))
    assert unpack(with_directory, "a.tar") == {"x/a": b"1"}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "a/..",
        "C:x",
        "c:/x",
        "a\\..\\x",
        "\\x",
        "a\nb",
        "a\x7f",
    ],
)
def test_paths_that_lead_out_or_are_odd_are_refused(refusal, name):
    for content, archive in both(name):
        assert repr(name)[1:-1] in refusal(content, archive)


@pytest.mark.parametrize(
    "name", ["x" * 256, "/".join("x" * 40), "/".join(["x" * 200] * 6)]
)
def test_names_that_are_too_long_or_too_deep_are_refused(refusal, name):
    for content, archive in both(name):
        assert "too long or too deep" in refusal(content, archive)


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
        *(tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE),
    ],
)
def test_links_devices_and_sparse_files_are_refused(refusal, kind):
    content = tarred(("a.csv", b"1"), special("odd", kind, "a.csv"))
    assert "'odd'" in refusal(content, "a.tar")


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK]
)
def test_links_and_devices_in_a_zip_are_refused(refusal, kind):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "'odd'" in refusal(file.getvalue())


def test_names_that_stand_twice_are_refused(refusal):
    for members in (
        (("a", b"1"), ("a", b"2")),
        (("a", b"1"), ("./a", b"2")),
        (("a", b"1"), ("a/b", b"2")),
        (("a/b", b"1"), ("a", b"2")),
    ):
        assert "twice" in refusal(tarred(*members), "a.tar")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    assert "twice" in refusal(file.getvalue())


@pytest.mark.parametrize(
    "inner", [zipped({"a": b"1"}), gzip.compress(b"1", mtime=0), tarred(("a", b"1"))]
)
def test_archives_within_are_refused_whatever_their_name(refusal, inner):
    for content, archive in both("innocent.csv", inner):
        assert "an archive inside an archive" in refusal(content, archive)
    for content, archive in both("x/inner.ZIP"):
        assert "an archive inside an archive" in refusal(content, archive)


def test_encrypted_members_are_refused(refusal):
    content = bytearray(zipped({"a": b"1"}))
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    assert "encrypted" in refusal(bytes(content))


def test_rare_compressions_are_refused(refusal):
    assert "deflated" in refusal(zipped({"a": b"1"}, compression=zipfile.ZIP_LZMA))


def test_bombs_are_refused_early(refusal):
    zeros = bytes(20 * 1024**2)
    for content, archive in (
        (zipped({"a.csv": zeros}), "a.zip"),
        (tarred(("a.csv", zeros), gzipped=True), "a.tar.gz"),
    ):
        assert "unpacks to more than" in refusal(content, archive)


def test_more_than_an_upload_may_have_is_refused(refusal):
    for content, archive in both("a.csv", b"123456789" * 1000):
        assert "unpacks to more than" in refusal(content, archive, limit=5000)


def test_a_zip_that_lies_about_its_sizes_is_refused(refusal):
    content = bytearray(zipped({"a.csv": bytes(5 * 1024**2)}))
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, 10)  # the size when unpacked
    assert refusal(bytes(content))


def test_too_many_members_are_refused(refusal, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 10)
    names = [(f"{number}", b"") for number in range(11)]
    assert "more than 10 members" in refusal(zipped(dict(names)))
    assert "more than 10 members" in refusal(tarred(*names), "a.tar")
    monkeypatch.setattr(archives, "DIRECTORY", 100)
    assert "more than 10 members" in refusal(zipped(dict(names[:5])))


def test_a_header_that_would_fill_memory_is_refused(refusal):
    long = tarfile.TarInfo("pax")
    long.type, long.size = tarfile.XHDTYPE, 8 * 1024**3
    content = long.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)
    assert "header that is too long" in refusal(content, "a.tar")


def test_headers_upon_headers_are_refused(refusal):
    header = special("g", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    assert refusal(header * 5000 + bytes(1024), "a.tar")


def test_no_files_are_refused(refusal):
    assert "no files" in refusal(zipped({}))
    assert "no files" in refusal(zipped({"x/": b""}))
    assert "no files" in refusal(tarred(), "a.tar")


def test_damage_is_refused(refusal):
    middle = bytes(range(256)) * 8
    content = tarred(("a", middle), ("b", middle))
    second = content.index(b"b\0", 2000)
    assert "damaged" in refusal(content[:2000], "a.tar")
    assert "damaged" in refusal(
        content[:second] + b"\xff" * 512 + content[second + 512 :], "a.tar"
    )
    packed = gzip.compress(content, mtime=0)
    assert "damaged" in refusal(packed[:-4] + b"1234", "a.tgz")
    assert "damaged" in refusal(packed[: len(packed) // 2], "a.tgz")
    whole = zipped({"a": middle}, compression=zipfile.ZIP_STORED)
    assert "damaged" in refusal(whole.replace(middle, middle[::-1]))
    assert "damaged" in refusal(whole[:-30])
    assert "damaged" in refusal(b"PK\x03\x04 and no more")


NAMES = st.text(st.sampled_from("ab./\\ü\n:C"), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.dictionaries(NAMES, st.binary(max_size=20), min_size=1, max_size=4))
def test_no_name_leads_out_of_the_directory(unpack, members):
    # The fixture looks for anything that stands beside the directory.
    for content, name in (
        (zipped(members), "a.zip"),
        (tarred(*members.items()), "a.tar"),
    ):
        found = outcome(lambda content=content, name=name: unpack(content, name))
        if isinstance(found, Problem):
            assert found.code == "bad_archive"
        else:
            assert set(found) <= {str(Path(one)) for one in members}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_a_changed_archive_is_refused_or_unpacked_but_nothing_worse(unpack, data):
    name, content = data.draw(
        st.sampled_from(
            [
                ("a.zip", zipped({"a.csv": b"1,2\n" * 50, "b/c": b"x"})),
                ("a.tar", tarred(("a.csv", b"1,2\n" * 50), ("b/c", b"x"))),
                ("a.tgz", tarred(("a.csv", b"1,2\n" * 50), gzipped=True)),
            ]
        )
    )
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
    found = outcome(lambda: unpack(bytes(changed), name))
    assert found.code == "bad_archive" if isinstance(found, Problem) else found
