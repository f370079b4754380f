"""One file an experiment; `paper.experiment` finds them here and says what is in one."""
