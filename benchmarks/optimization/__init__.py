"""Study of optimizers, schedules and regularizers, each beside plain Adam."""
