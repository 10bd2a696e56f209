"""A prompt arm: a large model over HTTP that is asked by a prompt for one of some labels."""
