"""The recipe of the paper: loss, augmentations, schedule and the trainer."""
