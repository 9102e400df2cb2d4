# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How many tokens a board drafts for a pass, and what a drafted token costs: from a model's shape and a core's."""

from math import ceil

from tellme.compiler.image import Image
from tellme.models.config import ModelConfig
from tellme.spec.config import CoreConfig
from tellme.spec.drafts import SETTINGS_FIELDS, TOKEN_CREDIT
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.packing import SLICE
from tellme.spec.words import pack_word

__all__ = ["draft_settings", "list_cycles", "pass_cycles"]

#: Cycles for the tables of a slice; of a KV head's slot without a word; the part of its peak that the memory reaches (README).
_BUILD, _SLOT, _PEAK = 55, 24, 0.99
#: Cycles of a logit that enters a list of the best 64 while the list fills, and afterwards.
_FILL, _ENTER = 35, 60
#: How often a drafted token is right, where the one before it is: 1.36, 1.49 and 1.55 tokens a pass of decision 18 are 1 + p,
#: 1 + p + p**2 and so on with this p, within 0.02.
_RIGHT = 0.37
#: Numbers of drafted tokens whose rates are no further apart than this are alike.
_ALIKE = 0.02
#: A pass whose drafts are all refused, and that costs no more than this, is not worth a rest.
_CHEAP = 0.05
#: Drafted tokens of a pass at most: more of them were not measured.
_MOST = 7
#: The golden model's settings: a pass of four tokens takes 1.6 times as long as one of one token (NumPy, stories-1m and -8m).
_GOLDEN = {"most": 3, "cost": round(0.2 * TOKEN_CREDIT)}


def pass_cycles(c: ModelConfig, image: Image, core: CoreConfig, tokens: int, position: int) -> float:
    """Cycles of a pass by a model of its parts; the LM head takes all tokens.  Only cores with an SDR memory were compared.

    The engine takes a word of the memory a cycle in a pass of several tokens, and two rows in decode.  A linear waits for the
    codes of its first slice, for their tables, and for the sums of its last tile, of which each float pipeline takes one a cycle.
    A slot of attention reads K, V and scales once, and sends a sum a cycle; the engine rests meanwhile.  The memory gives a word
    a cycle less refreshes.  A pass takes as long as the longer of both.
    """
    stream = sum(2 * segment.words64 for segment in image.segments)
    share = ceil(tokens / core.float_lanes)
    waits = (4 * c.layers + 1) * ((SLICE + core.built_rows) * share + _BUILD)
    slots = ceil(tokens * (c.heads // c.kv_heads) / core.pes)
    read = c.layers * c.kv_heads * slots * (position + tokens) * (c.head_dim // 2 + 1)
    rest = c.layers * (c.kv_heads * slots * _SLOT + tokens * c.heads * c.head_dim)
    rows = core.word_lanes
    engine = stream / (rows if tokens > 1 else core.decode_rows)
    return max(engine + waits + read / rows + rest, (stream + read) / rows / _PEAK)


def list_cycles(c: ModelConfig, image: Image, core: CoreConfig, tokens: int) -> float:
    """Cycles in which the engine waits for the lists of the best 64 of a pass of several tokens.

    A row of the LM head takes the engine a cycle a word of the memory, n words.  Row r's logits enter the lists of the 64 best,
    with the chance 64 / r each, which takes 35 cycles while the lists fill and 60 then.  So row r waits for

        max(0, tokens * 35 - n) cycles, or from the 64th row on max(0, tokens * 60 * 64 / r - n).

    The two numbers are fitted to the simulated passes of decision 18: four tokens of stories-1m took 23,200 cycles more than by
    :func:`pass_cycles`, and this sum is 25,500; sixteen of stories-8m 111,000, and it is 129,000.
    """
    words = sum(2 * segment.words64 for segment in image.segments if segment.lm_head) / core.word_lanes / c.vocab
    return sum(max(0.0, tokens * (_FILL if row < TOP_ENTRIES else _ENTER * TOP_ENTRIES / row) - words) for row in range(c.vocab))


def draft_settings(c: ModelConfig, image: Image, core: CoreConfig) -> int:
    """The register ``draft_settings`` (SETTINGS_FIELDS of :mod:`tellme.spec.drafts`) for a model on a core.

    With k drafted tokens, of which each is right with the chance p = 0.37 where the one before it is, a pass gives

        E(k) = 1 + p + ... + p**k tokens in C(k + 1) cycles,

    C(n) = :func:`pass_cycles` + :func:`list_cycles` of n tokens in the middle of the context.  ``most`` is the largest k, up to 7
    and to the tokens that the core's lanes leave beside the first one, whose E(k) / C(k + 1) is within 2 % of the best: what a
    table is worth differs from text to text by more, and where it is worth more, more tokens are.  ``cost`` is what each of them
    costs in 1 / 256 of a token, rounded up:

        cost = 256 * (C(most + 1) / C(1) - 1) / most.

    It is 0, so that the board never rests, where C(most + 1) / C(1) is 1.05 or less: a slot begins without credit, so that each
    cost above 0 lets it rest for 16 passes where the first drafts are refused.  Such a rest saves a twentieth of a pass, and half
    a token a pass is lost.

    For the golden model both were measured, whatever the shape.
    """
    if core.unlimited:
        return pack_word(SETTINGS_FIELDS, _GOLDEN)
    position = c.context // 2
    cycles = [pass_cycles(c, image, core, n, position) + (list_cycles(c, image, core, n) if n > 1 else 0)
              for n in range(1, min(_MOST + 1, core.head_tokens) + 1)]
    if len(cycles) == 1:
        return 0
    rates = [sum(_RIGHT**i for i in range(k + 1)) / cycles[k] for k in range(len(cycles))]
    most = max(k for k in range(1, len(cycles)) if rates[k] >= (1 - _ALIKE) * max(rates[1:]))
    more = cycles[most] / cycles[0] - 1
    cost = ceil(TOKEN_CREDIT * more / most) if more > _CHEAP else 0
    return pack_word(SETTINGS_FIELDS, {"most": most, "cost": min(cost, (1 << SETTINGS_FIELDS["cost"]) - 1)})
