"""Training: Wald degradation, patches, the trainer."""
