"""The paper, one file a section: layers, VQ-VAE (3.1), structure (3.2), texture (3.3), discriminator; checkpoints."""
