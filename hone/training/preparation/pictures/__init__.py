"""`hone prepare` for pictures: a folder with a sub-folder a class, a table of paths, or a zip."""
