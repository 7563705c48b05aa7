"""How long a battery lives, from its first hundred cycles (DiffBatt, Eivazi et al. 2410.23893)."""
