"""Several seeds of one recipe side by side: the mean table, the spread, and the README's figure.

    python reproduce/seeds.py runs/asl_seed0 runs/asl_seed1 runs/asl_seed2 --out reproduce/results

Copies each run's summary.json to the folder, so that table and figure can be redrawn from the copies (given instead of runs).
"""

import argparse
import json
from pathlib import Path

from asl_min.corpus import InputError
from asl_min.report import draw_rounds, markdown, table
from asl_min.terminal import clear_errors


def load(path: Path) -> dict:
    file = path / "summary.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such summary")
    return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or summary.json copies")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with clear_errors():
        summaries = [load(path) for path in args.runs]
        args.out.mkdir(parents=True, exist_ok=True)
        for summary in summaries:
            (args.out / f"{summary['recipe']}_seed{summary['seed']}.json").write_text(json.dumps(summary, indent=1) + "\n")
        name, text = summaries[0]["recipe"], markdown(table(summaries))
        (args.out / f"{name}.md").write_text(text + "\n")
        draw_rounds(summaries, args.out / f"{name}.png")
        print(text)


if __name__ == "__main__":
    main()
