"""Structure codes: several ways to the same ones. `config.SamplingOptions` has the options, `naive` obeys them."""
