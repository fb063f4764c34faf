"""Bad input is refused with one line that names the file, the place and the value; good input is read as written."""

import json

import pytest
import yaml
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from asl_min.config import Config, check, dump_config, load_config
from asl_min.corpus import load_corpus, load_judgments, load_questions, read_jsonl, topics, write_jsonl
from asl_min.rollout import SEED_STRIDE
from asl_min.run.command import parse_overrides
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_config


@pytest.fixture
def file(tmp_path):
    """Write text to a file and return its path."""

    def write(text: str | bytes, name: str = "input.jsonl"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refused(read, path, *said: object) -> None:
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    for part in (path.name, *map(str, said)):
        assert part in message


# --- JSONL files

ROW = '{"id": "0", "contents": "\\"Paris\\"\\nA city."}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["empty"]),
        ("\n \n", ["empty"]),
        (ROW + '{"id": "1", contents}\n', [":2:", "not JSON"]),
        (ROW + "\n" + "[1]\n", [":3:", "list"]),
        (ROW + "7\n", [":2:", "int"]),
        ('{"contents": "x"}\n', [":1:", "'id'"]),
        ('{"id": "0"}\n', [":1:", "'contents'"]),
        ('{"id": "0", "contents": " "}\n', [":1:", "' '"]),
        ('{"id": "0", "contents": ["x"]}\n', [":1:", "['x']"]),
        ('{"id": "0", "contents": null}\n', [":1:", "None"]),
    ],
)
def test_bad_corpus_is_refused(file, text, said):
    refused(load_corpus, file(text), *said)


def test_missing_corpus_is_refused(tmp_path):
    refused(load_corpus, tmp_path / "none.jsonl", "no such file")


def test_corpus_row_is_read_as_title_and_text(file):
    (passage,) = load_corpus(file(ROW))
    assert (passage.id, passage.title, passage.text, passage.contents) == ("0", "Paris", "A city.", '"Paris"\nA city.')


def test_corpus_row_without_a_second_line_is_its_own_title(file):
    (passage,) = load_corpus(file('{"id": 5, "contents": "Paris is a city."}'))
    assert (passage.id, passage.title, passage.text) == ("5", "Paris is a city.", "Paris is a city.")


def test_topics_are_the_distinct_titles_in_order(file):
    rows = [{"id": str(i), "contents": f'"{title}"\ntext {i}'} for i, title in enumerate(["b", "a", "b", "c"])]
    assert topics(load_corpus(file("\n".join(map(json.dumps, rows))))) == ["b", "a", "c"]


def test_corpus_with_a_byte_order_mark_is_read(file):
    assert load_corpus(file(b"\xef\xbb\xbf" + ROW.encode()))[0].title == "Paris"


@pytest.mark.parametrize(
    "row",
    [
        {"golden_answers": ["x"]},
        {"question": 7, "golden_answers": ["x"]},
        {"question": "q"},
        {"question": "q", "golden_answers": []},
        {"question": "q", "golden_answers": "x"},
    ],
)
def test_bad_question_is_refused(file, row):
    good = '{"question": "q", "golden_answers": ["x"]}\n'
    refused(load_questions, file(good + json.dumps(row)), ":2:", "golden_answers")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (7, ":2: 'metadata' must be an object, found 7"),
        ([], ":2: 'metadata' must be an object, found []"),
        ({"hops": "2"}, ":2: 'hops' must be a whole number above 0, found '2'"),
        ({"hops": 0}, "found 0"),
        ({"hops": True}, "found True"),
        ({"hops": None}, "found None"),
        ({"hops": 1, "kind": 3}, ":2: 'kind' must be a text, found 3"),
        ({"hops": 1, "relation": ["a"]}, ":2: 'relation' must be a text, found ['a']"),
        ({"hops": 1, "pages": "Paris"}, ":2: 'pages' must be a list of titles, or of lists of them, found 'Paris'"),
        ({"hops": 1, "pages": [5]}, "found [5]"),
        ({"hops": 1, "pages": [["a", 5]]}, "found [['a', 5]]"),
        ({"hops": 1, "kind": None}, ":2: 'kind' must be a text, found None"),
        ({}, "some rows have 'hops'"),
        (None, "some rows have 'hops'"),
    ],
)
@pytest.mark.parametrize("load", [load_questions, load_judgments])
def test_bad_metadata_is_refused(load, file, metadata, said):
    row = {"question": "q", "golden_answers": ["x"], "answer": "x", "label": True}
    rows = [row | {"metadata": {"hops": 1}}, row | {"metadata": metadata}]
    refused(load, file("\n".join(map(json.dumps, rows))), said)


def test_folder_in_the_place_of_a_corpus_is_refused(tmp_path):
    refused(load_corpus, tmp_path, "is a folder, not a file")


def test_empty_question_set_is_refused(file):
    refused(load_questions, file(""), "empty")


def test_question_defaults(file):
    assert load_questions(file('{"question": "q", "golden_answers": [7]}')) == [
        {"id": "1", "question": "q", "golden_answers": ["7"], "metadata": {}}
    ]


@given(st.lists(st.dictionaries(st.text(), st.text()), max_size=3))
def test_rows_are_read_back_as_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert [row for _, row in read_jsonl(path)] == rows


@pytest.mark.parametrize(
    "break_", ["\u2028", "\u2029", "\x85"], ids=["line separator", "paragraph separator", "next line"]
)
def test_text_with_a_unicode_line_break_is_read_back(tmp_path, break_):
    """Models write them and so do web pages; in JSONL only a newline ends a row."""
    write_jsonl(tmp_path / "rows.jsonl", [{"answer": f"a{break_}b"}])
    assert read_jsonl(tmp_path / "rows.jsonl") == [(1, {"answer": f"a{break_}b"})]


def test_failed_write_leaves_the_old_file(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"a": 1}])
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "rows.jsonl", [{"a": 2}, {"a": object()}])
    assert read_jsonl(tmp_path / "rows.jsonl") == [(1, {"a": 1})]


# --- config files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat: 1.0e-3", ["'learning_rat'", "0.001", "did you mean 'learning_rate'?"]),
        ("7: x", ["7"]),
        ("seed: many", ["'seed'", "'many'", "int"]),
        ("seed: 1.5", ["'seed'", "1.5", "int"]),
        ("seed: true", ["'seed'", "True", "int"]),
        ("learning_rate: fast", ["'learning_rate'", "'fast'", "number"]),
        ("learning_rate: [1]", ["'learning_rate'", "[1]", "number"]),
        ("learning_rate: true", ["'learning_rate'", "True", "number"]),
        ("learning_rate: null", ["'learning_rate'", "None", "number"]),
        ("learning_rate: .nan", ["'learning_rate'", "nan"]),
        ("learning_rate: nan", ["'learning_rate'", "nan"]),
        ("learning_rate: .inf", ["'learning_rate'", "inf"]),
        ("learning_rate: 1" + "0" * 400, ["'learning_rate'"]),
        ("learning_rate: 0", ["'learning_rate'", "greater than 0"]),
        ("learning_rate: -1e-3", ["'learning_rate'", "'-1e-3'"]),
        ("rounds: 0", ["'rounds'", "0", "greater than 0"]),
        ("top_k: -3", ["'top_k'", "-3"]),
        ("temperature: 0", ["'temperature'", "0", "greater than 0"]),
        ("kl_coef: -1", ["'kl_coef'", "-1", "greater than or equal to 0"]),
        ("seed: -1", ["'seed'", "-1", "greater than or equal to 0"]),
        ("verify_threshold: 1.5", ["'verify_threshold'", "1.5"]),
        ("adapters: none", ["'adapters'", "'none'", "'shared'", "'per_role'"]),
        ("kl_reference: gold", ["'kl_reference'", "'gold'"]),
        ("mixed_precision: int4", ["'mixed_precision'", "'int4'"]),
        ("oracle: mars", ["'oracle'", "'mars'"]),
        ("grm_samples: 1", ["'grm_samples'", "1", "equal to 2"]),
        ("policy_samples: 1", ["'policy_samples'", "1", "equal to 2"]),
        ("max_turn_tokens: 700", ["'max_turn_tokens'", "700", "'max_episode_tokens' 640"]),
        ("backend: vllm", ["'backend'", "'vllm'", "'server_url'"]),
        ("questions: q\nlabelled_questions: q", ["'labelled_questions'", "'q'"]),
        ("inject_round: 1\nlabelled_judgments: null", ["'labelled_judgments'", "None"]),
        ("corpus: null", ["'corpus'", "None"]),
        ("questions: [a]", ["'questions'", "['a']"]),
        ("- a\n- b", ["list"]),
        ("just words", ["str"]),
        ("a: [1", ["not YAML"]),
        ("extends: nowhere.yaml", ["nowhere.yaml"]),
    ],
)
def test_bad_config_is_refused(file, text, said):
    with pytest.raises(InputError) as error:
        load_config(file(text, "run.yaml"))
    for part in (".yaml", *said):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"arm": "../a"}, "key 'arm' is '../a', but it names a folder"),
        ({"arm": "a\\b"}, "key 'arm'"),
        ({"max_turns": 65}, "key 'max_turns' is 65"),
    ],
)
def test_value_that_would_break_a_run_is_refused(file, values, said):
    with pytest.raises(InputError, match=said):
        load_config(file(""), **values)


def test_seeds_of_the_longest_episode_do_not_meet_those_of_the_next():
    assert load_config(ROOT / "configs" / "tiny.yaml", max_turns=SEED_STRIDE).max_turns == SEED_STRIDE


def test_config_that_is_not_text_is_refused(file):
    refused(load_config, file(b"seed: \xff\xfe", "run.yaml"))


def test_missing_config_is_refused(tmp_path):
    refused(load_config, tmp_path / "none.yaml", "no such")


def test_children_override_parents(file):
    file("seed: 1\nrounds: 2\ntop_k: 5", "grand.yaml")
    file("extends: grand.yaml\nrounds: 3\ntop_k: 6", "parent.yaml")
    config = load_config(file("extends: parent.yaml\ntop_k: 7", "child.yaml"))
    assert (config.seed, config.rounds, config.top_k) == (1, 3, 7)


def test_parent_is_found_beside_its_child(file, tmp_path, monkeypatch):
    file("seed: 9", "parent.yaml")
    child = file("extends: parent.yaml", "child.yaml")
    monkeypatch.chdir("/")
    assert load_config(child).seed == 9


def test_circle_of_parents_is_refused(file):
    file("extends: b.yaml", "a.yaml")
    with pytest.raises(InputError, match="circle"):
        load_config(file("extends: a.yaml", "b.yaml"))


def test_error_in_a_parent_names_the_parent(file):
    file("seed: many", "parent.yaml")
    with pytest.raises(InputError, match=r"parent\.yaml.*'seed'.*'many'"):
        load_config(file("extends: parent.yaml", "child.yaml"))


def test_values_of_two_files_are_compared_once_both_are_read(file):
    file("backend: vllm\nmax_turn_tokens: 1000", "parent.yaml")
    child = file("extends: parent.yaml\nmax_episode_tokens: 2000", "child.yaml")
    assert load_config(child, server_url="http://x").max_turn_tokens == 1000


def test_unknown_key_that_is_like_no_other_gets_no_hint(file):
    with pytest.raises(InputError) as error:
        load_config(file("zzzz: 1", "run.yaml"))
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("'0.5'", 0.5), ("1", 1.0), ("2.5E-4", 2.5e-4)])
def test_floats_are_read_however_yaml_spells_them(file, text, value):
    config = load_config(file(f"learning_rate: {text}", "run.yaml"))
    assert config.learning_rate == value and isinstance(config.learning_rate, float)


def test_zero_is_allowed_where_it_means_something():
    assert check({"kl_coef": 0, "eval_tasks": 0, "policy_max_steps": 0, "seed": 0}, "x").kl_coef == 0.0


def test_no_gold_is_a_valid_config():
    config = check({"questions": None, "judgments": None, "oracle": None}, "x")
    assert (config.questions, config.judgments, config.oracle) == (None, None, None)


def test_overrides_win_over_the_file(file):
    assert load_config(file("seed: 1", "run.yaml"), seed=2).seed == 2


def test_overrides_are_checked(file):
    with pytest.raises(InputError, match="'seed'"):
        load_config(file("", "run.yaml"), seed="x")


def test_tiny_config_is_the_defaults_but_for_adapters_and_budget():
    tiny = Config(
        adapters="per_role",
        top_k=2,
        max_episode_tokens=1024,
        round_rollouts=3000,
        pg_prompts=8,
        pg_max_steps=2,
        grm_max_steps=3,
        learning_rate=1e-3,
        eval_judgments=200,
        eval_tasks=96,
    )
    assert load_config(ROOT / "configs" / "tiny.yaml") == tiny


def test_dumped_config_reads_back():
    config = check({"seed": 3, "learning_rate": "2e-4", "oracle": None, "adapters": "per_role"}, "x")
    assert check(yaml.safe_load(dump_config(config)), "x") == config


def test_shipped_path_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Config().path(Config().corpus).is_file()


def test_path_as_given_wins_over_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / Config().corpus
    own.parent.mkdir(parents=True)
    own.write_text(ROW)
    assert load_corpus(Config().path(Config().corpus))[0].title == "Paris"


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": ' + "9" * 5000 + "}"])
def test_line_that_json_cannot_hold_is_named(tmp_path, line):
    (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "x"}\n' + line)
    with pytest.raises(InputError, match=r"c\.jsonl:2: not JSON"):
        load_corpus(tmp_path / "c.jsonl")


@pytest.mark.parametrize("value", ["[" * 5000, "2001-13-45", "\x02", "&a [*a", "!!python/object:os.system"])
def test_override_that_yaml_cannot_read_is_named(value):
    with pytest.raises(InputError, match="argument 'seed="):
        parse_overrides(["seed=" + value])


def test_half_of_a_surrogate_pair_is_replaced(tmp_path, chat):
    (tmp_path / "c.jsonl").write_text(r'{"id": "1", "contents": "\"T\ud800\"\n\uD83D\uDE00 \udfff"}')
    (passage,) = load_corpus(tmp_path / "c.jsonl")
    assert (passage.title, passage.text) == ("T?", "\U0001f600 ?")
    assert chat.decode(chat.plain("a\ud800")) == "a?"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"recipe": "asl"}, ("asl", "asl_hybrid")),
        ({"recipe": "asl", "arm": "demo", "grm_labels": "reference"}, ("demo", "asl_hybrid")),
        ({"recipe": "asl", "grm_labels": "self"}, ("asl", "asl_gen_rm")),
        ({"recipe": "oracle_judge", "arm": "late", "grm_labels": "self"}, ("late", "oracle_judge_gen_rm")),
        ({"recipe": "r_zero", "arm": "", "grm_labels": "reference"}, ("", "r_zero")),
    ],
)
def test_config_of_an_earlier_run_names_todays_recipe_and_keeps_its_arm(old, new):
    found = upgrade_config(old)
    assert (found["arm"], found["recipe"]) == new and "grm_labels" not in found


def test_shipped_configs_are_found_from_any_folder_after_those_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/own_corpus.yaml").arm == "own_corpus"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "own_corpus.yaml").write_text("arm: mine")
    assert load_config("configs/own_corpus.yaml").arm == "mine"
