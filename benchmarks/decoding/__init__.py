"""Decoding beside other engines: tokens a second for one stream and for many."""
