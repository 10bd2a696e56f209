"""Pictures served: the service beside a bare loop and a hand-written server."""
