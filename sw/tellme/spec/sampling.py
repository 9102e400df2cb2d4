# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How a token is drawn from the best logits, in integers: logits, settings, seed and position name the token.

The steps, on up to 64 candidates (id, logit in Q15.16), best first, ties to the lower id:

1. Repetition penalty (:func:`penalised`): the logit of a token that the text has already is divided by the penalty if the logit
   is above 0, else multiplied with the penalty.  Candidates are ordered anew.
2. top-k: the first ``top_k`` candidates stay.
3. top-p: the shortest run of candidates from the best on stays whose weights at temperature 1 reach ``top_p`` of all candidates'.
4. min-p: candidates stay whose probability at temperature 1 is at least min_p times that of the best one: those whose gap
   best - logit is at most ``max_gap``, -ln(min_p).
5. Softmax at the temperature: weight 2**-x of a gap, x = gap * log2(e) / temperature in steps of 1/512 (:func:`weight`).
6. The draw: the first candidate at which the running sum of weights passes total * random / 2**32.

The order is that of llama.cpp's samplers.  The random number is :func:`random32` of seed and position, and of nothing else: a run
that begins anew in the middle of a text draws what the first run drew.

The gateware's sampler computes all steps but the first, for the settings that :func:`board_draws` names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import e as EULER
from math import floor, log, log2

from tellme.spec.attention import LOGIT_FRAC, fixed
from tellme.spec.formats import round_half_up
from tellme.spec.memory import SAMPLING_REGISTERS, TOP_ENTRIES
from tellme.spec.ranges import Range
from tellme.spec.scale import SCALE_SIG_BITS, Scale, scale_from_fraction
from tellme.spec.tables import EXP2_FRAC_BITS, exp2_rom

__all__ = ["BOARD_SHIFTS", "MAX_GAP", "MAX_TEMPERATURE", "MIN_TEMPERATURE", "SEED_BITS", "THREEFRY_PARITY",
           "THREEFRY_ROTATIONS", "THREEFRY_ROUNDS", "TOP_P_BITS", "TOP_P_ONE", "UNIT_TEMPERATURE", "WEIGHT_BITS", "DrawSettings",
           "board_draws", "candidates", "draw", "exponent", "inverse_temperature", "max_gap", "pack_settings", "penalised",
           "random32", "shift_of", "threefry2x32", "unpack_settings", "weight", "weights"]

#: A seed: the key of the random function.
SEED_BITS = 64
#: Temperatures that have settings: below, a gap of one step of the logits leaves no weight; above, all weights are alike.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6
#: top-p in steps of 2**-16; TOP_P_ONE leaves nothing out.
TOP_P_BITS = 16
#: top-p of 1.
TOP_P_ONE = 1 << TOP_P_BITS
#: The largest difference of two logits, and a ``max_gap`` that leaves nothing out.
MAX_GAP = (1 << 32) - 1
#: Bits of a weight: 2**31 is the best candidate's.
WEIGHT_BITS = 32
#: Shifts (:func:`shift_of`) of the inverse temperatures that the gateware's sampler computes with: its product is made a bit a
#: cycle, low bits first, and the shift's bits are counted in 6 bits.
BOARD_SHIFTS = Range(SCALE_SIG_BITS, 63)
_ROM_BITS = 17
LOGIT_BITS = 32

#: Of the random function: the third word of a key is this, exclusive or both others.
THREEFRY_PARITY = 0x1BD11BDA
#: Bits that a round rotates by, in turn.
THREEFRY_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
#: Rounds of the random function.
THREEFRY_ROUNDS = 20
_MASK = 0xFFFFFFFF


def threefry2x32(counter: tuple[int, int], key: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), words of 32 bits.

    A round: x0 += x1, x1 = rotl(x1, r) ^ x0.  Ahead of the rounds and after each four of them comes a word of the key.
    """
    keys = (*key, THREEFRY_PARITY ^ key[0] ^ key[1])
    x0, x1 = (counter[0] + keys[0]) & _MASK, (counter[1] + keys[1]) & _MASK
    for i in range(THREEFRY_ROUNDS):
        x0 = (x0 + x1) & _MASK
        r = THREEFRY_ROTATIONS[i % 8]
        x1 = (x1 << r & _MASK | x1 >> 32 - r) ^ x0
        if i % 4 == 3:
            n = i // 4 + 1
            x0, x1 = (x0 + keys[n % 3]) & _MASK, (x1 + keys[(n + 1) % 3] + n) & _MASK
    return x0, x1


def random32(seed: int, position: int) -> int:
    """The random number of a position: Threefry's first word, of counter (position, 0) and key (low, high word of the seed)."""
    return threefry2x32((position & _MASK, 0), (seed & _MASK, seed >> 32 & _MASK))[0]


def inverse_temperature(temperature: float) -> Scale:
    """log2(e) / temperature: octaves of weight a unit of logit.  ``temperature``: MIN_TEMPERATURE to MAX_TEMPERATURE."""
    return scale_from_fraction(Fraction(log2(EULER)) / Fraction(temperature))


#: At temperature 1, where top-p and min-p are decided.
UNIT_TEMPERATURE = inverse_temperature(1.0)


def max_gap(min_p: float) -> int:
    """The largest best - logit, in Q.16, of a candidate ``min_p`` times as probable as the best or more; 0 leaves nothing out."""
    return MAX_GAP if min_p <= 0 else min(MAX_GAP, floor(-log(min_p) * 2**LOGIT_FRAC))


def shift_of(exp: int) -> int:
    """Bits that a product gap * sig of an inverse temperature sig * 2**exp is shifted right by, to have 9 fraction bits."""
    return LOGIT_FRAC - EXP2_FRAC_BITS - exp


def exponent(gap: int, inverse: Scale) -> int:
    """gap * inverse with 9 fraction bits, rounded half up: the octaves that a candidate lies below the best one.

    ``gap``: 0 to MAX_GAP, Q.16.  The result has no upper limit; from 32 octaves on the weight is 0.
    """
    return round_half_up(gap * inverse.sig, shift_of(inverse.exp))


def weight(gap: int, inverse: Scale) -> int:
    """2**31 * 2**-(exponent / 512), rounded down: exp2_rom[fraction] << 15 >> octaves.  0 to 2**31."""
    octaves, fraction = divmod(exponent(gap, inverse), 1 << EXP2_FRAC_BITS)
    return 0 if octaves >= WEIGHT_BITS else exp2_rom()[fraction] << WEIGHT_BITS - _ROM_BITS >> octaves


@dataclass(frozen=True)
class DrawSettings:
    """Settings of a draw, as integers: what the steps of this module's description take.

    ``inverse``: :func:`inverse_temperature`; None takes the best candidate.  ``top_k``: 1 to 64.  ``top_p``: 0 to TOP_P_ONE, in
    steps of 2**-16.  ``max_gap``: 0 to MAX_GAP.  ``penalty``: None for no repetition penalty.  ``seed``: 0 to 2**64 - 1.
    """

    inverse: Scale | None = None
    top_k: int = TOP_ENTRIES
    top_p: int = TOP_P_ONE
    max_gap: int = MAX_GAP
    penalty: Scale | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """A number outside its range is a RangeError."""
        Range(1, TOP_ENTRIES).check("top_k", self.top_k)
        Range(0, TOP_P_ONE).check("top_p", self.top_p)
        Range(0, MAX_GAP).check("max_gap", self.max_gap)
        Range(0, (1 << SEED_BITS) - 1).check("seed", self.seed)


def board_draws(settings: DrawSettings) -> bool:
    """Whether the gateware's sampler computes a draw with these settings: those with a temperature of 0.0113 or more, and without
    a repetition penalty.

    0.0113 is log2(e) / 2**7: below, the inverse temperature has a shift below BOARD_SHIFTS.
    """
    least, most = BOARD_SHIFTS
    return settings.penalty is None and settings.inverse is not None and least <= shift_of(settings.inverse.exp) <= most


def pack_settings(settings: DrawSettings) -> dict[str, int]:
    """The sampling registers' values for a run that draws so; a ValueError for settings that the sampler does not compute."""
    if settings.inverse is None or not board_draws(settings):
        raise ValueError("a board draws at a temperature of 0.0113 or more, and without a repetition penalty")
    mask = 0xFFFFFFFF
    return dict(zip(SAMPLING_REGISTERS, (settings.seed & mask, settings.seed >> 32, settings.inverse.pack(), settings.top_k,
                                         settings.top_p, settings.max_gap), strict=True))


def unpack_settings(registers: Mapping[str, int]) -> DrawSettings:
    """The settings that the sampling registers say; a RangeError for a number outside its range."""
    low, high, inverse, top_k, top_p, gap = (registers[name] for name in SAMPLING_REGISTERS)
    return DrawSettings(Scale.unpack(inverse), top_k, top_p, gap, None, low | high << 32)


def penalised(top: Sequence[tuple[int, int]], seen: set[int] | frozenset[int], penalty: Scale) -> list[tuple[int, int]]:
    """The candidates with the repetition penalty of the tokens in ``seen``, in their new order: best first, ties to the lower id.

    A logit above 0 is multiplied with the scale nearest to 1 / penalty, one of 0 or below with ``penalty``.
    """
    inverse = scale_from_fraction(1 / (Fraction(penalty.sig) * Fraction(2) ** penalty.exp))
    changed = [(token, fixed(logit, inverse if logit > 0 else penalty, 0, LOGIT_BITS) if token in seen else logit)
               for token, logit in top]
    return sorted(changed, key=lambda entry: (-entry[1], entry[0]))


def candidates(top: Sequence[tuple[int, int]], settings: DrawSettings) -> list[tuple[int, int]]:
    """Those of the candidates, best first, that top-k, top-p and min-p leave: one at least."""
    kept = list(top[:settings.top_k])
    best = kept[0][1]
    if settings.top_p < TOP_P_ONE:
        plain = [weight(best - logit, UNIT_TEMPERATURE) for _, logit in kept]
        wanted, total, count = -(-sum(plain) * settings.top_p // TOP_P_ONE), plain[0], 1
        while total < wanted:
            total, count = total + plain[count], count + 1
        kept = kept[:count]
    return [entry for entry in kept if best - entry[1] <= settings.max_gap]


def weights(top: Sequence[tuple[int, int]], inverse: Scale) -> list[int]:
    """The weight of each candidate, best first."""
    return [weight(top[0][1] - logit, inverse) for _, logit in top]


def draw(top: Sequence[tuple[int, int]], settings: DrawSettings, position: int,
         seen: set[int] | frozenset[int] = frozenset()) -> int:
    """The token that goes to ``position``, from the best (id, logit in Q15.16), best first.

    ``seen``: the tokens that the repetition penalty counts.  Without a temperature no random number counts.
    """
    if settings.penalty is not None:
        top = penalised(top, seen, settings.penalty)
    if settings.inverse is None:
        return top[0][0]
    kept = candidates(top, settings)
    shares = weights(kept, settings.inverse)
    threshold = sum(shares) * random32(settings.seed, position) >> 32
    # The running sum ends at the total, which is above the threshold.
    return next(token for (token, _), total in zip(kept, accumulate(shares), strict=True) if total > threshold)
