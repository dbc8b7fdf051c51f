"""emotion2vec (Ma et al. 2024) from the checkpoints that FunASR publishes, without FunASR."""
