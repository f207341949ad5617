"""The first precision recipe that is within budget."""
