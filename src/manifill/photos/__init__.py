"""Photos and masks as people bring them (`photo`, `mask`), and the squares of them that the networks see."""
