"""Parts of a network found by its operators and who reads whom, never by names."""
