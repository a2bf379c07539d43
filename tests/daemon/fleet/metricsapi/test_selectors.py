"""Label selectors: the grammar, and what they match."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.fleet.metricsapi.selectors import (
    EVERYTHING,
    Operator,
    Requirement,
    Selector,
    SelectorError,
    parse,
)

LABELS = {"app": "triton", "tier": "", "example.com/role": "gpu"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=triton", True),
        ("app==triton", True),
        (" app = triton ", True),
        ("app=other", False),
        ("app!=triton", False),
        ("app!=other", True),
        ("app", True),
        ("!app", False),
        ("! absent", True),
        ("absent", False),
        ("absent=x", False),
        ("app in (a, triton)", True),
        ("app in(a,b)", False),
        ("app notin (a,b)", True),
        ("app notin (triton)", False),
        ("example.com/role=gpu", True),
        ("app=triton,tier,!absent", True),
        ("app=triton,absent", False),
        ("app=triton,app!=triton", False),
    ],
)
def test_a_selector_matches_as_in_kubernetes(text: str, matches: bool) -> None:
    assert parse(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["absent!=x", "absent notin (x,y)"])
def test_an_absent_label_differs_from_every_value(text: str) -> None:
    assert parse(text).matches(LABELS)


@pytest.mark.parametrize(
    "text", ["tier=", "tier in ()", "tier in (a,)", "tier in (,a)", "tier=,app"]
)
def test_the_empty_value_is_a_value(text: str) -> None:
    assert parse(text).matches(LABELS)
    assert not parse(text).matches({"tier": "b", "app": "triton"})


def test_words_are_operators_only_where_one_is_due() -> None:
    assert parse("in in (notin,in)") == Selector(
        (Requirement("in", Operator.IN, frozenset({"in", "notin"})),)
    )
    assert parse("notin").matches({"notin": ""})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("=a", "'='"),
        ("a,", "its end"),
        (",a", "','"),
        ("a,,b", "','"),
        ("a=b=c", "'='"),
        ("a b", "'b'"),
        ("a=b c", "'c'"),
        ("a in b", "'b'"),
        ("a in (b", "its end"),
        ("a in (b c)", "'c'"),
        ("a in (b))", "')'"),
        ("a=)", "')'"),
        ("!", "its end"),
        ("!!a", "'!'"),
        ("!a=b", "'='"),
        ("a>1", "'a>1'"),
        ("-a=b", "'-a'"),
        ("a=b-", "'b-'"),
        ("/a", "'/a'"),
        ("Example.com/a", "'Example.com/a'"),
        ("a" * 64, repr("a" * 64)),
        ("a=" + "b" * 64, repr("b" * 64)),
        ("a=b\u00a0", r"'b\xa0'"),
    ],
)
def test_a_wrong_selector_is_told_where(text: str, found: str) -> None:
    with pytest.raises(SelectorError) as raised:
        parse(text)
    assert f"found {found}; allowed: " in str(raised.value)
    assert repr(text) in str(raised.value)


def test_a_selector_is_shown_as_an_object() -> None:
    assert EVERYTHING.shape() is None
    assert parse("a=b,c in (e,d),f notin (g),h,!i").shape() == {
        "matchLabels": {"a": "b"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]},
            {"key": "f", "operator": "NotIn", "values": ["g"]},
            {"key": "h", "operator": "Exists"},
            {"key": "i", "operator": "DoesNotExist"},
        ],
    }
    assert parse("a=b,a=c").shape() == {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "a", "operator": "In", "values": ["c"]}],
    }


def test_only_tells_which_values_are_left() -> None:
    assert parse("m in (a,b),m in (b,c)").only("m") == frozenset({"b"})
    assert parse("m!=a").only("m") is None
    assert parse("n=a").only("m") is None


names = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,5}[A-Za-z0-9])?", fullmatch=True)
keys = names | st.builds("example.com/{}".format, names)
values = st.just("") | names
spaces = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def written(draw: st.DrawFn) -> tuple[Requirement, str]:
    """A requirement, and one of the ways to write it."""
    key, operator = draw(keys), draw(st.sampled_from(Operator))
    space = [draw(spaces) for _ in range(4)]
    if operator is Operator.EXISTS:
        return Requirement(key, operator), f"{space[0]}{key}{space[1]}"
    if operator is Operator.ABSENT:
        return Requirement(key, operator), f"{space[0]}!{space[1]}{key}"
    chosen = draw(st.lists(values, min_size=1, max_size=3))
    requirement = Requirement(key, operator, frozenset(chosen))
    if len(chosen) == 1 and draw(st.booleans()):
        sign = draw(st.sampled_from(["=", "=="])) if operator is Operator.IN else "!="
        return requirement, f"{space[0]}{key}{space[1]}{sign}{space[2]}{chosen[0]}{space[3]}"
    inside = f"{space[2]},{space[3]}".join(chosen)
    return requirement, f"{space[0]}{key} {operator}{space[1]}({inside})"


@settings(deadline=None)
@given(st.lists(written(), max_size=4))
def test_what_was_written_is_read(pairs: list[tuple[Requirement, str]]) -> None:
    text = ",".join(text for _, text in pairs)
    assert parse(text) == Selector(tuple(requirement for requirement, _ in pairs))


@settings(deadline=None)
@given(st.text(alphabet="ab=!(), in\tnot/.-", max_size=24) | st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert outcome(text) == outcome(f" {text}\t")


def outcome(text: str) -> Selector | type[SelectorError]:
    try:
        return parse(text)
    except SelectorError:
        return SelectorError


@settings(deadline=None)
@given(st.lists(written(), max_size=3), st.dictionaries(keys, values, max_size=4))
def test_all_requirements_must_hold(
    pairs: list[tuple[Requirement, str]], labels: dict[str, str]
) -> None:
    parts = [parse(text).matches(labels) for _, text in pairs]
    assert parse(",".join(text for _, text in pairs)).matches(labels) == all(parts)
