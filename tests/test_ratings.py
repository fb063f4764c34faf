"""Tasks to be rated: drawn by lot without their arm, joined with it again, and what a wrongly filled row is told."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from asl_min.config import Config
from asl_min.corpus import read_jsonl, write_jsonl
from asl_min.episode import Episode, FinishReason, Request, Task, Turn
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from reproduce import ratings
from reproduce.rating_table import ratings_table, share

FILLED = {"rater": "somebody", "answerable": True, "answer_right": True, "hops": 1}


def episode(number: int, round: int, arm: str, **task) -> Episode:
    """A writer that searched once for its task."""
    found = Task(f"What is {number} of {arm} in round {round}?", f"answer {number}", {"topic": "x"}, True)
    found = replace(found, kept=number % 2 == 0, **task)
    turns = (Turn("t", ("q",), f'"Page {number}"\nA page.'), Turn("t"))
    written = Episode(Request("task_from_topic", {"topic": "x"}, 0), (1,), (True,), (0.0,), turns, FinishReason.ANSWER)
    return written.with_reward(1.0, task=found.record())


def make_run(folder: Path, arm: str, seed: int = 0, tasks: int = 6, rounds: int = 2) -> Path:
    """A run whose writer's phases are finished; each round also has a malformed task and a question asked again."""
    run_dir.create(folder, Config(arm=arm, seed=seed, rounds=3, base_model="build/real/some"))
    for number in range(1, rounds + 1):
        written = [episode(i, number, arm) for i in range(tasks)]
        written += [episode(0, number, arm, answer="another"), episode(99, number, arm, well_formed=False)]
        phase = run_dir.begin(folder, number, ratings.WRITER)
        write_jsonl(phase / "episodes.jsonl", [e.record() for e in written])
        run_dir.finish(phase, {})
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [make_run(tmp_path / arm, arm) for arm in ("one", "other")]


@pytest.fixture
def drawn(runs, tmp_path, script) -> Path:
    """A folder with what the script drew."""
    assert script("reproduce.ratings", "draw", "--runs", *runs, "--folder", tmp_path / "drawn") == 0
    return tmp_path / "drawn"


def fill(folder: Path, *changes: dict, **values) -> list[dict]:
    """Fills all rows with `FILLED` and `values`, the first ones with these changes too."""
    rows = [row | FILLED | values for _, row in read_jsonl(folder / "tasks.jsonl")]
    rows = [row | change for row, change in zip(rows, [*changes, *[{}] * len(rows)], strict=False)]
    write_jsonl(folder / "tasks.jsonl", rows)
    return rows


def test_each_question_of_each_finished_round_is_drawn_once_and_no_malformed_one(drawn):
    rows, key = ([row for _, row in read_jsonl(drawn / name)] for name in ("tasks.jsonl", "key.jsonl"))
    assert Counter((row["arm"], row["round"]) for row in key) == dict.fromkeys(
        [(arm, number) for arm in ("one", "other") for number in (1, 2)], 6
    )
    assert len({row["question"] for row in rows}) == 24 and not any("99" in row["question"] for row in rows)
    assert "another" not in {row["answer"] for row in rows}
    assert [row["id"] for row in rows] == [row["id"] for row in key] == [f"task_{i:04}" for i in range(1, 25)]


def test_rater_sees_task_and_pages_alone_in_mixed_order(drawn):
    rows, key = ([row for _, row in read_jsonl(drawn / name)] for name in ("tasks.jsonl", "key.jsonl"))
    wanted = {"id", "question", "answer", "pages", "rater", "answerable", "answer_right", "hops"}
    assert {frozenset(row) for row in rows} == {frozenset(wanted)}
    for row in rows:
        number = row["answer"].removeprefix("answer ")
        assert row["pages"] == [f'"Page {number}"\nA page.'] and row["question"].startswith(f"What is {number} ")
    arms = [row["arm"] for row in key]
    assert {"one", "other"} == set(arms[:12]) == set(arms[12:]) and arms != sorted(arms)


def test_lot_follows_from_the_seed_and_not_from_what_else_is_drawn(runs):
    alone, again, both = ratings.draw(runs[:1], 0, 3), ratings.draw(runs[:1], 0, 3), ratings.draw(runs, 0, 3)
    questions = {origin.question for origin in alone[1]}
    assert alone == again and len(questions) == 6
    assert questions == {origin.question for origin in both[1] if origin.arm == "one"}
    assert questions != {origin.question for origin in ratings.draw(runs[:1], 1, 3)[1]}


def test_nothing_is_drawn_over_what_may_be_rated(drawn, runs, script, capsys):
    before = (drawn / "tasks.jsonl").read_bytes()
    assert script("reproduce.ratings", "draw", "--runs", *runs, "--folder", drawn) == 2
    assert capsys.readouterr().err.endswith("tasks were drawn into it before; take another --folder\n")
    assert (drawn / "tasks.jsonl").read_bytes() == before


def test_same_run_twice_a_folder_without_a_run_and_no_tasks_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match=r"the same run as .*one: some one 0"):
        ratings.draw([runs[0], make_run(tmp_path / "copy", "one")], 0)
    with pytest.raises(InputError, match="holds no run"):
        ratings.draw([tmp_path / "nothing"], 0)
    with pytest.raises(InputError, match="--runs: no tasks in "):
        ratings.draw([make_run(tmp_path / "silent", "silent", tasks=0, rounds=0)], 0)


def test_read_gives_each_rating_its_arm_again(drawn, tmp_path, script, capsys):
    fill(drawn, {"answerable": False, "answer_right": False, "hops": None}, {"answer_right": False, "hops": 2})
    key = {row["id"]: row for _, row in read_jsonl(drawn / "key.jsonl")}
    capsys.readouterr()
    assert script("reproduce.ratings", "read", "--folder", drawn, "--results", tmp_path / "results") == 0
    rows = [row for _, row in read_jsonl(tmp_path / "results" / "real" / "ratings.jsonl")]
    assert len(rows) == 24 and "| one | 1 | 6 |" in capsys.readouterr().out
    for row in rows:
        assert {name: row[name] for name in key[row["id"]]} == key[row["id"]] and "pages" not in row
    by_id = {row["id"]: row for row in rows}
    assert [by_id["task_0001"][k] for k in ("answerable", "answer_right", "hops")] == [False, False, None]
    assert [by_id["task_0002"][k] for k in ("answerable", "answer_right", "hops")] == [True, False, 2]
    assert [row["arm"] for row in rows] == ["one"] * 12 + ["other"] * 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answerable": None}, r"tasks.jsonl:1: key 'answerable' is None: "),
        ({"rater": None}, r"tasks.jsonl:1: key 'rater' is None: "),
        ({"hops": "two"}, r"key 'hops' is 'two': "),
        ({"hops": 0}, r"key 'hops' is 0: "),
        ({"hops": None}, r"tasks.jsonl:1: hops is None, but answerable is True"),
        ({"answerable": False, "answer_right": False}, r"hops is 1, but answerable is False"),
        ({"answerable": False, "hops": None}, r"answer_right is True, but answerable is False"),
        ({"id": "task_0099"}, r"tasks.jsonl:1: no task 'task_0099' was drawn"),
        ({"id": "task_0002"}, r"tasks.jsonl:1: the question of 'task_0002' is "),
        ({"right": True}, r"key 'right' is True: "),
    ],
)
def test_wrongly_filled_row_is_named(change, message, drawn):
    fill(drawn, change)
    with pytest.raises(InputError, match=message):
        ratings.read(drawn)


def test_task_rated_twice_or_not_at_all_is_named(drawn):
    rows = fill(drawn)
    write_jsonl(drawn / "tasks.jsonl", [*rows, rows[3]])
    with pytest.raises(InputError, match=r"tasks.jsonl:25: a second rating of 'task_0004'"):
        ratings.read(drawn)
    write_jsonl(drawn / "tasks.jsonl", rows[2:])
    with pytest.raises(InputError, match=r"lacks 2 of 24 tasks, first 'task_0001'"):
        ratings.read(drawn)


def test_table_has_wilson_intervals_and_hops_of_answerable_tasks():
    def row(right: bool, hops: int | None, kept: bool = False) -> dict:
        found = {"arm": "one", "round": 1, "kept": kept}
        return found | {"answerable": hops is not None, "answer_right": right, "hops": hops}

    rows = [row(True, 1, kept=True), row(True, 3), row(False, None), row(False, 2)]
    cells = [cell.strip() for cell in ratings_table(rows).splitlines()[2].split("|")[1:-1]]
    assert cells[:3] == ["one", "1", "4"] and cells[5].startswith("2.0 ±") and cells[6] == "1"
    assert (cells[3], cells[4], cells[7]) == ("75 (30 to 95)", "50 (15 to 85)", "100 (21 to 100)")
    assert share([]) == "-" and share([True] * 5 + [False] * 5) == "50 (24 to 76)"


def test_rule_says_what_each_field_means_with_two_examples():
    text = (Path(ratings.__file__).parent / "rating_rule.md").read_text()
    parts = text.split("\n## ")[1:]
    assert [part.split("`")[1] for part in parts] == ["answerable", "answer_right", "hops"]
    assert all(part.count("\n- ") == 2 for part in parts)


def test_dry_run_writes_nothing(runs, tmp_path, script, capsys):
    words = ("--runs", *runs, "--folder", tmp_path / "new", "--dry-run", "--json")
    assert script("reproduce.ratings", "draw", *words) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == 24 and not (tmp_path / "new").exists()
