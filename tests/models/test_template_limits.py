# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a chat template may take: work and memory end with an error, in a second or so, and what templates do goes on."""

import threading

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tellme.models import ModelError
from tellme.models.template_limits import BUDGET, LONGEST, LimitedEnvironment, TemplateLimitError, limited
from tests.fuzz.limits import Guard
from tests.models.test_chat import USER, template

#: Templates that would allocate or compute without an end.
GREEDY = [
    "{{ 'a' * 999999999 }}", "{{ 999999999 * 'a' }}", "{{ [1] * 999999999 }}", "{{ 'a' | center(999999999) }}",
    "{{ 'a'.ljust(999999999) }}", "{{ 'a'.zfill(999999999) }}", "{{ '%999999999d' % 1 }}", "{{ '%*d' % (999999999, 1) }}",
    "{{ '%0999999999d' | format(1) }}", "{{ '{:999999999}'.format(1) }}", "{{ '{:{w}}'.format(1, w=999999999) }}",
    "{{ '{x:999999999}'.format_map({'x': 1}) }}", "{{ 10 ** 999999999 }}", "{{ 9 ** 99999 ** 9 }}",
    "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}", "{% set x = 'aaaaaaaa' %}" + "{% set x = x + x %}" * 40,
    "{% set x = [1] %}" + "{% set x = x + x %}" * 40, "{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
    "{% set x = 1 %}" + "{% set x = {'a': x, 'b': x} %}" * 40 + "{{ x | tojson }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(999) %}" + "text " * 99 + "{% endfor %}{% endfor %}",
    "{{ range(99999) | map('string') | map('center', 99999) | join }}", "{{ [1, 2] | join('a' * 400000) | upper | join('b') }}",
    "{% set t = 'a' * 9999 %}{{ t.replace('a', t) }}", "{% set t = 'a' * 9999 %}{{ t | replace('a', t) }}",
    "{% set t = '\n' * 9999 %}{{ t | indent(99999) }}", "{{ ('a,' * 99999).split(',') * 99 }}", "{% set t = 'a' * 99999 %}"
    "{{ t.join(t) }}", "{{ [[1]] | tojson(indent=999999999) }}", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set t = 'a' * 300000 %}{% for i in range(99999) %}{% if t + 'b' == t + 'c' %}{% endif %}{% endfor %}",
    "{% set t = 'a' * 300000 %}{% for i in range(99999) %}{% if 'b' in t %}{% endif %}{% endfor %}",
    "{% set t = 'a' * 300000 %}{% for i in range(99999) %}{% set u = t[1:] %}{% endfor %}",
    "{% set t = 'a' * 300000 %}{% for i in range(99999) %}{% if t is in(t) %}{% endif %}{% endfor %}",
    "{{ range(99999) | map('list') | list | sum(start=[]) }}", "{{ range(9999) | batch(1) | sum(start=[]) }}",
    "{% set ns = namespace(t='a') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns }}", "{{ 'a'.expandtabs(9) }}{{ 'a'.translate({97: 'b'}) }}"
    "{{ 'a'.encode() }}{{ 1 / 0 }}",
]


@pytest.mark.parametrize("source", GREEDY)
def test_ends(source):
    def render(content):
        with pytest.raises(ModelError, match=r"^the chat template of stories-1m fails: ") as refused:
            template(content.decode()).render(USER)
        raise refused.value

    guard = Guard(render, (ModelError,))
    guard(source.encode())
    assert guard.refused == 1


@pytest.mark.parametrize("source", [
    "{{ " + "1" * 5000 + " }}", "{% for a in [1] %}" * 25 + "{% endfor %}" * 25, "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}", "{{ 1 | no_such_filter }}", "{{ lipsum(9) }}{{ 1 | pprint }}", "x" * ((1 << 20) + 1),
])
def test_what_the_compiler_refuses(source):
    with pytest.raises(ModelError, match="stories-1m (is no Jinja template|has 1048577 bytes|fails)"):
        template(source).render(USER)


@pytest.mark.parametrize("source", [
    "{{ 'ab' * 3 }}{{ 3 * [1] }}{{ [1] + [2] }}{{ 'a' + 'b' }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 10 }}",
    "{{ 2 ** -1 }}{{ 7 / 2 }}{{ 1 - 3 }}",
    "{{ 'a' ~ 1 ~ none ~ [1] ~ undefined_name }}", "{{ '%03d %s %%' % (1, 'x') }}{{ '%s' | format(3) }}"
    "{{ '{:>4}{a}'.format(1, a=2) }}",
    "{{ ['a', 'b'] | join }}{{ ['a', 1] | join(', ') }}{{ messages | join('|', attribute='role') }}",
    "{{ [1, 2] | sum }}{{ messages | sum(attribute='n', start=0) }}{{ [[1], [2]] | sum(start=[]) }}",
    "{% for i in range(5) %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{{ loop.revindex }}{{ loop.cycle('a', 'b') }}"
    "{% else %}none{% endfor %}", "{% for a, b in {'x': 1, 'y': 2}.items() %}{{ a }}{{ b }}{% endfor %}",
    "{% for i in [1, [2, [3]]] recursive %}{% if i is sequence %}({{ loop(i) }}){% else %}{{ i }}{% endif %}{% endfor %}",
    "{% for c in 'abc' if c != 'b' %}{{ c }}{% endfor %}{% for i in nothing %}x{% else %}y{% endfor %}",
    "{{ messages[0:1] | length }}{{ 'abc'[::-1] }}{{ messages[-1]['content'] }}{{ (1, 2)[0] }}",
    "{% set a, b = 1, (2, 3) %}{{ a }}{{ b }}{% set ns = namespace(x=1) %}{% set ns.x = ns.x + 1 %}{{ ns.x }}",
    "{% set t %}a{{ 1 }}b{% endset %}{{ t | upper }}{% filter upper %}abc{% endfilter %}",
    "{{ ' a b '.strip().split(' ') | list }}{{ 'a-b'.replace('-', '+') }}{{ ','.join(['x', 'y']) }}{{ 'abc'.startswith('a') }}",
    "{{ messages | map(attribute='role') | list }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ {'b': 1, 'a': 2} | dictsort }}{{ [3, 1] | sort }}{{ [1, 1] | unique | list }}{{ [1, 2, 3] | batch(2) | list }}",
    "{{ 1 < 2 < 3 }}{{ 'a' in 'abc' }}{{ 4 not in [4] }}{{ 1 == 1.0 }}{{ none is none }}{{ 3 is divisibleby 3 }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller else '' }}{% endmacro %}{{ m(1) }}{% call m(3) %}x{% endcall %}",
    "{{ 'x' | default('y') }}{{ nothing | default('y') }}{{ ' x ' | trim }}{{ 'a b' | title }}{{ 'abc' | first }}{{ '<' | e }}",
    "{{ 'a\nb' | indent(2) }}{{ 'abcdef' | truncate(5) }}{{ 'a' | center(5) }}{{ '12' | int + 1 }}{{ 1.26 | round(1) }}",
])
def test_same_as_without_limits(source):
    """Each text is the one that Jinja's own sandbox gives."""
    turns = [{"role": "system", "content": "<b>", "n": 2}, {"role": "user", "content": "\u2603", "n": 3}]
    want = ImmutableSandboxedEnvironment().from_string(source).render(messages=turns)
    assert limited(lambda: LimitedEnvironment().template(source).render(messages=turns), 4) == want


@pytest.mark.parametrize("start", ["0", "'a'"])
def test_a_sum_is_of_numbers_and_lists(start):
    with pytest.raises(ModelError, match="fails: TypeError: sum adds numbers and lists; join is for texts$"):
        template(f"{{{{ [{start}, 'b'] | sum(start={start}) }}}}").render(USER)


def test_longer_messages_may_take_more():
    """A text of the messages several times over, whatever its length."""
    content = "a" * (4 * LONGEST)
    made = template("{% for i in range(3) %}{{ messages[0].content ~ 'b' }}{% endfor %}")
    text = made.render([{"role": "user", "content": content}])
    assert text == (content + "b") * 3


def test_budgets_are_of_a_rendering():
    """The same template again and again, and in several threads at a time."""
    made = template("{% for i in range(99999) %}{% endfor %}x")
    found = []
    threads = [threading.Thread(target=lambda: found.append(made.render(USER))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["x"] * 3
    with pytest.raises(TemplateLimitError, match="more work or memory"):
        limited(LimitedEnvironment().template("{% for i in range(99999) %}{% for j in range(9) %}{% endfor %}{% endfor %}")
                .render, BUDGET // 10**6)
