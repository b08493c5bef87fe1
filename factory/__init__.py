"""A factory that turns an LLM into small task models: data, students, verdict, artifact."""

__version__ = "0.1.0"
