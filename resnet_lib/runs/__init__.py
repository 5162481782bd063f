"""The recorded runs: what is wanted, what is recorded, and making the rest."""
