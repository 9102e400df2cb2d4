# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The table of drafted tokens as it lies in a board's memory, and the file that holds a table.

A table has words of 32 bits.  INDEX_WORDS words a token of the vocabulary come first, in the order of the ids, then the lists.

    word 2 t        INDEX_FIELDS: the token that follows token t where nothing else is known, or NONE; entries of t's list
    word 2 t + 1    first word of t's list, counted from the table's first word
    an entry        ENTRY_FIELDS: the token before t, and the token that follows these two

A drafted token behind tokens b, t is the ``next`` of the entry of t's list whose ``before`` is b; without such an entry it is
the ``next`` of t's index word; NONE there is no draft.  The entries of a list are in rising order of ``before``, each once.
A token that no token is before (a text's first) finds no entry.
"""

from dataclasses import dataclass
from struct import Struct

from tellme.spec.ranges import Range

__all__ = ["CREDIT_MOST", "DRAFT_VOCAB", "ENTRY_FIELDS", "HEADER", "INDEX_FIELDS", "INDEX_WORDS", "LIST_ENTRIES", "MAGIC", "NONE",
           "REST", "SETTINGS_FIELDS", "TOKEN_CREDIT", "VERSION", "Drafting"]

#: Words of the index a token.
INDEX_WORDS = 2
#: The first word of a token's two.
INDEX_FIELDS = {"next": 16, "entries": 16}
#: A word of a list.
ENTRY_FIELDS = {"before": 16, "next": 16}
#: In the place of a token: there is none.
NONE = 0xFFFF
#: Sizes of a vocabulary for which there are tables: ids of 16 bits, of which NONE is no token.
DRAFT_VOCAB = Range(1, NONE)
#: Entries of a list at most: a board looks at an entry a cycle, and a list is read between two passes.
LIST_ENTRIES = 1023

#: The register ``draft_settings``: drafted tokens of a pass and slot at most (0: none), and what a drafted token costs, in
#: 1 / TOKEN_CREDIT of a token.
SETTINGS_FIELDS = {"most": 4, "cost": 8}
#: Credit of an accepted token, with which a slot begins and goes on behind a rest; the most credit that a slot has; passes of a
#: slot without drafts behind a credit below 0.
TOKEN_CREDIT, CREDIT_MOST, REST = 256, 1023, 16


@dataclass
class Drafting:
    """Whether a slot's next pass has drafted tokens: a board turns drafting off by itself where drafting loses.

    A slot begins with the credit of a token: most first drafts are refused, whatever a table is worth.  A pass in which
    ``drafted`` tokens were drafted and ``accepted`` of them accepted gives accepted * TOKEN_CREDIT - drafted * cost, up to
    CREDIT_MOST in all.  Credit below 0 becomes TOKEN_CREDIT, and the slot's next REST passes have no drafts.
    """

    credit: int = TOKEN_CREDIT
    rest: int = 0

    def done(self, drafted: int, accepted: int, cost: int) -> None:
        """A pass of the slot's is over; it drafted nothing while ``rest`` was above 0."""
        if self.rest:
            self.rest -= 1
            return
        self.credit = min(self.credit + accepted * TOKEN_CREDIT - drafted * cost, CREDIT_MOST)
        if self.credit < 0:
            self.credit, self.rest = TOKEN_CREDIT, REST


#: The first bytes of a file.
MAGIC = b"tlmd"
#: Version of the file and of the table.
VERSION = 1
#: Magic, version, zeros, size of the vocabulary, words of the table, CRC-32 of the words, SHA-256 of the tokenizer (of no bytes
#: without one).  The words follow, little-endian.
HEADER = Struct("<4sHHIII32s")
