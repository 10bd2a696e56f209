"""The routes in OpenAI's shape, on which client code of that API runs unchanged."""
