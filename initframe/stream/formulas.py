"""The formula of every distribution, written once over lanes: from two random words to two float32 values.

Each float32 operation below is rounded by itself. No backend may fuse, reorder or replace any of them: this makes the
bits of all backends equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature

from initframe.stream.floats import f32
from initframe.stream.lanes import Float, Lanes, Pair, Wide, Word

# Minimax coefficients, highest power first. NLOG: -ln(1 + f) / f; SIN, COS: √½·sin(πt/4)/t and
# √½·cos(πt/4) in t²; ICDF: √2·erfinv(1 - q) / (1 - q) in v = -ln(q(2 - q)) (centre) and √v (tail).
NLOG = (
    -0.08722355560801909, 0.14366842492227624, -0.14952266728666536, 0.16562393250734067, -0.19956833545404798,
    0.2500207405201311, -0.3333418562534884, 0.49999987964667403, -0.9999999741897251,
)  # fmt: skip
LN2 = 0.6931471805599453
SIN = (-2.5423676693247315e-05, 0.0017607009253596997, -0.05709564451849215, 0.5553603655628179)
COS = (-0.0002254825744353892, 0.011207582565585428, -0.21808888117803876, 0.7071067616869839)
ICDF_CENTRE = (
    8.846086732759307e-10, -7.74084833461948e-09, -2.5930507739072746e-08, 6.34165264919708e-07,
    -2.511400455341415e-06, -1.7972998789034806e-05, 0.00027595212050810934, -0.0011825550720259458,
    -0.008115031168042866, 0.34171699917494247, 2.2960351364747185,
)  # fmt: skip
ICDF_TAIL = (
    3.935831973909208e-05, -0.0002669209296754758, 0.0005980284491503814, -0.0008200356786057476,
    0.0012856473420401475, -0.0026307070892657787, 0.0042390447840126855, 1.4250638498445898, 4.786243917375897,
)  # fmt: skip
ICDF_SPLIT, ICDF_CENTRE_MID, ICDF_TAIL_MID = 6.0, 3.0, 3.548534870147705

SQRT_HALF = 0x3F3504F3
"""The bits of √½: the significand is taken in [√½, √2)."""
SIGN = -0x80000000


def horner(x: Float, coefficients: Sequence[float]) -> Float:
    """Evaluate a polynomial, highest power first, multiply and add rounded apart."""
    value: Float = f32(coefficients[0])
    for c in coefficients[1:]:
        value = value * x + f32(c)
    return value


def clamp(lanes: Lanes, x: Float, low: float, high: float) -> Float:
    """Hold x in [low, high]."""
    x = lanes.select(x < low, low, x)
    return lanes.select(x > high, high, x)


def fraction(word: Word) -> Word:
    """Return the upper 31 bits of a word, as a non-negative number."""
    return (word >> 1) & 0x7FFFFFFF


def neglog(lanes: Lanes, u: Float, scale: float, power: int = 0) -> Float:
    """Return scale · (-ln(u / 2^power)) for normal u in (0, 2^power].

    The scale multiplies the coefficients before they are rounded. The power is subtracted from the exponent, which
    costs no operation.
    """
    i = lanes.bits(u) - (SQRT_HALF + (power << 23))
    exponent = lanes.to_float(i >> 23)
    f = lanes.from_bits((i & 0x7FFFFF) + SQRT_HALF) - 1.0
    return exponent * f32(-LN2 * scale) + horner(f, [scale * c for c in NLOG]) * f


def bits(_lanes: Lanes, words: Pair) -> Pair:
    """Return the words as they are."""
    return words


def uniform(lanes: Lanes, words: Pair, *, step: float, offset: float, low: float, top: float) -> Pair:
    """Spread 24 bits over [low, high): midpoints of 2^24 cells, then held in [low, the float below high]."""

    def value(word: Word) -> Float:
        return clamp(lanes, lanes.to_float((word >> 8) & 0xFFFFFF) * step + offset, low, top)

    return value(words[0]), value(words[1])


def normal(lanes: Lanes, words: Pair, *, mean: float, std: float) -> Pair:
    """Draw two normals from two words (Box and Muller, 1958): a radius, and an angle of π/4·(1 + t) in a quadrant."""
    radius, angle = words
    u = lanes.to_float(fraction(radius)) + 0.5  # 2^31 times the uniform: rounded alike, one product less
    r = lanes.sqrt(neglog(lanes, u, 2.0, power=31)) * std
    t = lanes.to_float(angle << 2) * 2.0**-31
    z = t * t
    s, c = horner(z, SIN) * t, horner(z, COS)

    def flip(value: Float, quadrant: Word) -> Float:
        return lanes.from_bits(lanes.bits(value) ^ (quadrant & SIGN))

    return r * flip(c - s, angle) + mean, r * flip(c + s, angle << 1) + mean


def truncated_normal(
    lanes: Lanes,
    words: Pair,
    *,
    loc: float,
    scale: float,
    low: float,
    high: float,
    left: float,
    right: float,
    step: float,
) -> Pair:
    """Invert the distribution function from whichever end is nearer, then clamp to [low, high].

    left, right and step are twice the probability mass below low, above high, and of one of 2^31 cells.
    """

    def value(word: Word) -> Float:
        h = fraction(word)
        below, above = lanes.to_float(h) * step + left, lanes.to_float(h ^ 0x7FFFFFFF) * step + right
        is_left = below < above
        z = normal_quantile(lanes, lanes.select(is_left, below, above))
        return clamp(lanes, lanes.select(is_left, -z, z) * scale + loc, low, high)

    return value(words[0]), value(words[1])


def normal_quantile(lanes: Lanes, q: Float) -> Float:
    """Return z ≥ 0 with P(|Z| > z) = q, for normal Z and q in (0, 1] (after Giles, "Approximating erfinv", 2010)."""
    v = neglog(lanes, q * (2.0 - q), 1.0)
    centre = horner(v - ICDF_CENTRE_MID, ICDF_CENTRE)
    ratio = lanes.select_rarely(v < ICDF_SPLIT, centre, lambda: horner(lanes.sqrt(v) - f32(ICDF_TAIL_MID), ICDF_TAIL))
    return ratio * (1.0 - q)


def to_bfloat16(lanes: Lanes, value: Float) -> Word:
    """Round to bfloat16, ties to even; return its bits in the lower half of a word. NaN is not handled."""
    i = lanes.bits(value)
    return ((i + 0x7FFF + ((i >> 16) & 1)) >> 16) & 0xFFFF


def to_float16(lanes: Lanes, value: Float) -> Word:
    """Round to float16, ties to even; return its bits in the lower half of a word. NaN is not handled.

    Few processors have float16 arithmetic, so integers do it. A value below 2^-14, subnormal in float16, is rounded
    by adding 0.5, whose last bit is worth as much as float16's there. A value that is too large becomes infinite.
    """
    i = lanes.bits(value)
    magnitude = i & 0x7FFFFFFF
    magnitude = lanes.select(magnitude > 0x47800000, 0x47800000, magnitude)
    subnormal = lanes.bits(lanes.from_bits(magnitude) + 0.5) - 0x3F000000
    regular = (magnitude + (0xFFF - (112 << 23)) + ((magnitude >> 13) & 1)) >> 13
    return lanes.select(magnitude < 0x38800000, subnormal, regular) | ((i >> 16) & 0x8000)


def mix(index: Wide, bits: Wide) -> Wide:
    """Hash an element's index and bits for the digest, in 64 bits that wrap."""
    return _splitmix(_splitmix((index + 1) * signed64(0x9E3779B97F4A7C15)) ^ bits)


def _splitmix(z: Wide) -> Wide:
    """Scramble 64 bits as splitmix64 does (Steele, Lea, Flood, "Fast splittable generators", OOPSLA 2014)."""
    z = (z ^ logical_shift(z, 30)) * signed64(0xBF58476D1CE4E5B9)
    z = (z ^ logical_shift(z, 27)) * signed64(0x94D049BB133111EB)
    return z ^ logical_shift(z, 31)


def logical_shift(z: Wide, count: int) -> Wide:
    """Shift 64 bits to the right, bringing in zeros."""
    return (z >> count) & ((1 << 64 - count) - 1)


def signed64(word: int) -> int:
    """Read 64 bits as a signed number: lanes are signed."""
    return word - (1 << 64) if word >> 63 else word


FORMULAS: dict[str, Callable[..., Pair]] = {
    "bits": bits,
    "uniform": uniform,
    "normal": normal,
    "truncated_normal": truncated_normal,
}


@cache
def constant_names(distribution: str) -> tuple[str, ...]:
    """Return the names of the constants that a distribution's formula takes, in order.

    >>> constant_names("normal")
    ('mean', 'std')
    """
    return tuple(name for name, p in signature(FORMULAS[distribution]).parameters.items() if p.kind is p.KEYWORD_ONLY)
