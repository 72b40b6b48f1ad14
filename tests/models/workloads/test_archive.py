"""Weight archives: reproducible bytes, and one line for every kind of damage."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import archive


def test_equal_arrays_give_equal_bytes(tmp_path):
    one, other = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([1], np.uint8)}, {}
    other["a"], other["b"] = one["a"], np.asfortranarray(one["b"])
    archive.write(tmp_path / "1.npz", one)
    archive.write(tmp_path / "2.npz", other)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    back = archive.read(tmp_path / "1.npz", {"b": 2})
    assert sorted(back) == ["a", "b"] and np.array_equal(back["b"], one["b"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.npz", "2.npz"]


def test_damage(tmp_path):
    path = tmp_path / "w.npz"

    def message(**expected):
        with pytest.raises(BitkilnError) as caught:
            archive.read(path, expected)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(str(path), "w.npz")

    again = ", expected an npz file\nhelp: fetch the file again"
    assert message() == "error: cannot read at w.npz: got 'No such file or directory', expected an npz file"
    path.write_bytes(b"")
    assert message() == "error: empty weight archive at w.npz:" + again[1:]
    path.write_bytes(b"<html>\n<body>")
    assert message() == "error: not a weight archive at w.npz: got b'<html>\\n<'" + again
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert message() == "error: Git LFS pointer instead of a weight archive at w.npz: got b'version '" + again
    archive.write(path, {"a": np.zeros((40, 3))})
    whole = path.read_bytes()
    path.write_bytes(whole[:700])
    assert message().startswith("error: damaged weight archive at w.npz: got 'File is not a zip file'")
    path.write_bytes(whole[:300] + b"!" + whole[301:])
    assert "error: damaged weight archive at w.npz: got \"Bad CRC-32 for file 'a.npy'\"" in message()
    path.write_bytes(whole)
    assert message(b=1) == "error: missing array at w.npz: got 'a', expected b"
    assert message(a=1) == "error: shape mismatch at w.npz a: got (40, 3), expected 1 dimensions"
    np.savez(path, a=np.array([None]))
    assert message() == ("error: Python objects in a weight archive at w.npz: expected plain number arrays\n"
                         "help: save the arrays with np.savez after astype(np.float32)")


def test_unwritable(tmp_path):
    with pytest.raises(BitkilnError) as caught:
        archive.write(tmp_path / "none" / "w.npz", {"a": np.zeros(1)})
    assert caught.value.exit_code == 1
    assert str(caught.value).endswith("w.npz: got 'No such file or directory'")
