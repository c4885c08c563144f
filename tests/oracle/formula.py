"""The numbers that both sides of the oracle start from. formula.cpp computes the same, bit for bit, so that a recording
can be checked where PyTorch is missing. README.md gives the reasons for the ranges."""

import math

import numpy as np

PATCH_PIXELS = 4
SKETCH_SUMS = 4


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return np.uint64(value)


def random_bits(stream, count):
    """`count` 64-bit numbers, each a hash (SplitMix64's) of the stream's name and the element's index."""
    x = fnv1a(stream) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(stream, count):
    """In [-1, 1), multiples of 2^-23."""
    return (random_bits(stream, count) >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def first_value(seed, name, shape, is_norm):
    """A parameter or running statistic as training starts, float32."""
    count = math.prod(shape)
    u = uniform(f"{seed}.{name}", count)
    if name.endswith(".running_mean"):
        values = 0.05 * u
    elif name.endswith(".running_var"):
        values = 0.0006 + 0.0003 * u
    elif is_norm and name.endswith(".weight"):
        values = 0.045 + 0.01 * u
    elif is_norm:
        values = np.where(np.arange(count) % 4 == 3, -0.125, 0.125) + 0.025 * u
    elif name.endswith(".bias"):
        values = 0.1 * u
    else:
        fan_in = count // shape[0]
        values = u / math.sqrt(fan_in)
    return values.astype(np.float32).reshape(shape)


def images(seed, name, shape):
    """N C H W: a colour for each image, square patches, and noise on each pixel."""
    n, c, h, w = shape
    stream = f"{seed}.{name}"
    colours = uniform(f"{stream}.colours", n * c).reshape(n, c, 1, 1)
    rows, columns = -(-h // PATCH_PIXELS), -(-w // PATCH_PIXELS)
    patches = uniform(f"{stream}.patches", n * c * rows * columns).reshape(n, c, rows, columns)
    patches = patches.repeat(PATCH_PIXELS, axis=2).repeat(PATCH_PIXELS, axis=3)[:, :, :h, :w]
    noise = uniform(f"{stream}.noise", n * c * h * w).reshape(shape)
    return (2.0 * colours + patches + noise).astype(np.float32)


def labels(seed, name, count, classes):
    return (random_bits(f"{seed}.{name}.labels", count) % np.uint64(classes)).astype(np.int64)


def sketch(name, values):
    """The norm of a tensor, and the sums of its elements under random signs. The mean square of the differences between
    the sums of two tensors estimates the squared norm of the tensors' difference: every element counts, at its place."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    signs = random_bits(f"signs.{name}", flat.size)
    sums = [np.where(signs >> np.uint64(63 - k) & np.uint64(1), -flat, flat).sum() for k in range(SKETCH_SUMS)]
    return [math.sqrt(np.dot(flat, flat)), *sums]
