"""What training reads: samples, augmentation, and the cache of rendered rooms."""
