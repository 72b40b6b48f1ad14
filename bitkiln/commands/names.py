"""Names that a shell completes, as they are in the registries: those need NumPy, for which a TAB does not wait.

A test compares every list with its registry.
"""

from __future__ import annotations

__all__ = ["BLOCK_FORMATS", "FAMILIES", "FORMATS", "METHODS", "REPRODUCED", "WEIGHTS", "WORKLOADS"]

# `models.formats`: plain formats, then those of blocks, and the families of both.
FORMATS = (
    "fp3", "fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "fp8_e3m4", "fp8_e4m3_ieee", "fp16", "bf16",
    "fp32", "e8m0", "ue4m3", "ue5m3", "ternary", "binary", "seq2", "nf3", "nf4", "flint4", "bitmod3_er_pos",
    "bitmod3_er_neg", "bitmod3_ea_pos", "bitmod3_ea_neg", "bitmod4_er_pos", "bitmod4_er_neg", "bitmod4_ea_pos",
    "bitmod4_ea_neg", "int2", "int3", "int4", "int5", "int6", "int7", "int8", "int9", "int10", "int11", "int12",
    "int13", "int14", "int15", "int16", "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8",
    "uint9", "uint10", "uint11", "uint12", "uint13", "uint14", "uint15", "uint16", "e1m1", "e1m2", "e3m0", "e1m3",
    "e2m2", "e3m1", "e4m0", "e1m4", "e4m1", "e5m0", "e1m5", "e2m4", "e3m3", "e4m2", "e5m1", "e6m0", "e1m6", "e2m5",
    "e6m1", "e7m0", "posit2_0", "posit3_0", "posit4_0", "posit4_1", "posit5_0", "posit5_1", "posit5_2", "posit6_0",
    "posit6_1", "posit6_2", "posit6_3", "posit7_0", "posit7_1", "posit7_2", "posit7_3", "posit7_4", "posit8_0",
    "posit8_1", "posit8_2", "posit8_3", "posit8_4", "posit9_0", "posit9_1", "posit9_2", "posit9_3", "posit9_4",
    "posit10_0", "posit10_1", "posit10_2", "posit10_3", "posit10_4", "posit11_0", "posit11_1", "posit11_2",
    "posit11_3", "posit11_4", "posit12_0", "posit12_1", "posit12_2", "posit12_3", "posit12_4", "posit13_0",
    "posit13_1", "posit13_2", "posit13_3", "posit13_4", "posit14_0", "posit14_1", "posit14_2", "posit14_3",
    "posit14_4", "posit15_0", "posit15_1", "posit15_2", "posit15_3", "posit15_4", "posit16_0", "posit16_1",
    "posit16_2", "posit16_3", "posit16_4",
)
BLOCK_FORMATS = (
    "mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8", "nvfp4", "nvfp4_ue5m3",
)
FAMILIES = (
    "minifloat", "codebook", "int", "posit", "block-scaled",
)
# Weight types of the bit-serial engine (`models.design.weights`).
WEIGHTS = (
    "bitmod3", "bitmod4", "ternary", "binary", "seq2", "int2", "int3", "int4", "int5", "int6", "int7", "int8",
    "fp3", "fp4", "fp6_e2m3", "fp6_e3m2", "e2m2", "e3m1", "flint4", "nf4_int8", "nf3_int8",
)
# `models.workloads.shapes_registry`
WORKLOADS = (
    "digits-mlp", "digits-cnn", "g2p", "opt-1.3b:prefill", "opt-1.3b:decode", "phi-2b:prefill", "phi-2b:decode",
    "yi-6b:prefill", "yi-6b:decode", "llama-2-7b:prefill", "llama-2-7b:decode", "llama-2-13b:prefill",
    "llama-2-13b:decode", "llama-3-8b:prefill", "llama-3-8b:decode", "resnet18", "resnet50", "mobilenetv2",
    "bert-base", "vit-b", "minkunet", "second", "minkunet-small", "minkunet-tiny", "second-small", "ul-vio-like",
    "gaze-lle-like", "resnet18-cifar",
)
# `models.quantize.methods`
METHODS = (
    "rtn_sym", "rtn_asym", "fp", "bitmod", "bitmod_compat", "afpq", "afpq_nf", "mofq", "nf", "nf_double",
    "bitdistiller", "paretoq", "ternary", "flint", "ant", "olive", "mx", "mxfp4", "mxfp6_e2m3", "mxfp6_e3m2",
    "mxfp8_e4m3", "mxfp8_e5m2", "mxint8", "nvfp4", "nvfp4_ue5m3", "awq", "squeezellm", "dense_sparse", "ptq161",
    "mixed24",
)
# `flow.reproduce`
REPRODUCED = (
    "xr-npe", "bitmod", "spocta", "fp8-int8", "pareto", "split", "crossover", "intensity", "arrays", "memory",
)
