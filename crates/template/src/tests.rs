use super::{Kind, LONGEST, render};
use std::collections::HashMap;

const FUEL: u64 = 1 << 20;

fn text(source: &str, variables: &str) -> String {
    render(source, variables, HashMap::from([('d', "05".to_string()), ('b', "Jul".to_string())]), FUEL).expect("renders")
}

fn error(source: &str) -> (Kind, usize, String) {
    let error = render(source, "{}", HashMap::new(), FUEL).expect_err("fails");
    (error.kind, error.line, error.message)
}

#[test]
fn blocks_take_their_lines_along() {
    assert_eq!(text("  {% if true %}\n  a\n  {%- endif %}\nb\n", "{}"), "  ab");
}

#[test]
fn adds_as_python_does() {
    assert_eq!(
        text("{{ 1 + 2 }} {{ 1 + 2.5 }} {{ true + 1 }} {{ 'a' + 'b' }} {{ [1] + [2, 3] }} {{ (1,) + (2,) }} {{ [1, 2] | sum }}", "{}"),
        "3 3.5 2 ab [1, 2, 3] (1, 2) 3"
    );
    assert_eq!(text("{% for x in [1, 2] %}{% if x + 1 == 2 %}a{% else %}b{% endif %}{% endfor %}", "{}"), "ab");
    assert_eq!(error("\n{{ 'a' + 1 }}"), (Kind::Failed, 2, "string and number can't be added".into()));
    assert_eq!(error("{{ 'a' + nothing }}").0, Kind::Failed);
}

#[test]
fn generation_is_a_block() {
    assert_eq!(text("a {%- generation -%} {{ x }} {% endgeneration %}\nb", r#"{"x":"y"}"#), "ay b");
    assert_eq!(error("{% generation_x %}").0, Kind::Syntax);
    assert_eq!(text("{% set x = 1 %}{% generation %}{% set x = 2 %}{%- endgeneration %}{{ x }}", "{}"), "1");
}

#[test]
fn json_is_pythons() {
    let variables = r#"{"x":{"b":[1,2.5,1e20,1e-5,true,null,"ä\"\\\n\u0001<&'"],"a":{},"c":[]}}"#;
    let plain = r#"{"b": [1, 2.5, 1e+20, 1e-05, true, null, "ä\"\\\n\u0001<&'"], "a": {}, "c": []}"#;
    assert_eq!(text("{{ x | tojson }}", variables), plain);
    assert_eq!(text("{{ {'a': 'ä😀'} | tojson(ensure_ascii=true) }}", "{}"), r#"{"a": "\u00e4\ud83d\ude00"}"#);
    assert_eq!(
        text("{{ x.a | tojson(indent=2) }}{{ {'b': [1], 'a': 2} | tojson(indent=2, sort_keys=true) }}", variables),
        "{}{\n  \"a\": 2,\n  \"b\": [\n    1\n  ]\n}"
    );
    assert_eq!(text("{{ {'b': [1, 2]} | tojson(separators=(',', ':')) }}", "{}"), r#"{"b":[1,2]}"#);
}

#[test]
fn time_is_what_the_caller_says() {
    assert_eq!(text("{{ strftime_now('%d %b %-d %% %Q%') }}", "{}"), "05 Jul 5 % %Q%");
}

#[test]
fn errors_have_a_kind_and_a_line() {
    assert_eq!(error("\n{{ raise_exception('no ' ~ 'system') }}"), (Kind::Raised, 2, "no system".into()));
    assert_eq!(error("{% macro m() %}\n{{ raise_exception('deep') }}{% endmacro %}{{ m() }}").0, Kind::Raised);
    let (kind, line, message) = error("\n\n{% for %}");
    assert_eq!((kind, line), (Kind::Syntax, 3));
    assert!(!message.is_empty());
    assert_eq!(error("\n{{ nothing.at.all }}").0, Kind::Failed);
    assert_eq!(render("", "[", HashMap::new(), FUEL).expect_err("no JSON").kind, Kind::Failed);
}

#[test]
fn nothing_runs_grows_or_recurses_without_an_end() {
    let begin = "{% set n = namespace(x='aaaaaaaaaaaaaaaa', l=[1], m={}) %}";
    let always = "{% for i in range(10000) %}{% for j in range(10000) %}";
    let end = "{% endfor %}{% endfor %}";
    for body in [
        "{{ i }}",
        "",
        "{% set n.x = n.x ~ n.x %}",
        "{% set n.x = n.x + n.x %}",
        "{% set n.x = n.x * 16 %}",
        "{% set n.x = n.x.replace('a', 'aaaa') %}",
        "{% set n.x = n.x.join([n.x, n.x]) %}",
        "{% set n.x = [n.x, n.x] | join %}",
        "{% set n.x = '%s%s' | format(n.x, n.x) %}",
        "{% set n.l = n.l + n.l %}{% set n.k = n.l | list %}",
        "{% set n.l = n.l + n.l %}",
        "{% set n.l = n.l + [1] %}",
        "{% set n.l = [n.l, n.l] | sum(start=[]) %}",
        "{% set n.l = n.l | chain(n.l) %}",
        "{% set n.t = (n.t or (1, 2)) + (n.t or (1, 2)) %}",
        "{% set n.l = (n.l + n.l) | list %}",
        "{% set n.l = [n.l, n.l] %}{{ n.l | string | length }}",
        "{% set n.l = [n.l, n.l] %}{{ n.l | tojson }}",
        "{% set n.l = n.l * 16 %}{{ n.l | length }}{{ n.l | list | length }}",
        "{% set n.l = [n.l] %}",
        "{% set n.m = {'a': n.m} %}",
        "{% set n.m = dict(n.m, **{'a' ~ j: 1}) %}",
        "{% set n.x = n.x | indent(1000) ~ '\n' %}",
        "{% set x %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = x %}",
    ] {
        let (kind, _, message) = error(&format!("{begin}{always}{body}{end}"));
        assert!(kind == Kind::Limit || kind == Kind::Failed, "{body}: {kind:?} {message}");
    }
    // What is nested as deep as the fuel lasts is shown, compared and freed as well.
    for use_ in [
        "{{ n.l }}",
        "{{ n.l | tojson }}",
        "{{ n.l == n.k }}",
        "{{ n.l | string | length }}",
        "{{ [n.l, n.k] | sort }}",
        "{{ n.l in [n.k] }}",
    ] {
        let source = "{% set n = namespace(l=[], k=[]) %}{% for i in range(300) %}{% for j in range(100) %}{% set n.l = [n.l] %}{% set n.k = [n.k] %}{% endfor %}{% endfor %}";
        let _ = render(&format!("{source}{use_}"), "{}", HashMap::new(), FUEL);
    }
    for source in [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}",
        "{{ range(1000000000) | list | length }}",
        "{{ 'a' * 100000000000 }}",
        "{{ ''.join(range(100000) | list) * 1000 }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ {'a': 1} | tojson(indent='aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') }}",
    ] {
        error(source);
    }
    error(&format!("{}1{}", "{{ ".to_string() + &"(".repeat(100_000), ")".repeat(100_000)));
    for operator in ["not ", "-", "~", "x if ", "x.", "x(", "x|e(", "[", "{1:", "x[", "a ** ", "{% if 1 %}", "{% for x in "] {
        let _ = render(&format!("{{{{ {}1 }}}}", operator.repeat(LONGEST / operator.len())), "{}", HashMap::new(), FUEL);
    }
    error(&"{% if true %}".repeat(100_000));
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(render("{{ x }}", &deep, HashMap::new(), FUEL).expect_err("too deep").kind, Kind::Failed);
}
