"""Processing algorithms: parameters, checks and calls into ``fusion_core``; nothing is computed here."""
