"""The HTML report: one file that loads nothing, in which model output stays text; what its browser shows and how its
filters work."""

import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from asl_min.config import dump_config
from asl_min.corpus import write_jsonl
from asl_min.episode import Episode, FinishReason, Request, Turn
from asl_min.model import ROLES
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.tools.diagram_panels import diagram_panels
from asl_min.tools.figures import Line, Panel, beside_panels, draw, side_by_side, svg
from asl_min.tools.html import episodes as html_episodes
from asl_min.tools.html import page as html_page
from asl_min.tools.html.episodes import held_out_row
from asl_min.tools.report import evaluated, load_claims, write_report
from asl_min.tools.summary import BUDGET
from asl_min.tools.table import ACCURACY, LONG_NAMES
from asl_min.world.oracle import Oracle

HOSTILE = "</script><script>window.hit=1</script><!--<script><img src=x onerror=window.hit=1>\u2028&lt;"
QUESTION, PARENT = "What is the capital of the country where Lyon lies?", "Which country is Lyon in?"
CLAIM = {
    "id": "C1",
    "claim": HOSTILE,
    "metric": HOSTILE,
    "effect": 1.5,
    "ci_low": 1,
    "ci_high": 2,
    "n_bases": 12,
    "n_seeds": 3,
    "verdict": "holds",
}
RESULTS = {"accuracy": None, "accuracy_greedy": None, "grm": None, "pg": None, "phase": None}
ALL_RESULTS = {
    "accuracy": dict.fromkeys(("hop1", "hop2", "hop3", "mean"), 0.75) | {"interval": [0.7, 0.8]},
    "accuracy_greedy": {"mean": 0.75},
    "grm": {"balanced_accuracy": 0.75},
    "pg": {"answerable": 0.75},
    "phase": {"drafts": {"answerable": 0.75}, "kept": {"right": 0.75}, "judge_reward": 0.75, "true_accuracy": 0.75},
}


def episode(chat, kind: str, fields: dict, final: str, reward: float, **meta) -> Episode:
    """Thinks and searches, is shown a hostile passage, then writes `final`."""
    turns = (Turn("<think>s</think><tool_call>x</tool_call>", ("x",), HOSTILE), Turn(final))
    texts = [
        (False, HOSTILE),
        (True, turns[0].text),
        (False, f"<tool_response>{HOSTILE}</tool_response>"),
        (True, final),
    ]
    tokens = [(i, sampled) for sampled, text in texts for i in chat.plain(text)]
    ids, mask = zip(*tokens, strict=True)
    return Episode(
        Request(kind, fields, 1), ids, mask, (0.0,) * len(ids), turns, FinishReason.ANSWER, reward, 0.5, meta
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, config, chat) -> Path:
    """One finished round of hand-made episodes: a task, a malformed one, a judgment that cannot be read, an answer
    judged wrongly."""
    folder = tmp_path_factory.mktemp("runs") / "hostile"
    run_dir.create(folder, config)
    task = {
        "question": QUESTION,
        "answer": "Paris",
        "well_formed": True,
        "parent": {"direction": "harder", "way": "width", "question": PARENT},
    }
    draft = task | {
        "votes": [True, True],
        "verified": True,
        "answers": ["Paris", HOSTILE],
        "verdicts": [True, False],
        "reward": math.log(2),
    }
    none = {
        "question": None,
        "answer": None,
        "well_formed": False,
        "votes": [],
        "verdicts": [],
        "answers": [],
        "reward": 0.0,
    }
    written = f"<think>t</think><question>{QUESTION}</question><answer>Paris</answer>"
    found = {
        "prompt_generator": [
            episode(chat, "task_from_question", task["parent"], written, math.log(2) + 0.5, task=draft),
            episode(chat, "task_from_question", task["parent"], HOSTILE + "<answer>A</answer>", 0.375, task=none),
        ],
        "reward_model": [
            episode(
                chat, "judge", {"question": QUESTION, "answer": HOSTILE}, "<answer>maybe</answer>", 0.375, label=False
            )
        ],
        "policy": [
            episode(chat, "policy", {"question": QUESTION}, f"{'long ' * 3000}<answer>Rome</answer>", 7.0, verdict=True)
        ],
    }
    for number in (0, 1):
        run_dir.finish(run_dir.begin(folder, number, "evaluation"), {"seconds": 1})
        (run_dir.phase_dir(folder, number, "evaluation") / "results.json").write_text(json.dumps(RESULTS))
    held_out = {
        "id": "1",
        "question": HOSTILE,
        "hops": 1,
        "golden_answers": ["A"],
        "answer": None,
        "right": False,
        "finish_reason": "end",
        "turns": [HOSTILE],
    }
    write_jsonl(run_dir.phase_dir(folder, 1, "evaluation") / "policy.jsonl", [held_out])
    for role in ROLES:
        path = run_dir.begin(folder, 1, role)
        write_jsonl(path / "episodes.jsonl", [e.record() for e in found[role]])
        write_jsonl(path / "metrics.jsonl", [{"step": 0, "reward": 0.4}, {"step": 1, "reward": 0.6}])
        write_jsonl(path / {"prompt_generator": "drafts.jsonl"}.get(role, "none.jsonl"), [draft, none])
        write_jsonl(path / "tasks.jsonl", [draft])
        run_dir.finish(path, dict.fromkeys(BUDGET, 2))
    return folder


@pytest.fixture(scope="module")
def measured_run(run, tmp_path_factory) -> Path:
    """The same, with an evaluation that has measured everything."""
    copy = shutil.copytree(run, tmp_path_factory.mktemp("runs") / "measured")
    for number in (0, 1):
        (run_dir.phase_dir(copy, number, "evaluation") / "results.json").write_text(json.dumps(ALL_RESULTS))
    return copy


@pytest.fixture(scope="module")
def page(run) -> Path:
    claims = run / "claims.json"
    claims.write_text(json.dumps([CLAIM]))
    return write_report(run, claims)


class Reader(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.scripts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def episodes(page) -> list[dict]:
    return json.loads(Reader(page.read_text()).scripts[0])["episodes"]


def test_model_output_forges_no_tag(page):
    found = Reader(page.read_text())
    assert [a.get("id") for t, a in found.tags if t == "script"] == ["data", None] and not [
        t for t, _ in found.tags if t == "img"
    ]


def test_claims_say_over_how_many_bases_and_seeds(page):
    assert re.search(r"<td>1.5</td>\s*<td>1 to 2</td>\s*<td>12</td>\s*<td>3</td>", page.read_text())


def test_page_loads_nothing(page):
    for tag, attributes in Reader(page.read_text()).tags:
        assert "src" not in attributes and attributes.get("href", "#").startswith("#") and tag != "link", (
            tag,
            attributes,
        )
    assert "default-src 'none'" in page.read_text()


def test_passages_of_the_evaluation_are_shown_and_their_lack_is_told():
    """A run of today keeps what a turn's search brought; one of before did not."""
    call = '<tool_call>{"name": "retrieve", "arguments": {"query": "x"}}</tool_call>'
    answered = {"question": "Q?", "answer": "A", "right": True, "finish_reason": "answer", "golden_answers": ["A"]}
    row = answered | {"turns": [call, "<answer>A</answer>"], "responses": ['"France"\ntext', None]}
    parts = [[1, call], [0, '<tool_response>\n"France"\ntext\n</tool_response>'], [1, "<answer>A</answer>"]]
    assert held_out_row(row)["parts"] == parts
    del row["responses"]
    assert held_out_row(row)["parts"][1] == [0, "(the passages were not kept)"]


def test_another_run_stands_beside_with_its_figures_its_table_and_what_differs(measured_run, changed, tmp_path):
    run, other = (shutil.copytree(measured_run, tmp_path / name) for name in ("run", "other"))
    (other / "config.yaml").write_text(dump_config(changed(learning_rate=0.25)))
    (other / "summary.json").unlink(missing_ok=True)
    text = write_report(run, beside=other).read_text()
    assert text.count('<table class="wide"') == 2 and f"Beside {other}</h2>" in text
    assert "<code>learning_rate</code> 0.25 (here 0.001)" in " ".join(text.split())
    assert text.count("<svg") == 5 + 5  # of rounds and steps, and of five measures of both
    assert not (other / "summary.json").exists()  # it may be another user's, or at work


def test_run_beside_that_is_none_is_refused(run, tmp_path, script, capsys):
    assert script("asl_min.tools.report", run, "--beside", tmp_path / "nowhere") == 2
    assert "nowhere: holds no run" in capsys.readouterr().err


def test_panels_beside_have_a_line_for_each_run(measured_run):
    panels = beside_panels({"a": evaluated(measured_run), "b": evaluated(measured_run)})
    assert len(panels) == 5 and all([line.label for line in panel.lines] == ["a", "b"] for panel in panels)


def test_every_role_is_shown(episodes):
    assert [(e["round"], e["role"]) for e in episodes] == [
        (1, "prompt_generator"),
        (1, "prompt_generator"),
        *((1, r) for r in (*ROLES[1:], "evaluation")),
    ]


def test_judge_truth_and_flags(episodes):
    flags = [[e[key] for key in ("judge", "truth", "disagree", "harder", "malformed")] for e in episodes]
    assert flags == [
        [True, True, False, True, False],
        [None, None, False, False, True],
        [None, False, False, True, True],
        [True, False, True, True, False],
        [None, False, False, False, True],
    ]


def test_terms_are_those_of_the_reward(episodes):
    assert [[*map(tuple, e["terms"])] for e in episodes[:4]] == [
        [("task", math.log(2)), ("format", 0.5)],
        [("task", 0.0), ("format", 0.375)],
        [("label match", 0.0), ("format", 0.375)],
        [("the recipe's", 7.0)],
    ]


def test_attempts_are_shown_with_verdict_and_truth(episodes):
    assert episodes[0]["attempts"] == [["Paris", True, True], [HOSTILE, False, False]]


def test_parts_follow_the_mask(episodes):
    assert [sampled for sampled, _ in episodes[0]["parts"]] == [0, 1, 0, 1]
    assert (
        episodes[0]["parts"][1][1] == "<think>s</think><tool_call>x</tool_call>"
        and HOSTILE in episodes[0]["parts"][2][1]
    )


def test_long_text_is_cut_and_says_so(episodes):
    assert (
        episodes[3]["parts"][3][1].endswith("more characters)")
        and len(episodes[3]["parts"][3][1]) < html_episodes.MAX_CHARS + 50
    )


def test_episodes_are_sampled_to_the_cap(run, tmp_path, monkeypatch):
    monkeypatch.setattr(html_page, "MAX_EPISODE_BYTES", 10)
    text = write_report(shutil.copytree(run, tmp_path / "run")).read_text()
    assert "random sample of 4 of 5 episodes" in " ".join(text.split())


def test_columns_that_were_not_measured_have_no_group():
    counts = ["tasks", "episodes", "seconds"]
    assert html_page.column_groups(["round", "1 hop", "mean", "GRM", *counts]) == [
        ("", 1),
        ("held-out accuracy, %", 2),
        ("judge, tasks and policy, %", 1),
        ("training", 3),
    ]
    assert html_page.column_groups(["round", *counts]) == [("", 1), ("training", 3)]


def test_sample_keeps_order_and_budget():
    rows = [{"n": n} for n in range(100)]
    kept = [row["n"] for row in html_episodes.sample(rows, 200)]
    assert kept == sorted(kept) and 10 <= len(kept) <= 25 and html_episodes.sample(rows, 10_000) == rows


def test_harder_without_an_oracle_is_what_was_asked_for():
    assert html_episodes.is_harder("q", {"direction": "harder"}, None)
    assert not html_episodes.is_harder("q", {"topic": "t"}, None)
    assert not html_episodes.is_harder(PARENT, {"direction": "harder", "question": QUESTION}, Oracle.of("target"))


def test_command_tells_the_page_as_json(run, tmp_path, script, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    assert script("asl_min.tools.report", copy, "--json") == 0
    assert Path(json.loads(capsys.readouterr().out)["report"]).is_file()


def test_run_that_is_not_evaluated_has_no_report(config, tmp_path):
    run_dir.create(tmp_path / "run", config)
    with pytest.raises(InputError, match="no round is evaluated"):
        write_report(tmp_path / "run")


def test_report_says_that_the_evaluation_of_the_base_is_missing(config, tmp_path):
    run_dir.create(tmp_path, config)
    run_dir.finish(run_dir.begin(tmp_path, 1, "evaluation"), {"seconds": 1})
    with pytest.raises(
        InputError, match=r"round 0, the base, is missing.* python -m asl_min\.evaluate --run .* --round 0"
    ):
        write_report(tmp_path)


# --- figures

STEPS = Panel("Reward by step", "step", "reward", [Line("round 1", range(5), [0.06, 0.13, 0.19, 0.1, 0.02])])
SHARES = Panel("Shares", "round", "%", [Line(name, [0, 1], [10.0, 55.25], [5, 50], [15, 60]) for name in "ab"], 100)


def ticks(axis) -> list[float]:
    return [float(label.get_text().replace("\u2212", "-")) for label in axis.get_ticklabels()]


def test_ticks_are_round_numbers():
    high = Panel("Reward by step", "step", "reward", [Line("round 1", range(5), [0.55, 0.85, 0.6, 0.7, 0.8])])
    shares = [0, 0.2, 0.4, 0.6, 0.8, 1]
    for panel, found in ((STEPS, [0, 0.05, 0.1, 0.15, 0.2]), (high, shares), (SHARES, [100 * y for y in shares])):
        axis = draw(Figure(layout="constrained"), panel)
        assert ticks(axis.yaxis) == found and axis.get_ylim() == (0, found[-1])
        assert all(tick.is_integer() for tick in ticks(axis.xaxis))


def test_legends_stand_below_the_axes_and_within_the_figure():
    names = [name for column, name in LONG_NAMES.items() if column not in ACCURACY]
    figure = side_by_side([replace(SHARES, lines=[Line(name, [0, 1], [10, 20]) for name in names])] * 2)
    figure.draw_without_rendering()
    for part in figure.subfigs:
        legend = part.legends[0].get_window_extent()
        assert part.bbox.x0 <= legend.x0 and legend.x1 <= part.bbox.x1 and part.bbox.y0 <= legend.y0
        assert legend.y1 <= part.axes[0].get_tightbbox().y0


def test_figure_says_in_words_what_it_shows():
    tag, attributes = Reader(svg(SHARES, "x")).tags[0]
    assert tag == "svg" and attributes["role"] == "img"
    assert attributes["aria-label"] == "Shares. Last values: a 55.25, b 55.25"


ROWS = [
    {"base": base, "arm": arm, "judge": judge, "writer": 40.0, "gain": gain}
    for base, arm, judge, gain in [("b01", "a", 58.0, -2.0), ("b04", "a", 60.0, 5.0), ("b04", "other", 60.0, 9.0)]
]


def summary_on(base_model: str, *means: float) -> dict:
    rounds = [{"accuracy": {"mean": mean}} for mean in means]
    return {"arm": "a", "config": {"base_model": base_model}, "rounds": rounds}


def test_run_is_marked_among_the_bases_of_its_arm():
    judge, writer = diagram_panels(summary_on("world/bases/b04", 0.3, 0.2, 0.375), ROWS)
    bases, own = judge.lines
    assert (bases.x, bases.y) == ([58, 60], [-2, 5]) and (own.x, own.y) == ([60], [pytest.approx(7.5)])
    assert writer.lines[1].x == [40]
    assert judge.description.endswith("Values: bases in a -2 to 5, this run, base b04 7.5")
    assert draw(Figure(layout="constrained"), judge).lines[0].get_linestyle() == "None"


@pytest.mark.parametrize(
    ("base", "rounds", "rows"),
    [
        ("mine/b04", (0.3, 0.4), ROWS),
        ("bases/b09", (0.3, 0.4), ROWS),
        ("bases/b04", (0.3,), ROWS),
        ("bases/b04", (0.3, 0.4), ROWS[2:]),
        ("bases/b04", (0.3, 0.4), [{**ROWS[1], "judge": None}]),
    ],
)
def test_no_diagram_without_the_arm_the_base_or_a_gain(base, rounds, rows):
    assert diagram_panels(summary_on(base, *rounds), rows) == []


def test_figure_is_the_same_when_drawn_again_and_takes_the_colours_of_the_page():
    text = svg(STEPS, "x")
    assert text == svg(STEPS, "x") and "var(--c0)" in text and not re.search(r":\s*#[0-9a-f]{6}", text)


def test_ids_of_the_page_do_not_clash(page):
    found = Reader(page.read_text())
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    used = [a[name][1:] for _, a in found.tags for name in ("href", "xlink:href") if a.get(name, "").startswith("#")]
    used += re.findall(r"url\(#([^)]*)\)", page.read_text())
    assert len(ids) == len(set(ids)) and set(used) <= set(ids) and len(used) > 20


def test_every_figure_has_a_heading_and_its_words(page):
    tags = Reader(page.read_text()).tags
    figures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(figures) == 3 and all(
        a["role"] == "img" and "Last values: round 1 0.6" in a["aria-label"] for a in figures
    )
    assert [tag for tag, _ in tags].count("figure") == 3
    assert {path.name for path in page.parent.iterdir()} == {"report.html", "REPORT.md", "steps.png"}


def test_report_is_the_same_when_written_again(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "run")
    assert write_report(again).read_bytes() == write_report(again).read_bytes()


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\ud800"])
def test_bad_claims_file_is_refused(tmp_path, text):
    (tmp_path / "claims.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match=r"claims\.json"):
        load_claims(tmp_path / "claims.json")


def test_record_is_read_back(chat):
    whole = episode(chat, "policy", {"question": "q"}, "<answer>a</answer>", 1.0, verdict=True)
    assert Episode.of_record(json.loads(json.dumps(whole.record()))).record() == whole.record()


# --- in a browser, where playwright and a Chromium are installed


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    binary = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
    if binary is None:
        pytest.skip("no Chromium on the path")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, page):
    """The report in a narrow window; its errors and the addresses that it asked for are kept in `errors` and
    `asked`."""
    tab = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab.errors, tab.asked = [], []
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.on("console", lambda message: tab.errors.append(message.text))
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    tab.close()


def test_browser_runs_the_page_and_nothing_of_the_models(opened):
    assert opened.errors == [] and len(opened.asked) == 1 and opened.evaluate("window.hit") is None
    assert opened.locator("#list li").count() == 5 and opened.locator(".figures svg[role=img]").count() == 3
    assert opened.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("control", "fit"), [("disagree", 1), ("harder", 3), ("malformed", 3)])
def test_browser_filters(opened, control, fit):
    opened.check(f"#{control}")
    assert opened.inner_text("#count") == f"{fit} of 5" and opened.locator("#list li").count() == fit


def test_browser_filters_combine_and_may_fit_nothing(opened):
    opened.select_option("#role", "policy")
    opened.select_option("#outcome", "truth false")
    assert opened.inner_text("#count") == "1 of 5"
    opened.fill("#search", "nowhere")
    assert opened.inner_text("#count") == "0 of 5" and opened.inner_text("#detail") == "No episode fits."
    assert opened.inner_text("#found") == "No episode fits these filters."


def test_browser_is_worked_by_keyboard(opened):
    opened.focus("#list button")
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowDown")
    assert "GRM" in opened.inner_text("#list [aria-current=true]") and "Answer to be judged" in opened.inner_text(
        "#detail"
    )
    assert HOSTILE.split("\u2028")[0] in opened.inner_text("#detail")


def test_browser_list_is_one_stop_of_the_tab_key(opened):
    opened.focus("#list button")
    opened.keyboard.press("ArrowDown")
    opened.focus("#search")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.ariaCurrent") == "true"
    opened.keyboard.press("Tab")
    assert not opened.evaluate("document.querySelector('#list').contains(document.activeElement)")


def test_browser_shows_and_prints_every_column_of_the_rounds(opened, measured_run):
    opened.goto(write_report(measured_run).as_uri())
    for width, media in ((1280, "screen"), (718, "print")):  # 718: A4 with Chromium's margins
        opened.set_viewport_size({"width": width, "height": 900})
        opened.emulate_media(media=media)
        assert opened.locator(".wide thead tr:last-child th").count() == 15
        assert opened.evaluate("document.querySelector('.wide').getBoundingClientRect().right") <= width


def test_browser_greys_what_was_given(opened):
    shown = opened.locator("#detail .part").evaluate_all(
        "parts => parts.map(p => [p.className, getComputedStyle(p).color])"
    )
    assert [kind for kind, _ in shown] == [
        "part given",
        "part think",
        "part tool_call",
        "part given",
        "part think",
        "part question",
        "part answer",
    ]
    assert (
        len(
            {colour for kind, colour in shown if "given" in kind}
            & {colour for kind, colour in shown if "given" not in kind}
        )
        == 0
    )


def test_browser_changes_theme(opened):
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = opened.evaluate(colour)
    opened.click("#theme")
    assert opened.evaluate(colour) != dark
