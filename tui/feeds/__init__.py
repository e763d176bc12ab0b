"""Where the dashboard's events and answers come from: a node, a store, a replay."""
