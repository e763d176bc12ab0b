"""The local API over HTTP: paths, bodies, answers, and the views that people are shown."""
