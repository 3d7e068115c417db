"""Templates behave as Go's text/template does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.template.engine import Template
from sampan.cli.template.lexer import TemplateError

DOCUMENT = {
    "Id": "abc",
    "State": {"Pid": 42, "Running": True, "Health": None},
    "NetworkSettings": {
        "Ports": {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
            "443/tcp": None,
        },
        "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
    },
    "Config": {"Labels": {"a": "1", "com.x": "2"}, "Env": ["A=1", "B=2"]},
    "Size": 1.5,
}


def applied(source: str, data: object = DOCUMENT) -> str:
    return Template(source).apply(data)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{.State.Pid}}", "42"),
        ("{{ .State.Running }}", "true"),
        ("{{.State.Health}}", "<nil>"),
        ("{{.ID}}", "abc"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:1 com.x:2]"),
        ("{{json .Config}}", '{"Labels":{"a":"1","com.x":"2"},"Env":["A=1","B=2"]}'),
        ('{{index .Config.Labels "com.x"}}', "2"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{index .Config.Env 1}}", "B=2"),
        ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
        (
            "{{range $k, $v := .NetworkSettings.Ports}}{{$k}}={{len $v}};{{else}}none{{end}}",
            None,
        ),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "172.17.0.2"),
        ("{{range $i, $e := .Config.Env}}{{$i}}:{{$e}} {{end}}", "0:A=1 1:B=2 "),
        ('{{range .Config.Env}}{{if eq . "B=2"}}{{break}}{{end}}{{.}}{{end}}', "A=1"),
        ('{{range .Config.Env}}{{if eq . "A=1"}}{{continue}}{{end}}{{.}}{{end}}', "B=2"),
        ("{{with .State}}{{.Pid}}{{$.Id}}{{end}}", "42abc"),
        ("{{with .State.Health}}x{{else}}no{{end}}", "no"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .State.Running}}a{{else if gt .State.Pid 40}}b{{else}}c{{end}}", "b"),
        ("{{if and .State.Running (eq .State.Pid 42)}}yes{{end}}", "yes"),
        ('{{or .State.Health "none"}}', "none"),
        ('{{.Id | upper | printf "%s-%d" | lower}}', "abc-%!d(missing)"),
        ('{{.Id | printf "%5s|"}}', "  abc|"),
        ('{{printf "%-5s|%q|%v" .Id .Id .State.Pid}}', 'abc  |"abc"|42'),
        ('{{join .Config.Env ","}}', "A=1,B=2"),
        ('{{range split "a,b" ","}}<{{.}}>{{end}}', "<a><b>"),
        ('{{title "hello world"}} {{upper "x"}} {{lower "Y"}}', "Hello World X y"),
        ('{{println "a" 1}}', "a 1\n"),
        ("{{len .Config.Env}}{{len .Id}}", "23"),
        ("a {{- /* note */ -}} b", "ab"),
        ("a {{- .State.Pid -}} b", "a42b"),
        ('{{$x := .Id}}{{$x}}{{$x = "y"}}{{$x}}', "abcy"),
        ("{{slice .Id 1 2}}", "b"),
        ('{{"quoted \\"text\\""}}{{`raw`}}', 'quoted "text"raw'),
        ("{{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}}", "true true true false"),
        ('{{eq .Id "x" "abc"}}', "true"),
        ("{{true}}{{1.5}}{{'a'}}", "true1.597"),
    ],
)
def test_a_template_gives_what_go_gives(source: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(TemplateError):
            applied(source)
    else:
        assert applied(source) == text


def test_a_map_is_walked_in_the_order_of_its_keys() -> None:
    ports = {"80/tcp": 1, "443/tcp": 2}
    assert applied("{{range $k, $v := .}}{{$k}}={{$v}};{{end}}", ports) == "443/tcp=2;80/tcp=1;"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        (
            "{{.Foo.Bar}}",
            'template: :1:6: executing "" at <.Foo.Bar>: map has no entry for key "Foo"',
        ),
        (
            "{{json .State.Nope}}",
            'template: :1:13: executing "" at <.State.Nope>: map has no entry for key "Nope"',
        ),
        ("{{nope}}", 'template: :1: function "nope" not defined'),
        ("{{.Id", "template: :1: unclosed action"),
        ("{{if .Id}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        (
            "{{json}}",
            'template: :1:2: executing "" at <json>: wrong number of args for json: want 1 got 0',
        ),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ('{{"x}}', "template: :1: unterminated quoted string"),
    ],
)
def test_mistakes_are_told_in_the_words_of_go(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        applied(source)
    assert str(raised.value) == message


def test_a_lenient_template_prints_no_value_for_a_missing_key() -> None:
    assert Template("{{.nope}}", lenient=True).apply({}) == "<no value>"


@given(st.text(alphabet="{}-.$|()\"' aif eqrang0:=,", max_size=40))
def test_no_template_raises_anything_but_template_error(source: str) -> None:
    try:
        Template(source).apply(DOCUMENT)
    except TemplateError:
        pass


@given(st.text(alphabet=st.characters(blacklist_characters="{}", blacklist_categories=["Cs"])))
def test_text_without_actions_is_its_own_result(text: str) -> None:
    assert applied(text) == text
