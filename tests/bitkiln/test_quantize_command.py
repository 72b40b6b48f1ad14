"""``bitkiln quantize``: reports, comparisons, files and refusals."""

import json
import os
import shlex

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.models.quantize import groupfile
from bitkiln.models.quantize.methods import METHODS, quantize

RNG = np.random.default_rng(8)
WEIGHTS = RNG.standard_normal((16, 300)).astype(np.float32)
ROWS = RNG.standard_normal((20, 300)) * np.where(np.arange(300) % 50 == 0, 20, 1)


@pytest.fixture(autouse=True)
def files(own_folder):
    np.save("w.npy", WEIGHTS)
    np.save("x.npy", ROWS)
    np.savez("net.npz", **{"fc.weight": WEIGHTS[:4], "conv.weight": WEIGHTS[:6].reshape(6, 12, 5, 5),
                           "ids": np.arange(9)})
    return own_folder


def run(capsys, line):
    code = run_cli(["quantize", *shlex.split(line)])
    out, err = capsys.readouterr()
    return code, out, err


def facts(capsys, line):
    code, out, _ = run(capsys, line + " --json")
    assert code == 0
    return json.loads(out)


def test_report(capsys):
    code, out, err = run(capsys, "w.npy --method bitmod --bits 3 --group 128 -o q.npz")
    assert code == 0 and err == "" and "wrote q.npz" in out
    q = quantize("bitmod", WEIGHTS, 3, 128)
    for shown in ("w", "16 x 300", "bitmod, 3 bits", "128", f"{q.nmse(WEIGHTS):.4g}", f"{q.sqnr_db(WEIGHTS):.2f}",
                  f"{q.bits_per_weight:.4f}", "codes 3, scales 0.08, channel scales 0.1067, selectors 0.02"):
        assert shown in out
    saved = groupfile.load("q.npz", "w")
    assert np.array_equal(saved.codes, q.codes) and saved.bits == q.bits


def test_json(capsys):
    found = facts(capsys, "w.npy --method rtn_asym --bits 4 --group row --option scale=fp16 --option zero_bits=8")
    q = quantize("rtn_asym", WEIGHTS, 4, None, scale="fp16", zero_bits=8)
    assert found["options"] == {"scale": "fp16", "zero_bits": 8} and found["output"] is None
    assert found["results"] == [{"tensor": "w", "shape": [16, 300], "method": "rtn_asym", "bits": 4, "group": 300,
                                 "nmse": q.nmse(WEIGHTS), "sqnr_db": q.sqnr_db(WEIGHTS), "output_nmse": None,
                                 "bits_per_weight": q.bits_per_weight, "stored_bits": q.bits, "types": {"int4": 1.0}}]


def test_nothing_lost_is_still_json(capsys):
    """An infinite ratio is no JSON number."""
    np.save("z.npy", np.zeros((2, 4)))
    result = facts(capsys, "z.npy --method rtn_sym --bits 4")["results"][0]
    assert (result["nmse"], result["sqnr_db"]) == (0, "inf")


@pytest.mark.parametrize(("bits", "calibrated"), [(4, False), (4, True), (3, True), (2, False), (1.58, False),
                                                  (1.61, True), (8, False)])
def test_compare(bits, calibrated, capsys):
    """All methods of the width, least error first; those that need activations only with activations."""
    line = f"w.npy --compare --bits {bits}" + (" --calibration x.npy" if calibrated else "")
    results = facts(capsys, line)["results"]
    errors = [row["nmse"] for row in results]
    assert errors == sorted(errors) and len(results) > (1 if bits != 1.61 else 0)
    names = {row["method"].partition("(")[0] for row in results}
    assert names == {m.name for m in METHODS.values() if bits in m.widths and m.listed
                     and (calibrated or not m.needs_calibration)}
    for row in results:
        assert (row["output_nmse"] is None) != calibrated
        assert row["bits_per_weight"] == pytest.approx(sum(row["stored_bits"].values()) / WEIGHTS.size)
    if calibrated and bits == 4:    # AWQ lowers the error of the outputs, not of the weights
        awq, plain = (next(row for row in results if row["method"] == name) for name in ("awq(rtn_asym)", "rtn_asym"))
        assert awq["output_nmse"] < plain["output_nmse"] and awq["nmse"] > plain["nmse"]
    code, out, err = run(capsys, line)
    assert code == 0 and out.index(results[0]["method"]) <= out.index(results[-1]["method"] + ",")
    assert err.splitlines() == [f"w: {m.name}" for m in METHODS.values() if m.name in names]


def test_compare_without_a_width(capsys):
    """All methods of four bits, then of three, each least error first."""
    results = facts(capsys, "w.npy --compare")["results"]
    assert [row["bits"] for row in results] == sorted((row["bits"] for row in results), reverse=True)
    for width in (4, 3):
        alone = facts(capsys, f"w.npy --compare --bits {width}")["results"]
        assert [row for row in results if row["bits"] == width] == alone and len(alone) > 5


def test_chosen_methods(capsys):
    found = facts(capsys, "w.npy --methods 'rtn_sym, mxfp4,squeezellm' --bits 4 --group 64")["results"]
    assert {row["method"]: row["group"] for row in found} == {"rtn_sym": 64, "mxfp4": 32, "squeezellm": 300}


def test_calibrated_method(capsys):
    found = facts(capsys, "w.npy --method awq --bits 4 --calibration x.npy --option base=bitmod --option scale_bits=6 "
                          "-o q.npz")["results"][0]
    assert found["method"] == "awq(bitmod)" and found["stored_bits"]["scales"] == 6 * 16 * 3
    assert groupfile.load("q.npz").input_scale.shape == (300,)


def test_archives(capsys):
    """Every real tensor of two or more axes, or one by name; all of them in one file."""
    found = facts(capsys, "net.npz --method fp --bits 4 -o q.npz")
    assert [(row["tensor"], row["shape"]) for row in found["results"]] == [("fc.weight", [4, 300]),
                                                                           ("conv.weight", [6, 12, 5, 5])]
    assert found["output"] == "q.npz"
    saved = groupfile.load_all("q.npz")
    assert list(saved) == ["fc.weight", "conv.weight"] and saved["conv.weight"].shape == (6, 12, 5, 5)
    assert [row["tensor"] for row in facts(capsys, "net.npz --method fp --bits 4 --tensor ids")["results"]] == ["ids"]
    code, out, _ = run(capsys, "net.npz --methods fp,rtn_sym --bits 4")
    assert code == 0 and "fc.weight, least error first" in out and "conv.weight, least error first" in out


def test_safetensors(capsys):
    header = json.dumps({"w": {"dtype": "F32", "shape": [16, 300], "data_offsets": [0, WEIGHTS.nbytes]}}).encode()
    with open("m.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + WEIGHTS.tobytes())
    result = facts(capsys, "m.safetensors --method mx --bits 4")["results"][0]
    assert result["nmse"] == quantize("mxfp4", WEIGHTS).nmse(WEIGHTS) and result["group"] == 32


def test_list(capsys):
    rows = json.loads(run(capsys, "--list --json")[1])
    assert [row["name"] for row in rows] == list(METHODS)
    assert next(row for row in rows if row["name"] == "awq")["calibration"] == "needed"
    code, out, _ = run(capsys, "--list")
    assert code == 0 and all(name in out for name in METHODS)


def test_help(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "Example" in out and "bitkiln quantize weights.npy --method bitmod" in out


ERRORS = [
    ("", "missing argument at bitkiln quantize: expected a file of tensors, or --list\n"
         "help: for example `bitkiln quantize weights.npy --method bitmod --bits 4`"),
    ("w.npy", "missing option at bitkiln quantize: expected one of --method, --methods and --compare"),
    ("w.npy --method fp --compare --bits 4", "contradictory options at bitkiln quantize: got '--method and a "
                                             "comparison', expected one of --method, --methods and --compare"),
    ("w.npy --compare --bits 4 -o q.npz", "contradictory options at bitkiln quantize: got 'a comparison and -o', "
                                          "expected --method with it"),
    ("w.npy --compare --bits 4 --option scale=fp16", "contradictory options at bitkiln quantize: got 'a comparison "
                                                     "and --option', expected --method with it"),
    ("w.npy --compare --bits 9", "width not offered at --bits: got '9', expected 1, 1.58, 1.61, 2, 3, 4, 5, 6, 7, 8"),
    ("w.npy --compare --bits nan", "width not offered at --bits: got 'nan', expected 1, 1.58, 1.61, 2, 3, 4, 5, 6, 7, "
                                   "8"),
    ("w.npy --methods , --bits 4", "no method at --methods: got ',', expected names with commas\nhelp: choices: "
                                   "rtn_sym, rtn_asym, fp, bitmod, bitmod_compat, afpq, afpq_nf, mofq, nf, nf_double, "
                                   "bitdistiller, paretoq, ..."),
    ("w.npy --methods fp,bitmd --bits 4", "unknown method at --methods: got 'bitmd', expected a method of `bitkiln "
                                          "quantize`\nhelp: did you mean bitmod, bitmod_compat?"),
    ("w.npy --methods fp,olive --bits 3", "width not offered at --bits: got '3 bits', expected 4 for olive\nhelp: "
                                          "methods of that width: rtn_sym, rtn_asym, fp, bitmod, afpq, afpq_nf, mofq, "
                                          "nf, nf_double, bitdistiller, paretoq, ant, awq, squeezellm, dense_sparse"),
    ("w.npy --method bitmd --bits 3", "unknown method at --method: got 'bitmd', expected a method of `bitkiln "
                                      "quantize`\nhelp: did you mean bitmod, bitmod_compat?"),
    ("w.npy --method bitmod --bits 5", "width not offered at --bits: got '5 bits', expected 3, 4 for bitmod\nhelp: "
                                       "methods of that width: rtn_sym, rtn_asym, fp, awq, dense_sparse"),
    ("w.npy --method bitmod", "missing width at --bits: expected 3, 4 for bitmod"),
    ("w.npy --method bitmod --bits three", "invalid value at bitkiln quantize --bits: got 'three', expected a valid "
                                           "number\nhelp: see `bitkiln quantize --help`"),
    ("w.npy --method fp --bits 4 --group 0", "not a group size at --group: got '0', expected 1 or more, or row"),
    ("w.npy --method fp --bits 4 --group -8", "not a group size at --group: got '-8', expected 1 or more, or row"),
    ("w.npy --method fp --bits 4 --group 1e3", "not a group size at --group: got '1e3', expected 1 or more, or row"),
    ("w.npy --method fp --bits 4 --option scale", "not an option at --option: got 'scale', expected KEY=VALUE"),
    ("w.npy --method fp --bits 4 --option scal=fp16", "unknown option at method fp: got 'scal', expected element, "
                                                      "scale\nhelp: did you mean scale?"),
    ("w.npy --method fp --bits 4 --option scale=16", "unknown scale format at scale: got '16', expected none, uint2, "
                                                     "uint3, uint4, uint5, uint6, uint7, uint8, e8m0, ue4m3, ue5m3, "
                                                     "fp16, fp32\nhelp: did you mean fp16?"),
    ("w.npy --method mxfp4 --group 64", "block size is fixed at group: got '64', expected 32, the block of mxfp4\n"
                                        "help: leave the group out"),
    ("w.npy --method fp --bits 4 -o q.txt", "unknown kind of file at -o: got 'q.txt', expected a name that ends in "
                                            ".npz"),
    ("none.npy --method fp --bits 4 -o q.npz", "no such file at none.npy"),
    ("w.npy --method fp --bits 4 --tensor v", "no such tensor at w.npy: got 'v', expected a tensor of the file\nhelp: "
                                              "choices: w"),
    ("w.npy --method awq --bits 4", "no calibration data at calibration: expected activation rows (rows, K) for awq"),
    ("w.npy --method fp --bits 4 --calibration x.npy", "calibration without meaning at calibration: got 'method fp', "
                                                       "expected a method that takes activations: bitmod, mofq, "
                                                       "bitdistiller, awq, ptq161"),
    ("w.npy --method awq --bits 4 --calibration none.npy", "no such file at none.npy"),
    ("net.npz --method awq --bits 4 --calibration w.npy -o q.npz --tensor ids",
     "calibration does not fit the weights at calibration: got '300 columns', expected rows of 9 activations, one for "
     "each input channel"),
    ("nan.npy --method fp --bits 4 -o q.npz", "NaN or Inf in tensor at nan.npy nan[0, 1]: got nan, expected finite "
                                              "values (1 of 4 are not)"),
    ("complex.npy --method fp --bits 4", "wrong dtype at complex.npy complex: got complex128, expected real numbers "
                                         "(float or integer)\nhelp: convert it first, e.g. tensor.astype(np.float32)"),
    ("empty.npy --method fp --bits 4", "empty tensor at empty.npy empty: got (0, 3), expected a shape of at least one "
                                       "element"),
    ("cut.npy --method fp --bits 4 -o q.npz", "damaged file at cut.npy: got 'mmap length is greater than file size', "
                                              "expected a complete .npy file"),
    ("object.npy --method fp --bits 4 -o q.npz", "array of Python objects at object.npy: got 'pickled data', expected "
                                                 "numbers: pickles can run code and are never read\nhelp: save it as "
                                                 "float32, e.g. numpy.save(path, array.astype('float32'))"),
    ("text.npz --method fp --bits 4 -o q.npz", "damaged file at text.npz: got 'neither an array nor an archive', "
                                               "expected a complete .npz file"),
    ("cut.safetensors --method fp --bits 4", "damaged file at cut.safetensors: got '3 bytes', expected a header length "
                                             "of 8 bytes"),
    ("w.npy --method fp --bits 4 --colour red", "unknown option at bitkiln quantize: got '--colour', expected an "
                                                "option of this command\nhelp: did you mean --compare, --group, "
                                                "--tensor? see `bitkiln quantize --help`"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS, ids=[line or "nothing" for line, _ in ERRORS])
def test_one_error_and_nothing_written(line, message, capsys):
    np.save("nan.npy", np.array([[1, np.nan], [0, 0]]))
    np.save("complex.npy", np.ones((2, 2), complex))
    np.save("empty.npy", np.ones((0, 3)))
    np.save("object.npy", np.array([[{}]], object), allow_pickle=True)
    with open("w.npy", "rb") as file, open("cut.npy", "wb") as cut:
        cut.write(file.read()[:-10])
    for name in ("text.npz", "cut.safetensors"):
        with open(name, "wb") as file:
            file.write(b"abc")
    before = sorted(os.listdir("."))
    code, out, err = run(capsys, line)
    assert (code, out) == (2, "")
    assert err == f"error: {message}\n"
    assert err.count("error:") == 1 and sorted(os.listdir(".")) == before


def test_unwritable_output(capsys):
    with open("file", "w"):
        pass
    code, out, err = run(capsys, "w.npy --method fp --bits 4 -o file/q.npz")
    assert (code, out) == (1, "") and err.startswith("error: cannot write at file/q.npz: got ")


def test_an_old_file_is_replaced_whole(capsys):
    for bits in (3, 4):
        assert run(capsys, f"w.npy --method fp --bits {bits} -o q.npz")[0] == 0
    assert groupfile.load("q.npz").types == ("fp4",)
    assert not [name for name in os.listdir(".") if name.startswith(".")]
