"""The server and the artifact beside the usual ways to serve a small classifier, in one run on one machine."""
