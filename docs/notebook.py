# %% [markdown]
# # asl_min from Python
# The cells of a notebook, as a script (Jupyter and editors open it as cells). `python docs/notebook.py` takes about a
# minute on a CPU; the tests run it too. The round is far too short to learn from: it shows what there is to look at.

# %%
import asl_min
from asl_min import roles

# round_rollouts=0: a phase ends after its own steps, not when the budget of a round is spent
SMALL = {"rounds": 1, "round_rollouts": 0, "verify_samples": 1, "attempts": 4, "policy_prompts": 4, "policy_samples": 4}
SHORT = {"pg_max_steps": 1, "grm_prompts": 8, "grm_max_steps": 1, "policy_max_steps": 1}
FEW = {"eval_per_hop": 5, "eval_judgments": 10, "eval_tasks": 10}
run = asl_min.Run.create("runs/notebook", "configs/tiny.yaml", **SMALL, **SHORT, **FEW)

# %% The base, before any training: held-out exact match by hops, and by whether wording and path are new.
before = run.evaluate(0)
print({name: round(value, 2) for name, value in before["accuracy"].items() if name != "interval"})

# %% One round: Prompt Generator, Generative Reward Model, policy, evaluation.
after = run.train_round(1)
print("accuracy", before["accuracy"]["mean"], "->", after["accuracy"]["mean"])

# %% What was measured by round, and the reward of every step, as a matplotlib figure.
figure = run.figure()
figure.savefig("runs/notebook/rounds.png")
figure  # noqa: B018 (a notebook shows it)

# %% The tasks that it wrote and kept: what was asked, the writer's answer, how often the policy was judged right.
for task in run.tasks(1)[:5]:
    print(f"{task.reward:.2f}", task.question, "|", task.answer, "|", task.verdicts)

# %% An episode of the policy's training: turns, tool responses, reward, advantage.
episode = run.episodes(1, "policy")[0]
for turn in episode.turns:
    print(turn.text, *([turn.response] if turn.response else []), sep="\n  ")
print("reward", episode.reward, "advantage", round(episode.advantage, 2))

# %% Ask it.
answer = run.ask("What is the capital of the country where Lyon lies?")
print(roles.answer_of(answer), f"({answer.n_tool_calls} searches)")
