"""Methods side by side: the same recipe, data and seed, trained in several ways."""
