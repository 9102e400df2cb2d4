# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host draft``."""

import argparse
from pathlib import Path

from tellme.cli.errors import ExitCode, UserError
from tellme.cli.files import read_text
from tellme.cli.output import print_line, say, write
from tellme.drafts.table import DraftTable, save_table, tokens_a_pass
from tellme.drafts.texts import whole_texts
from tellme.models.shipped import checked_model
from tellme.models.writing import check_target
from tellme.runtime.session import tokenizer_of
from tellme.spec.drafts import DRAFT_VOCAB

__all__ = ["draft"]

#: Numbers of drafted tokens of which the table's worth is told.
COUNTS = (1, 2, 3, 5)
#: Each of so many texts is kept apart while the worth is found out.
APART = 10


def draft(args: argparse.Namespace) -> int:
    """The command."""
    target: Path = args.output
    check_target(target)
    model = checked_model(args.model)
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        raise UserError(f"the model {model.name} holds no tokenizer: a model that was converted with one is wanted")
    vocab = model.config.vocab
    if vocab > DRAFT_VOCAB.most:
        raise UserError(f"the model {model.name} has {vocab} tokens, and a table of drafts knows {DRAFT_VOCAB.most} at most")
    texts = [ids for name in args.texts for ids in whole_texts(model.config, tokenizer, read_text(name, "a text"))]
    if not any(len(ids) > 2 for ids in texts):
        raise UserError(f"there is nothing to learn in {', '.join(args.texts)}: texts of some thousand words are wanted")
    worth = {}
    if len(texts) >= APART:
        part = DraftTable.of_texts([ids for n, ids in enumerate(texts) if n % APART], vocab, entries=args.entries)
        worth = {count: tokens_a_pass(part, texts[::APART], count) for count in COUNTS}
    table = DraftTable.of_texts(texts, vocab, entries=args.entries)
    size = save_table(target, table, model.tokenizer)
    fields = {"model": model.name, "texts": len(texts), "tokens": sum(map(len, texts)), "known_tokens": table.known,
              "pairs": table.entries, "memory_bytes": 4 * len(table.words), "file_bytes": size,
              "tokens_a_pass": {str(count): value for count, value in worth.items()}}
    if args.json:
        print_line(fields)
        return ExitCode.DONE
    write(f"{target}: {table.known} of {vocab} tokens have a next token, and {table.entries} pairs of tokens one of their own; "
          f"{4 * len(table.words) / 1e3:.1f} KB in a board's memory\n")
    if worth:
        write(f"texts of the same kind, each tenth text against a table of the others: "
              f"{', '.join(f'{value:.2f}' for value in worth.values())} tokens a pass with {', '.join(map(str, COUNTS))} drafted "
              "tokens\n")
    else:
        say(f"what the table is worth is told from {APART} texts on, with <|endoftext|> between them")
    return ExitCode.DONE
