"""How the embedded world's facts and the tiny base model are made."""
