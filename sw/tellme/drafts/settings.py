# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How many tokens a board drafts for a pass, and what a drafted token costs: from a model's shape and a core's."""

from math import ceil

from tellme.compiler.cycles import PassModel, Run
from tellme.compiler.image import Image
from tellme.models.config import ModelConfig
from tellme.spec.config import CoreConfig
from tellme.spec.drafts import SETTINGS_FIELDS, TOKEN_CREDIT
from tellme.spec.words import pack_word

__all__ = ["draft_settings"]

#: How often a drafted token is right, where the one before it is: 1.36, 1.49 and 1.55 tokens a pass of decision 18 are 1 + p,
#: 1 + p + p**2 and so on with this p, within 0.02.
_RIGHT = 0.37
#: Numbers of drafted tokens whose rates are no further apart than this are alike.
_ALIKE = 0.02
#: Drafted tokens of a pass at most: more of them were not measured.
_MOST = 7
#: The golden model's settings: a pass of four tokens takes 1.6 times as long as one of one token (NumPy, stories-1m and -8m).
_GOLDEN = {"most": 3, "cost": round(0.2 * TOKEN_CREDIT)}


def draft_settings(c: ModelConfig, image: Image, core: CoreConfig) -> int:
    """The register ``draft_settings`` (SETTINGS_FIELDS of :mod:`tellme.spec.drafts`) for a model on a core that drafts.

    With k drafted tokens, of which each is right with the chance p = 0.37 where the one before it is, a pass gives

        E(k) = 1 + p + ... + p**k tokens in C(k + 1) cycles,

    C(n) = those of :class:`~tellme.compiler.cycles.PassModel` for n tokens in the middle of the context.  ``most`` is the
    largest k, up to 7 and to the tokens that the core's lanes leave beside the first one, whose E(k) / C(k + 1) is within 2 % of
    the best: what a table is worth differs from text to text by more, and where it is worth more, more tokens are.  ``cost`` is
    what each of them costs in 1 / 256 of a token, rounded up:

        cost = 256 * (C(most + 1) / C(1) - 1) / most.

    For the golden model both were measured, whatever the shape.
    """
    if core.unlimited:
        return pack_word(SETTINGS_FIELDS, _GOLDEN)
    model, position = PassModel(c, image, core), c.context // 2
    cycles = [model.cycles([Run(position, n)]) for n in range(1, min(_MOST + 1, core.head_tokens) + 1)]
    rates = [sum(_RIGHT**i for i in range(k + 1)) / cycles[k] for k in range(len(cycles))]
    most = max(k for k in range(1, len(cycles)) if rates[k] >= (1 - _ALIKE) * max(rates[1:]))
    cost = max(0, ceil(TOKEN_CREDIT * (cycles[most] / cycles[0] - 1) / most))
    return pack_word(SETTINGS_FIELDS, {"most": most, "cost": min(cost, (1 << SETTINGS_FIELDS["cost"]) - 1)})
