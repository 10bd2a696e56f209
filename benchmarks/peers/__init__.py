"""The servers that Hone is measured beside. Each module is run as a program of its own."""
