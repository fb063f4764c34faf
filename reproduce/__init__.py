"""The experiments: arms, many runs, claims, tables and figures."""
