"""What is predicted of a base before a run: by hand, on a made-up phase diagram, and by the command."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_episode
from made_up import gains, measures_of, runs_of
from test_phases import ROOMY, ScriptedSampler

from asl_min.config import dump_config
from asl_min.episode import FinishReason, Request, Task, Turn
from asl_min.phase import Agent
from asl_min.run.errors import InputError
from asl_min.tools import preflight
from asl_min.tools.predict import PREDICTORS, predicted, predictions, read_diagram
from asl_min.tools.probe import Probe, brought, judged, label_free, matches
from reproduce.phase_diagram import MEASURED, diagram_rows

TASK = Task("Q?", "Paris", {"topic": "France"}, well_formed=True)


def attempt(answer: str | None, *responses: str):
    """An episode that searched as often as there are responses, and ended with this answer or with none."""
    turns = [
        *(Turn("t", ("q",), response) for response in responses),
        Turn(f"<answer>{answer}</answer>" if answer else ""),
    ]
    ended = FinishReason.ANSWER if answer else FinishReason.END
    made = make_episode(0, 4, [3])
    return replace(made, request=Request("policy", {"question": "Q?"}, 0), turns=tuple(turns), finish_reason=ended)


# --- measures


def test_measures_of_two_tasks_by_hand(agent):
    """The first task: three attempts say Paris, Paris and Rome, of which the judge calls Paris correct once; the
    topic's page comes up. The second: nobody answers."""
    attempts = [[attempt("Paris", '"France"\ntext'), attempt("paris"), attempt("Rome")], [attempt(None)] * 3]
    votes, verdicts = [[True, True], [True, False]], [[True, False, False], [False] * 3]
    found = label_free(Probe(4, [TASK, TASK], votes, attempts, verdicts), 0.8, agent.tool)
    assert found["well_formed"] == 0.5 and found["vote_agreement"] == 0.5 and found["gate_share"] == 0.5
    assert found["attempt_agreement"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["judged_any"] == 0.5 and found["judged_majority"] == 0.0
    assert found["own_any"] == found["own_majority"] == 0.5 == found["source_found"]


@pytest.mark.parametrize(
    ("answers", "verdicts", "right"),
    [
        (["a", "A", "b"], [True, True, False], True),
        (["a", "a", "b"], [True, False, True], False),
        ([None], [False], False),
    ],
)
def test_majority_is_judged_by_most_of_its_own_verdicts(answers, verdicts, right):
    assert judged(answers, verdicts) is right


def test_own_answer_is_matched_after_normalisation_and_no_answer_never():
    assert matches(["The Paris!", "Rome", None], TASK) == [True, False, False]


def test_page_of_the_topic_is_found_under_its_title_alone():
    assert brought([attempt("x", '"Lyon"\nit lies in "France"'), attempt("x", '"France"\n…')], TASK)
    assert not brought([attempt("x", '"Lyon"\nit lies in "France"')], TASK)


@pytest.fixture
def agent(changed, monkeypatch):
    monkeypatch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
    return Agent(changed(**ROOMY), {})


def test_measuring_ends_after_the_tasks_or_the_minutes(agent, monkeypatch):
    assert preflight.measure(agent, 12, 10)[0].asked == 12
    assert preflight.measure(agent, 12, 1e-9)[0].asked == preflight.BATCH


# --- the weakest role


def test_skills_are_zero_at_chance_and_one_at_best():
    measures = {"well_formed": 0.9, "vote_agreement": 0.5, "attempt_agreement": 0.6, "source_found": None}
    assert preflight.skills(measures, 5) == {"task writer": 0.9, "judge": 0.0, "policy": pytest.approx(0.5)}
    assert preflight.skills({**measures, "vote_agreement": 0.4}, 5)["judge"] == 0.0
    assert "policy" not in preflight.skills({**measures, "attempt_agreement": 1.0}, 1)


def test_advice_is_for_the_weakest_role_where_it_is_near_chance():
    assert preflight.advice({"judge": 0.1, "policy": 0.5}) == ("judge", preflight.ADVICE["judge"])
    assert preflight.advice({"judge": 0.4, "policy": 0.5}) == ("judge", "no role is near chance")


# --- the prediction


def diagram(arms: dict[str, float]) -> list[dict]:
    """Rows of eight bases as reproduce writes them: vote agreement 50 to 64%, a gain of `slope` points a point above
    50, and half a point of noise. The two other measures vary too, and mean nothing."""
    judges = [0.5 + 0.02 * number for number in range(8)]
    bases = {f"b{n:02}": measures_of(judge, 0.6 + 0.1 * (n % 3)) for n, judge in enumerate(judges, 1)}
    for number, base in enumerate(bases.values()):
        base["label_free"]["attempt_agreement"] = 0.4 + 0.05 * (number * 3 % 7)
    noise = [0.5 * (-1) ** number for number in range(8)]
    runs = runs_of(
        *(gains(arm, [s * 100 * (j - 0.5) + e for j, e in zip(judges, noise, strict=True)]) for arm, s in arms.items())
    )

    class Made:
        def __init__(self):
            self.bases, self.runs = bases, runs

        def arms(self):
            return list(arms)

    return diagram_rows(Made())


MEASURES = {"vote_agreement": 0.6, "gate_share": 0.67, "attempt_agreement": 0.55}


def test_predictors_are_measures_of_the_diagram():
    assert {name: f"label_free.{key}" for name, key in PREDICTORS.items()}.items() <= MEASURED.items()


def test_gain_is_predicted_from_the_bases_with_its_interval_and_its_error():
    rising, flat = predictions(diagram({"rises": 1.0, "flat": 0.0}), MEASURES)
    assert (rising.arm, rising.bases, rising.outside) == ("rises", 8, [])
    assert rising.gain == pytest.approx(10, abs=1) and rising.low < 10 < rising.high
    assert rising.rank_correlation > 0.9 and rising.error < 1 < rising.error_of_mean
    assert flat.gain == pytest.approx(0, abs=1) and flat.low < 0 < flat.high
    assert flat.error >= flat.error_of_mean and flat.rank_correlation < 0.5


def test_interval_of_a_new_base_by_hand():
    """y = 1, 3, 4, 8 over x = 0 .. 3: the fit is 2.2 x + 0.7 with variance s² around it, on two degrees of freedom; at
    the mean of x the interval is 4 ± t s sqrt(1 + 1/4)."""
    from asl_min.metrics.regression import regress

    x, y = np.arange(4.0).reshape(-1, 1), np.array([1.0, 3, 4, 8])
    residuals = y - (0.7 + 2.2 * x[:, 0])
    half = 4.302653 * np.sqrt(np.sum(residuals**2) / 2 * 1.25)
    assert regress(x, y).prediction(1.5) == pytest.approx((4.0, 4.0 - half, 4.0 + half))


def test_measures_beyond_every_base_are_named():
    (found,) = predictions(diagram({"a": 1.0}), MEASURES | {"vote_agreement": 0.9, "gate_share": 0.1})
    assert found.outside == ["vote agreement", "gate share"]


def test_too_few_bases_or_measures_predict_nothing():
    rows = diagram({"a": 1.0})
    assert predictions(rows[:5], MEASURES) == [] == predictions([], MEASURES)
    assert predictions(rows, MEASURES | {"gate_share": None}) == []
    assert predicted("a", np.ones((8, 3)), np.arange(8.0), np.ones(3)) is None


@pytest.mark.parametrize("text", ["{", "{}", '[{"base": "b01"}]'])
def test_what_is_no_phase_diagram_is_refused(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(InputError, match=r"d\.json"):
        read_diagram(tmp_path / "d.json")


# --- the command


@pytest.fixture
def told(changed, tmp_path, monkeypatch, script, capsys):
    """What the command says on the scripted model, to these arguments."""
    monkeypatch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(changed(**ROOMY)))

    def tell(*words: object) -> str:
        assert script("asl_min.tools.preflight", "--config", file, "--tasks", 16, *words) == 0
        return capsys.readouterr().out

    return tell


def test_without_a_diagram_measures_are_told_and_no_prediction(told, tmp_path):
    said = told("--diagram", tmp_path / "none.json")
    assert "weakest role: " in said and "vote_agreement    1.00" in said
    assert "no prediction is possible" in said and "none.json is missing" in said


def test_predictions_are_printed_with_their_errors(told, tmp_path):
    (tmp_path / "d.json").write_text(json.dumps(diagram({"rises": 1.0, "flat": 0.0})))
    said = told("--diagram", tmp_path / "d.json")
    (rises,) = re.findall(r"^  rises .*$", said, re.MULTILINE)
    assert rises.split()[5] == "8" and float(rises.split()[6]) > 0.9
    assert "beyond every base that was measured" in said
    assert "no better than that mean, so that the prediction tells nothing of this model: flat\n" in said
    found = json.loads(told("--diagram", tmp_path / "d.json", "--json"))
    assert [row["arm"] for row in found["predictions"]] == ["rises", "flat"] and found["no_prediction"] is None


def test_dry_run_measures_nothing(told, monkeypatch):
    monkeypatch.setattr(preflight, "measure", lambda *_: pytest.fail("measured"))
    assert "would let" in told("--dry-run")


def test_bad_options_are_refused(script, capsys):
    assert script("asl_min.tools.preflight", "--config", "configs/tiny.yaml", "--minutes", "0") == 2
    assert capsys.readouterr().err == "error: argument --minutes: 0, must be above 0 (see --help)\n"


def test_corpus_without_titles_is_one_line(agent, monkeypatch):
    monkeypatch.setattr("asl_min.tools.probe.topics", lambda passages: [])
    with pytest.raises(InputError, match="no passage has a title"):
        preflight.measure(agent, 8, 1)


def test_damaged_diagram_is_found_before_anything_is_measured(changed, tmp_path, monkeypatch, script, capsys):
    monkeypatch.setattr(preflight, "measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "config.yaml").write_text(dump_config(changed(**ROOMY)))
    (tmp_path / "d.json").write_text("[{}]")
    words = ("--config", tmp_path / "config.yaml", "--diagram", tmp_path / "d.json")
    assert script("asl_min.tools.preflight", *words) == 2
    assert "d.json: expected a list of rows with" in capsys.readouterr().err


def test_adapter_that_is_none_is_refused_by_a_dry_run_too(script, tmp_path, capsys):
    for module in ("asl_min.tools.preflight", "asl_min.evaluate"):
        assert script(module, "--config", "configs/tiny.yaml", "--adapter", tmp_path, "--dry-run") == 2
        assert f"argument --adapter: {tmp_path}: holds no peft adapter" in capsys.readouterr().err
