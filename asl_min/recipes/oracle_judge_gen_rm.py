"""Gold, openly: `oracle_judge` in the mode asl_gen_rm, where the judge learns from its own earlier verdicts. From round
`oracle_from_round` on these are the oracle's."""

from asl_min.recipes import asl_gen_rm
from asl_min.recipes.oracle_judge import OracleJudge


class Recipe(OracleJudge, asl_gen_rm.Recipe):
    pass
