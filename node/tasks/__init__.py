"""The tasks that fednode brings along, written against `fednode.Task` and nothing else: copy one to write your own."""
