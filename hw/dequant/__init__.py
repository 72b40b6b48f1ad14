"""Bit-serial engine: term decoders, processing elements, group dequantisers and their array."""
