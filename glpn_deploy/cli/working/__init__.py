"""The work of commands, imported when it is asked for: what they load is heavy, and --help does without."""
