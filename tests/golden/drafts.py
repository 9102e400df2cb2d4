# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.golden.drafts MODEL --table-text PATH``: how many tokens a pass gives when drafted tokens are verified.

A pass feeds the last token and k drafted tokens.  The model picks a token behind each of these k + 1.  Drafted tokens count
up to the first that is not what the model picked, and the pick behind the last one that counts is a token too.  So a pass
gives 1 to k + 1 tokens, and the text is the one that plain decode writes.  The pick behind the prompt is no pass.

The texts are written once, greedily and at a temperature.  Prompts are the first tokens of the first texts of a file, each
once; the tables do not see texts that begin so.  Drafts depend on a text alone, so that each source of drafts is measured on
the same texts.

Sources:

table 1, table 2, table 3: the most frequent next token behind the last token, the last two, the last three, in the other
texts of the file.  A context that the table does not have falls back to the next shorter one.

own text: what followed the last earlier occurrence of the text's last tokens, in the text itself.

own text, table 2: the table where the text itself has no such occurrence.

N entries a list: table 2 as it lies in a board's memory, with the N most frequent pairs that end with a token.

"x plain decode" is tokens a second over those of plain decode on ulx3s-85f, by the analytic model of a pass
(:class:`tellme.compiler.cycles.PassModel`).
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from tellme.compiler.cycles import PassModel, Run
from tellme.compiler.image import compile_model
from tellme.drafts.drafter import Drafter, OwnText
from tellme.drafts.table import DraftTable, save_table
from tellme.models.shipped import checked_model
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tests.golden.batch import Text, texts_of, write

__all__ = ["Both", "Table", "accepted", "passes", "prompts_of", "table_of"]

#: Drafted tokens that are tried.
DRAFTS = range(1, 8)


class Table:
    """The next token by the last tokens: ``entries[n]`` by the last n + 1.  The longest context that the table has counts."""

    def __init__(self, entries: Sequence[Mapping[tuple[int, ...], int]]):
        self.entries = entries

    def next(self, ids: Sequence[int]) -> int | None:
        for number in reversed(range(len(self.entries))):
            if len(ids) > number:
                found = self.entries[number].get(tuple(ids[-number - 1:]))
                if found is not None:
                    return found
        return None

    def draft(self, ids: Sequence[int], count: int) -> list[int]:
        longest = len(self.entries)
        tail, drafted = list(ids[-longest:]), []
        while len(drafted) < count:
            token = self.next(tail)
            if token is None:
                break
            drafted.append(token)
            tail = [*tail, token][-longest:]
        return drafted


def table_of(texts: Iterable[Sequence[int]], order: int, least: int = 1) -> Table:
    """A table of contexts up to ``order`` tokens.  Of two next tokens that are equally frequent the lower id counts.

    Contexts of two tokens and more that occur less than ``least`` times are left out, and those whose token is the one that the
    shorter context gives: the table gives the same without them.
    """
    counts: list[dict[tuple[int, ...], Counter[int]]] = [{} for _ in range(order)]
    for text in texts:
        for at, token in enumerate(text[1:]):
            for n in range(min(order, at + 1)):
                counts[n].setdefault(tuple(text[at - n:at + 1]), Counter())[token] += 1
    table = Table([])
    for n, found in enumerate(counts):
        best = {context: min(c.items(), key=lambda item: (-item[1], item[0]))[0] for context, c in found.items()
                if n == 0 or c.total() >= least}
        more = {context: token for context, token in best.items() if n == 0 or table.next(context) != token}
        table = Table([*table.entries, more])
    return table


class Both:
    """The first source, and behind what it drafts the second."""

    def __init__(self, first: Drafter, second: Drafter):
        self.first, self.second = first, second

    def draft(self, ids: Sequence[int], count: int) -> list[int]:
        drafted = list(self.first.draft(ids, count))
        return drafted + list(self.second.draft([*ids, *drafted], count - len(drafted)))


def prompts_of(texts: Iterable[Sequence[int]], count: int, tokens: int) -> list[list[int]]:
    """The first tokens of texts, each once: behind the same prompt the greedy text is the same."""
    return [list(prompt) for prompt in islice(dict.fromkeys(tuple(text[:tokens]) for text in texts), count)]


def accepted(drafted: Sequence[int], follows: Sequence[int]) -> int:
    """Drafted tokens that count, behind which ``follows`` are the model's picks."""
    number = 0
    while number < min(len(drafted), len(follows)) and drafted[number] == follows[number]:
        number += 1
    return number


def passes(text: Text, source: Drafter, count: int) -> list[int]:
    """Tokens that each pass gives, with ``count`` drafted tokens: their sum is that of the tokens behind the prompt's pick."""
    given, at = [], text.prompt + 1
    while at < len(text.ids):
        number = accepted(source.draft(text.ids[:at], count), text.ids[at:])
        given.append(min(number + 1, len(text.ids) - at))
        at += given[-1]
    return given


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.drafts", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="stories-8m")
    parser.add_argument("--table-text", type=Path, required=True, help="texts of the tables, with <|endoftext|> between")
    parser.add_argument("--prompts", type=Path, help="texts whose first tokens are the prompts (default: the tables' file)")
    parser.add_argument("--stories", type=int, default=20)
    parser.add_argument("--prompt-tokens", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=200, help="tokens of a text at most (default: 200)")
    parser.add_argument("--temperature", type=float, default=0.5, help="beside greedy texts (default: 0.5)")
    parser.add_argument("--entries", type=int, action="append", default=[], metavar="N", help="also a board's table, whose lists "
                        "have N entries at most; may be given several times")
    parser.add_argument("--written", type=Path, metavar="FILE", help="where the written texts are kept from one run to the next")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write a board's table of the texts that do not begin with a "
                        "prompt, and measure nothing: for python -m sim.bench --drafts")
    args = parser.parse_args()
    model = checked_model(args.model)
    texts = texts_of(model, args.table_text.read_text())
    held_out = prompts_of(texts if args.prompts is None else texts_of(model, args.prompts.read_text()), args.stories,
                          args.prompt_tokens)
    seen = [text for text in texts if text[:args.prompt_tokens] not in held_out]
    if args.save is not None:
        made = DraftTable.of_texts(seen, model.config.vocab)
        save_table(args.save, made, model.tokenizer)
        print(f"{args.save}: {made.entries} pairs of {len(seen)} texts; the {len(held_out)} prompts' texts are left out")
        return 0
    sets = {"greedy": 0.0, f"temperature {args.temperature:g}": args.temperature}
    if args.written is not None and args.written.exists():
        kept = {what: [Text(ids, prompt) for ids, prompt in part] for what, part in json.loads(args.written.read_text()).items()}
    else:
        drawn = [Sampling(temperature=t, seed=seed).settings() for t in sets.values() for seed in range(len(held_out))]
        written = write(model, held_out * len(sets), args.tokens, drawn)
        kept = {what: written[n * len(held_out):(n + 1) * len(held_out)] for n, what in enumerate(sets)}
        if args.written is not None:
            args.written.write_text(json.dumps({what: [(t.ids, t.prompt) for t in part] for what, part in kept.items()}))
    table = table_of(seen, 3)
    sources: dict[str, Drafter] = {f"table {order}": Table(table.entries[:order]) for order in (1, 2, 3)}
    sources["own text"] = OwnText()
    sources["own text, table 2"] = Both(OwnText(), sources["table 2"])
    sources |= {f"{entries} entries a list": DraftTable.of_texts(seen, model.config.vocab, entries=entries)
                for entries in args.entries}
    core = preset("ulx3s-85f")
    analytic = PassModel(model.config, compile_model(model, core), core)
    print(f"{args.model}; tables of {len(seen)} texts, {sum(map(len, seen))} tokens")
    for name, source in sources.items():
        if isinstance(source, Table):
            print(f"{name}: entries by the last token, two... {', '.join(str(len(part)) for part in source.entries)}")
    for what, part in kept.items():
        tokens = sum(len(t.written) - 1 for t in part)
        middle = round(float(np.mean([(t.prompt + len(t.ids)) / 2 for t in part])))
        cost = {k: analytic.cycles([Run(middle, k + 1)]) for k in (0, *DRAFTS)}
        print(f"\n{what}: {len(part)} texts, {tokens} tokens behind the prompts' picks\n{'tokens a pass, k =':>24} "
              + " ".join(f"{k:>5}" for k in DRAFTS) + "  passes of 1, 2, ... tokens at k = 3, %")
        for name, source in sources.items():
            given = {k: [n for t in part for n in passes(t, source, k)] for k in DRAFTS}
            shares = np.bincount(given[3], minlength=5)[1:] / len(given[3])
            print(f"{name:>24} " + " ".join(f"{tokens / len(given[k]):5.2f}" for k in DRAFTS)
                  + "  " + " ".join(f"{100 * s:.0f}" for s in islice(shares, 4)))
            speeds = {k: tokens / len(given[k]) * cost[0] / cost[k] for k in DRAFTS}
            print(f"{'x plain decode':>24} " + " ".join(f"{speeds[k]:5.2f}" for k in DRAFTS))
        print(f"cycles of a pass at position {middle}, k = 0, 1, ...: {', '.join(f'{n:.0f}' for n in cost.values())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
