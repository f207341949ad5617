"""From one process to many: archives of images on Ray Data, services on Triton."""
