from __future__ import annotations

import gzip

import pytest

from registry import sniff
from registry.errors import Problem
from tests.registry.uploading import tarred, zipped

ZIP, TAR = zipped({"a": b"b"}), tarred(("a", b"b"))
TEXT = b"a,b\n1,2\n"
REAL = {
    "a.csv": TEXT,
    "a.csv.gz": gzip.compress(TEXT, mtime=0),
    "a.jsonl": b'{"a": 1}\n',
    "a.parquet": b"PAR1....PAR1",
    "a.smi": b"CCO\n",
    "a.sdf": b"\n$$$$\n",
    "a.pdb": b"ATOM\n",
    "a.fasta": b">a\nMK\n",
    "a.zip": ZIP,
    "a.tar": TAR,
    "a.tar.gz": gzip.compress(TAR, mtime=0),
    "A.TGZ": gzip.compress(TAR, mtime=0),
}


@pytest.mark.parametrize("name", REAL)
def test_each_accepted_type_passes_as_itself(name):
    sniff.check_head(name, REAL[name])


@pytest.mark.parametrize(
    ("name", "content", "is_shown"),
    [
        ("a.csv", ZIP, "a ZIP archive"),
        ("a.csv", gzip.compress(TEXT, mtime=0), "a gzip file"),
        ("a.csv", b"MZ\x90\x00\x03\x00\x00", "a program"),
        ("a.csv", b"\x7fELF\x02", "a program"),
        ("a.csv", b"%PDF-1.7", "a PDF document"),
        ("a.fasta", b"\x89PNG\r\n\x1a\n", "an image"),
        ("a.csv", TAR, "a tar archive"),
        ("a.csv.gz", TEXT, "something else"),
        ("a.csv.gz", ZIP, "a ZIP archive"),
        ("a.zip", TEXT, "something else"),
        ("a.zip", gzip.compress(TEXT, mtime=0), "a gzip file"),
        ("a.tar", ZIP, "a ZIP archive"),
        ("a.tar.gz", TAR, "a tar archive"),
        ("a.tgz", TEXT, "something else"),
        ("a.parquet", TEXT, "something else"),
    ],
)
def test_another_type_than_the_name_says_is_refused(name, content, is_shown):
    with pytest.raises(Problem) as caught:
        sniff.check_head(name, content)
    assert caught.value.code == "unsupported_media_type"
    assert is_shown in caught.value.detail


def test_text_may_begin_with_mz():
    sniff.check_head("spectra.csv", b"MZ,intensity\n" + b"1,2\n" * 50)


def test_the_longest_ending_counts():
    assert sniff.type_of("x.csv.gz").layout == "csv"
    assert sniff.type_of("x.TAR.GZ").layout == "tar"
    with pytest.raises(Problem):
        sniff.type_of("x.gz")
