"""The HTTP server: a released student behind FastAPI, and a stand-in for the LLM that did its work before."""
