"""Gold, openly: `oracle_judge` in the mode asl_gen_rm, where the judge learns from what was said of the attempts. From
round `oracle_from_round` on that is what the oracle says."""

from asl_min.recipes import asl_gen_rm, oracle_judge


class Recipe(oracle_judge.Recipe):
    is_attempted = asl_gen_rm.Recipe.is_attempted
    label = asl_gen_rm.Recipe.label
