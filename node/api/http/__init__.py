"""The local API's paths, bodies and answers, a file for each of its subjects."""
